"""The TypeScript client: its own tests by node against a real server and a real guest, its package, its README."""

import os
import pathlib
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest

from conftest import ROOT

HERE = pathlib.Path(__file__).parent / "typescript"
SDK = ROOT / "sdk" / "typescript"
pytestmark = pytest.mark.skipif(not shutil.which("npm"), reason="node and npm are missing")


def run(command, **kw):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL, **kw)
    assert done.returncode == 0, f"{command}: {done.stdout[-6000:]}{done.stderr[-6000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The package that npm pack makes; building it leaves dist for the other tests."""
    out = tmp_path_factory.mktemp("pack")
    return pathlib.Path(run([ROOT / "scripts" / "build-sdk", out]).strip())


@pytest.fixture(scope="module")
def environment(server):
    return dict(os.environ, CAGED_API_URL=server.url, CAGED_API_KEY=server.key)


@pytest.fixture(scope="module")
def outcomes(packed, environment, box, tmp_path_factory):
    """What node's test runner says of every test, by name."""
    report = tmp_path_factory.mktemp("node") / "report.xml"
    subprocess.run(
        ["node", "--test", "--test-concurrency=1", "--test-reporter=junit", f"--test-reporter-destination={report}",
         *sorted(HERE.glob("*.test.mjs"))],
        env=dict(environment, CAGED_TEST_BOX=box), timeout=900, stdin=subprocess.DEVNULL)
    return {case.get("name"): case.find("failure") for case in ET.parse(report).iter("testcase")}


def names():
    """Tests by the beginning of their name, which may have a value in it."""
    text = "\n".join(p.read_text() for p in sorted(HERE.glob("*.test.mjs")))
    return re.findall(r'^ *test\(["`]([^"`$]+)', text, re.M)


@pytest.mark.parametrize("name", names())
def test_node(outcomes, name):
    mine = {n: failure for n, failure in outcomes.items() if n.startswith(name)}
    assert mine, f"node did not run it; it ran {sorted(outcomes)}"
    for full, failure in mine.items():
        assert failure is None, f"{full}: {failure.text}"


def test_the_package_needs_nothing_at_run_time(packed):
    listing = run(["tar", "-tf", packed]).split()
    assert "package/dist/index.js" in listing and "package/dist/index.d.ts" in listing and "package/README.md" in listing
    assert not [n for n in listing if not n.startswith(("package/dist/", "package/README", "package/package.json", "package/LICENSE"))]
    for module in SDK.glob("dist/*.js"):
        for said in re.findall(r'(?:from|import\()\s*"([^"]+)"', module.read_text()):
            assert said.startswith("./") or (said.startswith("node:") and module.name == "nodesocket.js"), (module, said)


def test_the_readme_compiles_and_runs_with_the_installed_package(packed, environment, tmp_path):
    blocks = re.findall(r"^```ts\n(.*?)^```", (SDK / "README.md").read_text(), re.M | re.S)
    assert len(blocks) >= 6
    imports = [line for b in blocks for line in b.splitlines() if line.startswith("import ")]
    rest = ["\n".join(line for line in b.splitlines() if not line.startswith("import ")) for b in blocks]
    (tmp_path / "readme.ts").write_text("\n".join([*imports, *rest]))
    (tmp_path / "package.json").write_text('{"type":"module","private":true}')
    run(["npm", "install", "--offline", "--no-audit", "--no-fund", "--loglevel=error", packed], cwd=tmp_path)
    run([SDK / "node_modules" / ".bin" / "tsc", "--strict", "--target", "es2022", "--module", "nodenext", "--types", "node",
         "--typeRoots", SDK / "node_modules" / "@types", "readme.ts"], cwd=tmp_path)
    said = run(["node", "readme.js"], cwd=tmp_path, env=environment)
    for word in ("running", "hello\n 3", "1\n2\n3\n0", "30 100", "a text", "filesystem_read", "404"):
        assert word in said, (word, said)
