"""An outside for sandboxes (netlab.py): a resolver, a web server in plain and in TLS with packages of several managers,
echoes, and what a guest's root does with it. `lab()` is entered by the thread that starts the server of the test."""

import base64
import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
import struct
import subprocess
import tarfile
import tempfile
import zipfile

import netlab
import product

GOOD, OTHER, SHARED, RESOLVER = "8.1.1.1", "8.2.2.2", "8.3.3.3", "8.8.8.8"
NAMES = {"good.example": GOOD, "other.example": OTHER, "a.shared.example": SHARED, "b.shared.example": SHARED,
         "rebind.wild.example": "127.0.0.1", "meta.wild.example": "169.254.169.254", "private.wild.example": "10.0.0.7",
         "self.wild.example": netlab.HOST, "gateway.wild.example": "172.30.1.1",
         "turns.wild.example": GOOD + ">127.0.0.1", "turned.wild.example": "127.0.0.1"}

# Port 80 serves a folder, /big, /ws and says which Host it was asked for; 443 the same over TLS; the
# others echo. Every datagram that arrives is written down.
OUTSIDE = r"""
import base64, hashlib, http.server, os, socket, socketserver, ssl, sys, threading
folder, seen = sys.argv[1], open(sys.argv[2], "a", buffering=1)
class H(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def __init__(self, *a):
        super().__init__(*a, directory=folder)
    def log_message(self, *_):
        pass
    def do_GET(self):
        if self.path == "/host":
            data = (self.headers["Host"] + " reached\n").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        elif self.path.startswith("/big/"):
            n = int(self.path[5:])
            self.send_response(200)
            self.send_header("Content-Length", str(n))
            self.end_headers()
            while n > 0:
                self.wfile.write(bytes(min(n, 1 << 20)))
                n -= 1 << 20
        elif self.path == "/ws":
            accept = base64.b64encode(hashlib.sha1((self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
            head = self.rfile.read(6)
            data = self.rfile.read(head[1] & 127)
            plain = bytes(b ^ head[2 + i % 4] for i, b in enumerate(data))
            self.wfile.write(bytes([129, len(plain)]) + plain)
            self.close_connection = True
        else:
            super().do_GET()
    def do_POST(self):
        self.do_GET()
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        seen.write(f"tcp {self.server.server_address[1]}\n")
        while data := self.request.recv(65536):
            self.request.sendall(data)
class S(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024
def serve(port, handler, tls=None):
    s = S(("0.0.0.0", port), handler)
    if tls:
        s.socket = tls.wrap_socket(s.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=s.serve_forever, daemon=True).start()
def datagrams(kind, port):
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW if kind == "icmp" else socket.SOCK_DGRAM, socket.IPPROTO_ICMP if kind == "icmp" else 0)
    if port:
        s.bind(("0.0.0.0", port))
    while True:
        s.recv(2048)
        seen.write(f"{kind} {port}\n")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/../cert.pem")
serve(80, H)
serve(443, H, context)
for port in (22, 853, 8080, 8443):
    serve(port, Echo)
for kind, port in (("udp", 443), ("udp", 123), ("udp", 5353), ("icmp", 0)):
    threading.Thread(target=datagrams, args=(kind, port), daemon=True).start()
print("up")
threading.Event().wait()
"""


def calm():
    """Configuration of a server that pauses nobody for its score: what is attacked here would cost every sandbox its trust."""
    rules = tempfile.NamedTemporaryFile("w", suffix=".yaml")
    os.chmod(rules.name, 0o644)
    text = (product.ROOT / "data" / "trust" / "default.yaml").read_text()
    calmer = re.sub(r"pause: \d+", "pause: 0", text, count=1)
    assert calmer != text
    rules.write(calmer)
    rules.flush()
    KEPT.append(rules)  # servers read it again when they start again
    return f"trust: {{rules: {rules.name}}}\n"


KEPT = []


