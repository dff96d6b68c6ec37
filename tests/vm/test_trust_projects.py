"""Normal development costs nothing: real projects, fetched through this machine's package managers, are built, tested
and changed in real guests, and their scores stay 100.

Takes ten minutes and templates that have to be there, so it runs with CAGED_LONG=1 only. What it once recorded is
replayed in every run of tests/unit/test_trust.c (tests/vectors/trust). CAGED_RECORD_TO=DIR writes those files anew."""

import io
import json
import os
import pathlib
import subprocess
import tarfile

import product
import pytest

pytestmark = pytest.mark.skipif(os.environ.get("CAGED_LONG") != "1", reason="ten minutes: CAGED_LONG=1")

BEGIN = """git init -q . && git config --global user.email dev@example.com && git config --global user.name dev
git add -A && git commit -qm begin && git checkout -q -b work"""
END = """git status --short | head; git stash -q -u 2>/dev/null; git stash pop -q 2>/dev/null
git add -A && git commit -qm work; git log --oneline | cat; git checkout -q -; git merge -q work; git gc -q; git diff HEAD~1 --stat | tail -1"""


def host(*command, cwd=None, **env):
    return subprocess.run(command, cwd=cwd, env={**os.environ, **env}, check=True, capture_output=True, text=True).stdout


def npm(name, tmp):
    folder = tmp / "package"
    archive = host("npm", "pack", "--silent", name, cwd=tmp).split()[-1]
    host("tar", "xf", archive, cwd=tmp)
    package = json.loads((folder / "package.json").read_text())
    wanted = ["tape@5"] + [f"{k}@{v}" for k, v in package.get("dependencies", {}).items()]
    package = {"name": package["name"], "version": package["version"], "main": package.get("main", "index.js"), "scripts": {"test": "tape 'test/**/*.js'"}}
    (folder / "package.json").write_text(json.dumps(package, indent=2))
    host("npm", "install", "--silent", "--no-audit", "--no-fund", "--cache", str(folder / ".npm-cache"), "--save-dev", *wanted, cwd=folder)
    host("rm", "-rf", "node_modules", cwd=folder)
    (folder / ".gitignore").write_text("node_modules\n.npm-cache\n")
    return folder, ["npm ci --offline --no-audit --no-fund --cache .npm-cache", "npm test 2>&1 | tail -3", "npm rebuild",
                    "rm -rf node_modules && npm install --offline --no-audit --no-fund --cache .npm-cache"]


def go(module, tmp):
    told = json.loads(host("go", "mod", "download", "-json", module, GOMODCACHE=str(tmp / "mod"), GOFLAGS="-modcacherw"))
    folder = tmp / "package"
    host("cp", "-r", told["Dir"], str(folder))
    if not (folder / "go.mod").exists():
        (folder / "go.mod").write_text(f"module {told['Path']}\n\ngo 1.22\n")
    return folder, ["go build ./...", "go vet ./... || true", "go test ./... 2>&1 | tail -3", "gofmt -l . | head -3", "go clean -testcache"]


def python(name, tmp):
    host("/usr/bin/python3", "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", "own", name, cwd=tmp)
    host("/usr/bin/python3", "-m", "pip", "download", "-q", "--only-binary", ":all:", "-d", "package/wheels", "pytest", "setuptools", "wheel", cwd=tmp)
    folder = tmp / "package"
    host("unzip", "-q", str(next((tmp / "own").glob("*.whl"))), "-d", str(folder / "src"))
    (folder / "tests").mkdir()
    (folder / "tests/test_import.py").write_text(
        f"import {name}\nimport pkgutil\nimport importlib\n\n\ndef test_all_of_it_can_be_imported():\n"
        f"    for m in pkgutil.iter_modules({name}.__path__):\n        importlib.import_module('{name}.' + m.name)\n")
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n[project]\nname = "{name}"\nversion = "1"\n')
    (folder / ".gitignore").write_text("wheels\n.venv\n__pycache__\nbuild\n*.egg-info\n")
    return folder, ["python3 -m venv .venv && .venv/bin/pip install -q --no-index --find-links wheels pytest setuptools wheel",
                    ".venv/bin/pip install -q --no-build-isolation --no-index .", ".venv/bin/python -m pytest -q 2>&1 | tail -2",
                    "rm -rf build .venv/lib/python3*/site-packages/*.tmp && .venv/bin/python -m compileall -q src"]


PROJECTS = [("minimist", npm, "node-22", "minimist"), ("qs", npm, "node-22", "qs"),
            ("uuid", go, "go-122", "github.com/google/uuid@v1.6.0"), ("errors", go, "go-122", "github.com/pkg/errors@v0.9.1"),
            ("toolz", python, "python-313", "toolz"), ("itsdangerous", python, "python-313", "itsdangerous")]


@pytest.fixture(scope="module")
def server():
    with product.Server() as s:
        yield s


def upload(sandbox, folder):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(folder, ".")
    done = sandbox.server.call("PUT", f"{sandbox.path}/files/archive?path=/workspace", content=data.getvalue())
    assert done.status_code // 100 == 2, done.text


@pytest.mark.parametrize(("name", "fetch", "template", "what"), PROJECTS, ids=[p[0] for p in PROJECTS])
def test_real_projects_cost_nothing(server, tmp_path, name, fetch, template, what):
    folder, steps = fetch(what, tmp_path)
    s = server.create(template=template, memory_mb=1024, disk_gb=2)
    upload(s, folder)
    failed = []
    for step in [BEGIN, *steps, "echo '# more' >> README.md && ls -la && grep -rn import . | head -3", END]:
        done = s.exec(step, timeout_ms=600000)
        if done["exit_code"] != 0:
            failed.append((step, done["output"][-400:]))
    s.destroy()
    told = server.api("GET", s.path + "/trust")
    keep = os.environ.get("CAGED_RECORD_TO")
    if keep:
        kept = [line for line in s.record() if line["type"] in ("command", "process", "file_op", "network", "dns", "gap") and line["data"].get("event") != "exit"]
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in kept)
        subprocess.run(["zstd", "-q", "-19", "-f", "-o", str(pathlib.Path(keep) / f"{name}.jsonl.zst")], input=text.encode(), check=True)
    assert failed == []
    assert (told["score"], [d for d in told["deductions"] if d["points"]]) == (100, [])
