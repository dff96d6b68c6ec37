"""The network policy of a sandbox: names are looked up at this machine's resolver, pinned, and every
connection is judged by them. The guest is a program in a namespace whose traffic all lands on the
warden's sockets; the outside is another namespace with public addresses."""

import contextlib
import os
import struct
import tempfile

import netlab
import product
import pytest
import wardens
from netlab import RESOLVER, Lab
from test_egress import Namespace, dns, network, question
from wardens import Warden

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="makes network namespaces")

GOOD, OTHER, SHARED = "8.1.1.1", "8.2.2.2", "8.3.3.3"
NAMES = {"good.example": GOOD, "other.example": OTHER, "a.shared.example": SHARED, "b.shared.example": SHARED,
         "*.wild.example": SHARED, "rebind.example": "127.0.0.1", "meta.example": "169.254.169.254",
         "private.example": "10.0.0.7", "self.example": netlab.HOST, "mixed.example": f"10.0.0.7,{GOOD}",
         "slow.example": "silent"}

# Echoes what it is told on every port given, and speaks HTTP on 80: says which Host it was asked for.
SERVER = r"""
import socketserver, sys, threading
class H(socketserver.StreamRequestHandler):
    def handle(self):
        port = self.server.server_address[1]
        if port == 22:
            self.wfile.write(b"hello from 22\n")
        if port == 80:
            while line := self.rfile.readline():
                head = [line]
                while (line := self.rfile.readline()).strip():
                    head.append(line)
                host = [h.split(b":", 1)[1].strip() for h in head if h.lower().startswith(b"host:")]
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(host[0]), host[0]))
        while data := self.connection.recv(65536):
            self.connection.sendall(data)
class S(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 512
for port in map(int, sys.argv[1:]):
    threading.Thread(target=S(("0.0.0.0", port), H).serve_forever, daemon=True).start()
print("up")
threading.Event().wait()
"""


class World:
    pass


@pytest.fixture(scope="module")
def lab():
    with Lab([GOOD, OTHER, SHARED, "8.8.8.8"]) as lab, tempfile.NamedTemporaryFile("r") as asked:
        lab.asked = asked
        lab.python(RESOLVER, asked.name, "8.8.8.8", *(f"{n}={a}" for n, a in NAMES.items()))
        lab.python(SERVER, 80, 443, 22, 8443)
        yield lab


@contextlib.contextmanager
def world(lab, operator=(), **rules):
    space = Namespace()
    fds = dict(zip((wardens.TCP, wardens.DNS, wardens.DNS_TCP), space.fds))
    with Warden(fds=fds, network={"allow": list(operator), "resolvers": ["8.8.8.8"], "rules": rules}) as w:
        w.link = w.start()
        w.space, w.lab = space, lab
        yield w
    space.close()


def ask(w, name, kind=1, tcp=False):
    """(rcode, addresses) of a lookup by the guest."""
    answer = bytes.fromhex(w.space.ask("query", host="9.9.9.9", hex=question(name, kind), tcp=tcp)["ok"])
    count = struct.unpack(">H", answer[6:8])[0]
    records = answer[len(answer) - 16 * count:] if count else b""
    return answer[3] & 15, [".".join(map(str, records[16 * i + 12:16 * i + 16])) for i in range(count)]


def asked(lab):
    with open(lab.asked.name) as f:
        return f.read().split("\n")[:-1]


def hello(name=None, hidden=False):
    """A TLS ClientHello."""
    extensions = b""
    if name:
        n = name.encode()
        extensions += struct.pack(">HHHBH", 0, len(n) + 5, len(n) + 3, 0, len(n)) + n
    if hidden:
        extensions += struct.pack(">HH", 0xFE0D, 4) + b"\0\0\0\0"
    body = b"\3\3" + bytes(32) + b"\0" + struct.pack(">H", 2) + b"\xc0\x2f" + b"\1\0" + struct.pack(">H", len(extensions)) + extensions
    body = b"\1" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\3\1" + struct.pack(">H", len(body)) + body


