"""Real clients of Python, Node and Go go through an allowlist to what it names, and to nothing else: package managers,
HTTP clients, WebSocket clients. Each in its template; where that is not built on this machine, Python with pip and Node are
carried into a guest of minimal as they are installed here, and npm and Go are skipped."""

import os

import carry
import pytest
from outside import GOOD, OTHER, root

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="makes network namespaces")

SLOW_MS = 600000  # an interpreter's start takes many seconds under emulation on a busy machine


def guest(server, template, memory_mb, carried=None):
    built = {t["name"] for t in server.api("GET", "/v1/templates") if t["state"] == "ready"}
    if template not in built:
        if not carried:
            pytest.skip(f"the template {template} is not built here: caged image build {template}")
        box = guest(server, "minimal", memory_mb)
        carried(box)
        return box
    return server.create(template=template, memory_mb=memory_mb, disk_gb=1, allowlist=["good.example", "good.example:*"])


@pytest.fixture(scope="module")
def python(server):
    box = guest(server, "python-313", 384, carry.python)
    yield box
    box.destroy()


@pytest.fixture(scope="module")
def node(server):
    box = guest(server, "node-22", 512, carry.node if carry.have_node() else None)
    yield box
    box.destroy()


@pytest.fixture(scope="module")
def go(server):
    box = guest(server, "go-122", 1024)
    yield box
    box.destroy()


def put(box, path, text):
    box.server.call("PUT", box.path + f"/files/raw?path={path}", content=text.encode()).raise_for_status()


def test_pip_installs_through_an_allowlist(python):
    install = "pip install -q --retries 0 --disable-pip-version-check --root-user-action=ignore --trusted-host"
    out = root(python, f"{install} good.example --index-url http://good.example/simple/ caged-probe 2>&1 && "
                       "python3 -c 'import caged_probe; print(caged_probe.word)'", timeout_ms=SLOW_MS)
    assert out.strip().endswith("installed"), out
    out = root(python, f"{install} other.example --index-url http://other.example/simple/ --force-reinstall caged-probe 2>&1", timeout_ms=SLOW_MS)
    assert "No matching distribution" in out or "Could not" in out, out


def test_pythons_http_client_is_held_to_the_name(python):
    put(python, "/tmp/c.py", f"""
import http.client, ssl, urllib.request
c = http.client.HTTPConnection("good.example")
for _ in range(3):
    c.request("GET", "/host")
    print(c.getresponse().read())
loose = ssl._create_unverified_context()
print(urllib.request.urlopen("https://good.example/host", context=loose).read())
for url in ("http://other.example/host", "https://other.example/host", "http://{OTHER}/host", "https://{GOOD}/host"):
    try:
        print("OPEN", urllib.request.urlopen(url, context=loose, timeout=20).read())
    except OSError as e:
        print("refused")
""")
    out = root(python, "python3 /tmp/c.py 2>&1", timeout_ms=SLOW_MS)
    assert out.count("good.example reached") == 4 and out.count("refused") == 4 and "OPEN" not in out, out


def test_npm_installs_through_an_allowlist(node):
    if node.exec("command -v npm")["exit_code"] != 0:
        pytest.skip("npm is in the template node-22 only: caged image build node-22")
    out = root(node, "mkdir -p /tmp/n && cd /tmp/n && npm install --no-audit --no-fund --no-update-notifier --registry http://good.example/npm/ caged-probe "
                     "2>&1 && node -p 'require(\"caged-probe\")'", timeout_ms=SLOW_MS)
    assert out.strip().endswith("installed"), out
    out = root(node, "cd /tmp/n && npm install --no-audit --fetch-retries 0 --no-update-notifier --registry http://other.example/npm/ caged-probe-2 2>&1", timeout_ms=SLOW_MS)
    assert "ENOTFOUND" in out or "EAI_AGAIN" in out, out


def test_nodes_fetch_and_websocket_go_through(node):
    put(node, "/tmp/c.mjs", f"""
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
for (const url of ['http://good.example/host', 'https://good.example/host'])
  console.log(await (await fetch(url)).text());
for (const url of ['http://other.example/host', 'https://{GOOD}/host', 'http://{OTHER}/host']) {{
  try {{ const r = await fetch(url); console.log(r.status === 403 ? 'no' : 'OPEN'); }} catch {{ console.log('no'); }}
}}
const said = await new Promise((done, failed) => {{
  const ws = new WebSocket('ws://good.example/ws');
  ws.onopen = () => ws.send('through');
  ws.onmessage = (m) => done(m.data);
  ws.onerror = () => failed(new Error('websocket'));
}});
console.log('said', said);
process.exit(0);
""")
    out = root(node, "node --no-warnings --experimental-websocket /tmp/c.mjs 2>&1", timeout_ms=SLOW_MS)
    assert out.count("good.example reached") == 2 and out.split("\n").count("no") == 3 and "OPEN" not in out and "said through" in out, out


@pytest.mark.skipif(os.environ.get("CAGED_LONG") != "1", reason="compiling a Go program takes minutes under emulation")
def test_gos_http_client_is_held_to_the_name(go):
    put(go, "/tmp/c.go", f"""package main
import ("crypto/tls"; "fmt"; "io"; "net/http")
func main() {{
	c := &http.Client{{Transport: &http.Transport{{TLSClientConfig: &tls.Config{{InsecureSkipVerify: true}}, ForceAttemptHTTP2: true}}}}
	for _, url := range []string{{"http://good.example/host", "https://good.example/host", "http://other.example/host", "https://{GOOD}/host"}} {{
		r, err := c.Get(url)
		if err != nil {{ fmt.Println("refused"); continue }}
		b, _ := io.ReadAll(r.Body)
		fmt.Println(string(b))
	}}
}}
""")
    out = root(go, "cd /tmp && HOME=/tmp go run c.go 2>&1", timeout_ms=900000)
    assert out.count("good.example reached") == 2 and out.count("refused") == 2, out
