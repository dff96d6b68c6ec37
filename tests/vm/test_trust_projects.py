"""Normal development costs nothing: real projects are fetched through this machine's package managers, and built, tested
and changed in real guests by the tools of their own trade, and their scores stay 100.

Takes half an hour and templates that have to be there, so it runs with CAGED_LONG=1 only. What it once recorded is
replayed in every run of tests/unit/test_trust.c (tests/vectors/trust). CAGED_RECORD_TO=DIR writes those files anew."""

import io
import ipaddress
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import tarfile
import urllib.request
from urllib.parse import urlsplit

import product
import pytest

pytestmark = pytest.mark.skipif(os.environ.get("CAGED_LONG") != "1", reason="half an hour: CAGED_LONG=1")

ROOT = pathlib.Path(__file__).parents[2]
BEGIN = """git init -q . && git config --global user.email dev@example.com && git config --global user.name dev
git add -A && git commit -qm begin && git checkout -q -b work"""
END = """echo '# more' >> README.md && ls -la && grep -rn import . | head -3; git status --short | head; git stash -q -u; git stash pop -q
git add -A && git commit -qm work; git log --oneline | cat; git checkout -q -; git merge -q work; git gc -q; git diff HEAD~1 --stat | tail -1"""
KEPT = ("command", "process", "file_op", "network", "dns", "gap")


def host(*command, cwd=None, **env):
    return subprocess.run(command, cwd=cwd, env={**os.environ, **env}, check=True, capture_output=True, text=True).stdout


def from_debian(package, tmp):
    """The unpacked upstream source of a package, by apt from where this machine has its packages from."""
    for name in ("parts", "lists/partial", "got"):
        (tmp / name).mkdir(parents=True)
    for path in pathlib.Path("/etc/apt").glob("sources.list.d/*.sources"):
        (tmp / "parts" / path.name).write_text(re.sub("(?m)^Types:.*", "Types: deb-src", path.read_text()))
    for path in [*pathlib.Path("/etc/apt").glob("sources.list"), *pathlib.Path("/etc/apt").glob("sources.list.d/*.list")]:
        (tmp / "parts" / path.name).write_text(re.sub("(?m)^deb ", "deb-src ", path.read_text()))
    set_ = [f"-oDir::Etc::sourcelist={tmp}/none", f"-oDir::Etc::sourceparts={tmp}/parts", f"-oDir::State::lists={tmp}/lists",
            "-oDir::Cache::pkgcache=", "-oDir::Cache::srcpkgcache="]
    host("apt-get", *set_, "-qq", "update")
    release = re.search("(?m)^VERSION_CODENAME=(.*)$", pathlib.Path("/etc/os-release").read_text())[1]
    host("apt-get", *set_, "-qq", "source", "--download-only", f"{package}/{release}", cwd=tmp / "got")
    folder = tmp / "package"
    folder.mkdir()
    host("tar", "xf", str(next((tmp / "got").glob("*.orig.tar.*"))), "--strip-components=1", cwd=folder)
    return folder


# Each returns the folder that is put into the guest (None: the guest fetches all itself), steps before the first
# commit, and the steps of the work.


def npm(name, tmp):
    return None, [
        f"npm pack --silent {name} && tar xzf *.tgz --strip-components=1 && rm *.tgz",
        # its own tests with their runner; its linters and release tools are three hundred packages more
        "npm pkg delete devDependencies scripts && npm pkg set scripts.test=\"tape 'test/**/*.js'\" && echo node_modules > .gitignore && rm -f .npmrc",
    ], ["npm install --no-audit --no-fund --save-dev tape@5 && ls node_modules | wc -l", "npm test", "npm ls && node -e 'require(\"./\")' && npm rebuild",
        "rm -rf node_modules && npm ci --no-audit --no-fund && npm test 2>&1 | tail -3", "npm pack --dry-run && npm run"]


def python(name, tmp):
    return None, [
        "python3 -m venv .venv && .venv/bin/pip install -q --disable-pip-version-check pytest setuptools wheel && printf '.venv\\n__pycache__\\nbuild\\ndist\\n*.egg-info\\n' > .gitignore",
        f".venv/bin/pip download -q --no-deps --no-build-isolation --no-binary :all: -d dist {name} && tar xzf dist/*.tar.gz --strip-components=1",
    ], [". .venv/bin/activate && pip install -q -e . && pip list", ". .venv/bin/activate && python -m pytest -q 2>&1 | tail -3",
        ". .venv/bin/activate && python setup.py -q sdist bdist_wheel && pip install -q --force-reinstall dist/*.whl && python -m compileall -q toolz",
        "find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} + ; rm -rf build dist *.egg-info && .venv/bin/pip cache purge"]


def c(name, tmp):
    return from_debian(name, tmp), [], [
        "./configure", "make && ls -la *.a", "make test", "make install DESTDIR=$PWD/out prefix=/usr && find out -type f && rm -rf out",
        "echo '/* more */' >> adler32.c && make && make test 2>&1 | tail -5", "make clean && make distclean"]