def talk(w, address, port, data):
    """What came back, or None when it was refused."""
    answer = w.space.ask("talk", host=address, port=port, send=data.hex())
    return bytes.fromhex(answer["ok"]) if "ok" in answer and answer["ok"] else None


def denied(w, **members):
    def found():
        return [e for e in network(w, "open") if e["verdict"] == "deny" and members.items() <= e.items()]
    product.wait_for(f"denied {members} in {network(w, 'open')}", found, 10)


def test_full_resolves_and_reaches_what_is_public(lab):
    with world(lab, mode="full") as w:
        assert ask(w, "good.example") == (0, [GOOD])
        assert ask(w, "good.example", tcp=True) == (0, [GOOD])
        assert talk(w, GOOD, 443, b"no TLS at all") == b"no TLS at all"
        assert talk(w, OTHER, 8443, b"x" * 100000) == b"x" * 100000
        product.wait_for("recorded", lambda: len(network(w, "close")) == 2, 10)
        first, second = network(w, "open")
        assert (first["name"], first["address"], first["verdict"], first["rule"]) == ("good.example", GOOD, "allow", "mode full")
        assert "name" not in second
        found = dns(w)[0]
        assert (found["name"], found["verdict"], found["rule"], found["addresses"]) == ("good.example", "allow", "mode full", [GOOD])
        assert found["duration_ms"] >= 0


@pytest.mark.parametrize("mode", ["full", "allowlist"])
def test_names_that_lead_inside_are_no_names(lab, mode):
    inside = ["rebind.example", "meta.example", "private.example", "self.example"]
    with world(lab, mode=mode, allow=["*.example"] if mode == "allowlist" else []) as w:
        for name in inside:
            assert ask(w, name) == (3, []), name
        assert ask(w, "mixed.example") == (0, [GOOD])
        for address in ("127.0.0.1", "169.254.169.254", "10.0.0.7", netlab.HOST, "224.0.0.1", "0.0.0.0"):
            assert talk(w, address, 443, hello("good.example")) is None
        product.wait_for("recorded", lambda: len(network(w, "open")) >= 3, 10)
        rules = {e["name"]: e.get("rule") for e in dns(w) if e["verdict"] == "deny"}
        assert rules["rebind.example"] == "loopback 127.0.0.0/8" and rules["self.example"] == "this machine's own address"
        assert all(e["verdict"] == "deny" for e in network(w, "open"))


def test_the_operator_opens_what_is_inside(lab):
    with world(lab, mode="full", operator=[f"{netlab.HOST}/32:443"]) as w:
        assert ask(w, "self.example") == (0, [netlab.HOST])


def test_none_reaches_and_asks_nothing(lab):
    before = len(asked(lab))
    with world(lab, mode="none", operator=["0.0.0.0/0"]) as w:
        assert ask(w, "good.example") == (3, [])
        assert talk(w, GOOD, 443, hello("good.example")) is None
        denied(w, rule="mode none")
        assert len(asked(lab)) == before


def test_a_denied_name_never_leaves_whatever_its_type(lab):
    before = len(asked(lab))
    with world(lab, mode="allowlist", allow=["good.example"]) as w:
        for kind in (1, 2, 5, 6, 12, 15, 16, 28, 33, 64, 65, 255, 65280):
            assert ask(w, "x.other.example", kind) == (3, [])
        assert ask(w, "a" * 63 + ".good.example") == (3, [])
        for kind in (2, 16, 28, 65, 255):  # an allowed one leaves as an A question only
            assert ask(w, "good.example", kind) == (0, [])
        assert len(asked(lab)) == before
        assert ask(w, "good.example") == (0, [GOOD])
        assert asked(lab)[before:] == ["1 good.example"]


def test_an_answer_is_pinned_and_not_asked_again(lab):
    before = len(asked(lab))
    with world(lab, mode="full") as w:
        for _ in range(20):
            assert ask(w, "good.example") == (0, [GOOD])
        assert len(asked(lab)) == before + 1


def test_a_resolver_that_is_silent_fails_in_time(lab):
    with world(lab, mode="full") as w:
        answer = w.space.ask("query", host="9.9.9.9", hex=question("slow.example"), wait=9)["ok"]
        assert bytes.fromhex(answer)[3] & 15 == 2
        assert ask(w, "good.example") == (0, [GOOD])


