"""The same walls without root: server, wardens and the packet filter belong to an unprivileged user, in a user namespace,
and root of a real guest meets what it meets elsewhere (test_network.py has every class; here is one of each kind)."""

import os

import netlab
import outside
import product
import pytest
import rootless
from outside import GOOD, OTHER, RESOLVER, attack, curl, dns, lines, policy, raw, root

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="makes network namespaces")


@pytest.fixture(scope="module")
def server(lab):
    with rootless.server(outside.calm() + f"network:\n  resolvers: [{RESOLVER}]\n") as s:
        yield s


@pytest.fixture(scope="module")
def box(server):
    s = server.create(memory_mb=256, disk_gb=1, network={"mode": "allowlist", "allow": ["good.example"]})
    yield s
    s.destroy()


def test_an_allowlist_lets_through_what_it_names_and_nothing_else(lab, box):
    assert "caged-warden" in rootless.processes().values()
    assert "good.example reached" in curl(box, "http://good.example/host")
    assert "good.example reached" in curl(box, "https://good.example/host")
    for url in ("http://other.example/host", f"http://{OTHER}/host", f"https://{GOOD}/host", "http://10.0.0.7:8080/", "http://169.254.169.254/"):
        out = curl(box, url)
        assert "reached" not in out and "timed out" not in out, out
    asked = len(lines(lab.asked))
    for kind in (1, 16, 28, 65):
        assert dns(box, "c2VjcmV0.other.example", kind, to="1.1.1.1") == (3, 0)
    assert lines(lab.asked)[asked:] == []
    assert not raw(box, "1.1.1.1", 853, b"x") and "tcp 853" not in lines(lab.arrived)


def test_what_is_no_tcp_is_dropped_and_counted(lab, box):
    policy(box, "full")
    arrived = lines(lab.arrived)
    def dropped():
        return box.server.api("GET", box.path + "/status")["network"]["dropped_packets"]
    before = dropped()
    sent = attack(box, "datagrams", GOOD, f"{GOOD}:443", f"{GOOD}:123") + attack(box, "frames")
    assert len(sent) > 20 and {v for v, _ in sent} == {"sent"}, sent
    product.wait_for("all are counted", lambda: dropped() >= before + len(sent), 30)
    tried = attack(box, "ipv6")
    assert len(tried) >= 10 and {v for v, _ in tried} == {"held"}, tried
    assert "reached" in curl(box, f"http://{GOOD}/host")
    assert lines(lab.arrived) == arrived


def test_the_machine_itself_is_out_of_reach(box):
    policy(box, "full")
    port = box.server.url.rsplit(":", 1)[1]
    for address in ("127.0.0.1", "172.30.0.1", netlab.HOST, "host.caged.internal", "172.30.1.1"):
        out = curl(box, f"http://{address}:{port}/health")
        assert '"status"' not in out and "timed out" not in out, out
    for _ in range(3):
        assert "reached" not in curl(box, "http://10.44.0.7:8022/")
    product.wait_for("told with its address", lambda: [e for e in box.events("network") if e["data"]["event"] == "rejected" and e["data"]["address"] == "10.44.0.7"], 40)


def test_a_change_cuts_what_is_open(box):
    policy(box, "full")
    root(box, f"(exec 3<>/dev/tcp/{GOOD}/8080; echo up > /tmp/up; cat <&3 >/dev/null; echo cut > /tmp/cut) >/dev/null 2>&1 &")
    product.wait_for("it is open", lambda: root(box, "cat /tmp/up 2>/dev/null").strip() == "up", 30)
    policy(box, "none")
    product.wait_for("it is cut", lambda: root(box, "cat /tmp/cut 2>/dev/null").strip() == "cut", 30)
    assert "reached" not in curl(box, "http://good.example/host")