def perl(name, tmp):
    return from_debian(name, tmp), [], ["perl Makefile.PL && make && make test", "prove -l t", "make distclean"]


def shell(name, tmp):
    return ROOT / "examples" / name, [], ["! ./test.sh && git apply fix.patch && ./test.sh && sh -n *.sh && git diff", "chmod 755 *.sh && env -i sh -ec './test.sh | grep -c ok'"]


PROJECTS = [("minimist", npm, "node-22", "minimist@1.2.8"), ("toolz", python, "python-313", "toolz==1.0.0"), ("zlib", c, "go-122", "zlib"), ("try-tiny", perl, "go-122", "libtry-tiny-perl"), ("fizz", shell, "minimal", "fizz")]


def places():
    """Where npm and pip of this machine get packages from, as names; pip's files often lie on another host than its index."""
    index = os.environ.get("PIP_INDEX_URL") or host("/usr/bin/python3", "-c", "from pip._internal.models.index import PyPI; print(PyPI.simple_url)").strip()
    with urllib.request.urlopen(f"{index.rstrip('/')}/toolz/") as page:
        files = re.findall(r'href="(https?://[^"]+)', page.read().decode())
    urls = [host("npm", "config", "get", "registry").strip(), index, *files]
    return sorted({urlsplit(url).hostname for url in urls})


@pytest.fixture(scope="module")
def registries():
    return places()


@pytest.fixture(scope="module")
def server(registries):
    # A mirror of packages in a network of its own is the operator's to open (docs/egress.md).
    found = {a[4][0] for name in registries for a in socket.getaddrinfo(name, 443, socket.AF_INET, socket.SOCK_STREAM)}
    inside = sorted(a for a in found if not ipaddress.ip_address(a).is_global)
    with product.Server(config=f"network: {{allow: {json.dumps(inside)}}}\n") as s:
        yield s


def upload(sandbox, path, **entries):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, source in entries.items():
            tar.add(source, name if name != "all" else ".")
    done = sandbox.server.call("PUT", f"{sandbox.path}/files/archive?path={path}", content=data.getvalue())
    assert done.status_code // 100 == 2, done.text


def stranger(match):
    """A public address as one for documentation."""
    try:
        return "203.0.113.1" if ipaddress.ip_address(match[0]).is_global else match[0]
    except ValueError:
        return match[0]


def vector(record):
    """What the engine looks at, without what names this machine's registries: they become names under registry.example."""
    known = next(line["data"]["known"] for line in record if line["type"] == "trust" and line["data"].get("event") == "pack")
    names = sorted({k.rsplit(":", 1)[0] for k in known}, key=len, reverse=True)
    lines = [{"seq": 1, "t": 0, "ts": record[0]["ts"], "type": "trust", "src": "host", "session": None,
              "data": {"event": "pack", "known": [f"r{i}.registry.example" for i in range(len(names))]}}]
    for line in record:
        if line["type"] in KEPT and line["data"].get("event") != "exit":
            line["data"].pop("at", None)
            lines.append({**line, "t": line["t"] // 1000000 * 1000000, "ts": record[0]["ts"]})
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    for i, name in enumerate(names):
        text = re.sub(rf"(https?://)(?:[^/@\s\"]*@)?{re.escape(name)}[^\s\"'\\]*", rf"\1r{i}.registry.example/", text)
        text = re.sub(re.escape(name), f"r{i}.registry.example", text, flags=re.IGNORECASE)
    return re.sub(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])", stranger, text)


@pytest.mark.parametrize(("name", "fetch", "template", "what"), PROJECTS, ids=[p[0] for p in PROJECTS])
def test_real_projects_cost_nothing(server, registries, tmp_path, name, fetch, template, what):
    folder, before, steps = fetch(what, tmp_path)
    options = {"template": template, "memory_mb": 1024, "disk_gb": 2}
    if folder:
        s = server.create(network_mode="none", **options)
        upload(s, "/workspace", all=folder)
    else:  # with the certificates that this machine trusts
        env = dict.fromkeys(("NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), "/home/agent/authorities")
        s = server.create(network_mode="allowlist", allowlist=["registries", *registries], env=env, **options)
        upload(s, "/home/agent", authorities=ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt")
    failed = []
    for step in [*before, BEGIN, *steps, END]:
        done = s.exec(step, timeout_ms=900000)
        print(f"$ {step}\n{done['output']}")
        if done["exit_code"] != 0:
            failed.append((step, done["output"][-400:]))
            break
    s.destroy()
    told = server.api("GET", s.path + "/trust")
    keep = os.environ.get("CAGED_RECORD_TO")
    if keep:
        packed = pathlib.Path(keep) / f"{name}.jsonl.zst"
        subprocess.run(["zstd", "-q", "-19", "-f", "-o", str(packed)], input=vector(s.record()).encode(), check=True)
    assert failed == []
    assert (told["score"], [d for d in told["deductions"] if d["points"]]) == (100, [])