def test_an_allowlist_lets_the_named_through_and_nothing_else(lab):
    with world(lab, mode="allowlist", allow=["good.example", "*.wild.example", "8.2.2.0/24:8443"]) as w:
        assert talk(w, GOOD, 443, hello("good.example")) is None  # it was not looked up
        assert ask(w, "good.example") == (0, [GOOD])
        assert talk(w, GOOD, 443, hello("good.example")) == hello("good.example")
        assert talk(w, GOOD, 8443, hello("good.example")) is None
        assert ask(w, "deep.wild.example") == (0, [SHARED])
        assert talk(w, SHARED, 443, hello("deep.wild.example")) == hello("deep.wild.example")
        assert talk(w, OTHER, 443, hello("good.example")) is None
        assert talk(w, OTHER, 8443, b"anything") == b"anything"
        product.wait_for("recorded", lambda: len(network(w, "close")) == 3, 10)
        allowed = [(e.get("name"), e["rule"], e["protocol"]) for e in network(w, "open") if e["verdict"] == "allow"]
        assert allowed == [("good.example", "allow good.example", "tls"), ("deep.wild.example", "allow *.wild.example", "tls"),
                           (None, "allow 8.2.2.0/24:8443", "tcp")]


def test_what_a_connection_says_must_be_the_name_it_was_let_through_by(lab):
    with world(lab, mode="allowlist", allow=["a.shared.example", "good.example"]) as w:
        assert ask(w, "a.shared.example") == (0, [SHARED])
        assert talk(w, SHARED, 443, hello("b.shared.example")) is None  # same address, not allowed
        denied(w, name="b.shared.example", rule="mode allowlist")
        assert talk(w, SHARED, 443, hello("good.example")) is None  # allowed, but elsewhere
        denied(w, name="good.example", rule="name was not resolved to this address")
        assert talk(w, SHARED, 443, hello()) is None
        denied(w, rule="TLS without a server name")
        assert talk(w, SHARED, 443, hello("a.shared.example", hidden=True)) is None
        denied(w, rule="TLS with an encrypted hello")
        assert talk(w, SHARED, 443, b"SSH-2.0-x\r\n") is None
        denied(w, rule="no TLS on port 443")
        assert talk(w, SHARED, 443, b"") is None
        big = hello("a.shared.example")
        assert talk(w, SHARED, 443, big[:3] + b"\xff\xff" + big[5:]) is None  # longer than any hello