def put_wheel(www):
    index = www / "simple" / "caged-probe"
    index.mkdir(parents=True)
    wheel = "caged_probe-1.0-py3-none-any.whl"
    with zipfile.ZipFile(index / wheel, "w") as z:
        z.writestr("caged_probe.py", "word = 'installed'\n")
        z.writestr("caged_probe-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: caged-probe\nVersion: 1.0\n")
        z.writestr("caged_probe-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr("caged_probe-1.0.dist-info/RECORD", "")
    (index / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>')


def put_npm(www):
    """A package as a registry of npm tells it: its document and its archive."""
    (www / "npm").mkdir()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, text in (("package.json", '{"name": "caged-probe", "version": "1.0.0"}'), ("index.js", "module.exports = 'installed'")):
            member = tarfile.TarInfo("package/" + name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    (www / "npm" / "caged-probe-1.0.0.tgz").write_bytes(packed.getvalue())
    dist = {"tarball": "http://good.example/npm/caged-probe-1.0.0.tgz",
            "integrity": "sha512-" + base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode()}
    version = {"name": "caged-probe", "version": "1.0.0", "dist": dist}
    (www / "npm" / "caged-probe").write_text(json.dumps({"name": "caged-probe", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}))


@contextlib.contextmanager
def lab():
    with netlab.Lab([GOOD, OTHER, SHARED, RESOLVER, "1.1.1.1"]) as lab, tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "www").mkdir()
        subprocess.run(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=outside "
                       f"-keyout {folder}/cert.pem -out {folder}/crt && cat {folder}/crt >> {folder}/cert.pem && "
                       f"git init -qb main {folder}/work && cd {folder}/work && echo 'over http' > a.txt && git add . && "
                       f"git -c user.name=t -c user.email=t@t commit -qm one && git clone -q --bare . {folder}/www/p.git && "
                       f"git -C {folder}/www/p.git update-server-info", shell=True, check=True, capture_output=True)
        put_wheel(folder / "www")
        put_npm(folder / "www")
        lab.asked, lab.arrived = folder / "asked", folder / "arrived"
        lab.asked.touch()
        lab.arrived.touch()
        lab.python(netlab.RESOLVER, lab.asked, RESOLVER, *(f"{n}={a}" for n, a in NAMES.items()))
        lab.python(OUTSIDE, folder / "www", lab.arrived)
        yield lab


def policy(box, mode, allow=(), deny=()):
    return box.server.api("PATCH", box.path + "/network", {"mode": mode, "allow": list(allow), "deny": list(deny)})


def root(box, command, **kw):
    return box.exec(command, user="root", **{"timeout_ms": 60000, **kw})["output"]


def curl(box, *args):
    return root(box, "curl -sS -k -m 10 " + " ".join(f"'{a}'" for a in args) + " 2>&1")


def raw(box, address, port, *parts):
    """Bytes sent to a port, with half a second between the parts; what came back."""
    sends = "; sleep 0.5; ".join(f"echo {base64.b64encode(p).decode()} | base64 -d >&3" for p in parts)
    out = root(box, f"exec 2>/dev/null; exec 3<>/dev/tcp/{address}/{port} || exit 9; {sends}; timeout 3 cat <&3 | base64 -w0")
    return base64.b64decode(out.strip())


def attack(box, *words):
    """(verdict, what) of each attempt of the program that caged attack sends in; it needs nothing of a template."""
    url = box.path + "/files/raw?path=/tmp/caged-attack"
    box.server.call("PUT", url, content=(product.LIBEXEC / "caged-attack").read_bytes()).raise_for_status()
    box.run("chmod 755 /tmp/caged-attack")
    out = box.run("/tmp/caged-attack " + " ".join(words), user="root", timeout_ms=120000)
    return [tuple(line.split("\t", 1)) for line in out.split("\n")]


def dns(box, name, kind, to=RESOLVER):
    """(rcode, answers) of a question that root sends itself, to a resolver of its choice."""
    labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split("."))
    q = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)
    out = root(box, f"exec 3<>/dev/udp/{to}/53; echo {base64.b64encode(q).decode()} | base64 -d >&3; "
                    f"timeout 5 dd bs=4096 count=1 <&3 2>/dev/null | base64 -w0")
    answer = base64.b64decode(out)
    assert answer, "no answer"
    return answer[3] & 15, struct.unpack(">H", answer[6:8])[0]


def lines(path):
    return path.read_text().split("\n")[:-1]