def test_plain_http_is_held_to_its_host_on_every_request(lab):
    def get(*hosts, target="/"):
        return b"".join(f"GET {target} HTTP/1.1\r\nHost: {h}\r\n\r\n".encode() for h in hosts)

    with world(lab, mode="allowlist", allow=["a.shared.example"]) as w:
        assert ask(w, "a.shared.example") == (0, [SHARED])
        assert talk(w, SHARED, 80, get("a.shared.example", "a.shared.example:80")).count(b"200 OK") == 2
        page = talk(w, SHARED, 80, get("b.shared.example"))
        assert page.startswith(b"HTTP/1.1 403") and b"Rule: mode allowlist" in page
        assert b"caged network cage-testtest22 allow b.shared.example" in page
        page = talk(w, SHARED, 80, get("a.shared.example", "b.shared.example"))
        assert page.count(b"200 OK") == 1 and b"host_mismatch" in page  # not by keeping the connection either
        page = talk(w, SHARED, 80, get("a.shared.example", target="http://b.shared.example/"))
        assert b"200 OK" not in page and b"X-Caged-Refused: target" in page
        two = b"GET / HTTP/1.1\r\nHost: a.shared.example\r\nHost: b.shared.example\r\n\r\n"
        assert b"HTTP without one Host" in talk(w, SHARED, 80, two)
        smuggled = b"POST / HTTP/1.1\r\nHost: a.shared.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        assert b"X-Caged-Refused: smuggling" in talk(w, SHARED, 80, smuggled)
        for broken in (b"GET / HTTP/1.1\nHost: a.shared.example\n\n", b"GET / HTTP/1.1\r\nHost: a.shared.example\0.b\r\n\r\n",
                       b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nHost: b.shared.example:80@a.shared.example\r\n\r\n"):
            assert b"200 OK" not in (talk(w, SHARED, 80, broken) or b""), broken
        assert b"Rule: mode allowlist" in talk(w, GOOD, 80, get("good.example"))
        assert b"Rule: loopback" in talk(w, "127.0.0.9", 80, get("a.shared.example"))


def test_other_protocols_pass_on_the_ports_that_a_rule_names(lab):
    with world(lab, mode="allowlist", allow=["a.shared.example:22", "good.example:*"]) as w:
        assert ask(w, "a.shared.example") == (0, [SHARED])
        assert ask(w, "good.example") == (0, [GOOD])
        assert talk(w, SHARED, 22, b"") == b"hello from 22\n"  # the server speaks first
        assert talk(w, SHARED, 22, b"SSH-2.0-x\r\n").endswith(b"SSH-2.0-x\r\n")
        assert talk(w, SHARED, 22, hello("b.shared.example")) is None
        assert talk(w, SHARED, 8443, b"x") is None
        assert talk(w, GOOD, 8443, b"x") == b"x"
        # nor can a hello hide behind a pause
        got = w.space.ask("late", host=SHARED, port=22, send=hello("b.shared.example").hex(), wait=1)
        assert "error" in got or bytes.fromhex(got["ok"]) == b"hello from 22\n", got


def test_a_deny_list_holds_in_full(lab):
    with world(lab, mode="full", deny=["other.example", "8.3.3.3/32"]) as w:
        assert ask(w, "other.example") == (3, [])
        assert talk(w, OTHER, 443, hello("other.example")) is None
        denied(w, name="other.example", rule="deny other.example")
        assert talk(w, SHARED, 443, b"x") is None
        assert talk(w, GOOD, 443, hello("good.example")) == hello("good.example")
        assert b"Rule: deny other.example" in talk(w, GOOD, 80, b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")


def test_a_change_holds_at_once_and_for_what_is_open(lab):
    with world(lab, mode="full") as w:
        ask(w, "good.example")
        ask(w, "other.example")
        assert w.space.ask("hold", host=GOOD, port=8443, count=3) == {"ok": 3}
        assert w.space.ask("hold", host=OTHER, port=8443, count=2) == {"ok": 2}
        product.wait_for("open", lambda: len(network(w, "open")) == 5, 10)
        told = w.link.call("network", rules={"mode": "full", "deny": [f"{OTHER}/32"]})
        assert told["mode"] == "full" and told["deny"] == [f"{OTHER}/32"]
        assert w.space.ask("alive") == {"ok": 3}
        product.wait_for("cut", lambda: [e["reason"] for e in network(w, "close")] == ["policy"] * 2, 10)
        w.link.call("network", rules={"mode": "none"})
        assert w.space.ask("alive") == {"ok": 0}
        assert ask(w, "good.example") == (3, [])
        w.link.call("network", rules={"mode": "allowlist", "allow": ["good.example"]})
        assert ask(w, "good.example") == (0, [GOOD])
        product.wait_for("told", lambda: [e["mode"] for e in network(w, "policy")] == ["full", "none", "allowlist"], 10)
        assert w.link.call("network")["allow"] == ["good.example"]
        assert "is no rule" in w.link.call("network", rules={"allow": ["http://x"]})["error"]["text"]
        assert w.link.call("network")["allow"] == ["good.example"]


def test_five_hundred_connections_at_once(lab):
    with world(lab, mode="allowlist", allow=["good.example"]) as w:
        ask(w, "good.example")
        before = w.rss_kib()
        assert w.space.ask("hold", host=GOOD, port=443, count=500, send=hello("good.example").hex()) == {"ok": 500}
        product.wait_for("all are through", lambda: w.link.call("status")["network"]["connections"] == 500, 20)
        assert w.space.ask("alive") == {"ok": 500}
        assert w.rss_kib() - before < 6000
