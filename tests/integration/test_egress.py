"""The ways out of a sandbox, with the packet filter's redirection as in a real one: a network namespace
whose connections all land on the warden's sockets. The guest is a small program inside of it."""

import array
import fcntl
import json
import os
import random
import socket
import struct
import subprocess
import threading
import time

import pytest

import product
import wardens
from wardens import Warden

# Makes the namespace's rules and sockets, hands the sockets out, then does as told on its standard
# input: JSON lines {"do": ..., ...}; each is answered by one line.
INSIDE = r"""
import array, json, resource, socket, subprocess, struct, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
run = lambda *a, **k: subprocess.run(a, check=True, **k)
run("ip", "link", "set", "lo", "up")
run("ip", "route", "add", "local", "default", "dev", "lo")
run("nft", "-f", "-", text=True, input='''
table ip t { chain out { type nat hook output priority -100; policy accept;
  ip daddr 127.0.0.1 accept
  udp dport 53 redirect to :5353
  tcp dport 53 redirect to :5354
  meta l4proto tcp redirect to :5000
}
}
''')
def listener(port, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_INET, kind)
    s.bind(("0.0.0.0", port))
    if kind == socket.SOCK_STREAM:
        s.listen(512)
    return s
out = [listener(5000), listener(5353, socket.SOCK_DGRAM), listener(5354)]
channel = socket.socket(fileno=3)
channel.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno() for s in out]))])
for s in out:
    s.close()
def talk(host, port, send, hold=False):
    s = socket.create_connection((host, port), 10)
    s.settimeout(20)
    s.sendall(bytes.fromhex(send))
    s.shutdown(socket.SHUT_WR)
    got = b""
    while True:
        part = s.recv(65536)
        if not part:
            return got.hex()
        got += part
def query(host, hex, tcp=False, wait=10):
    data = bytes.fromhex(hex)
    if tcp:
        s = socket.create_connection((host, 53), 5)
        s.settimeout(5)
        s.sendall(struct.pack(">H", len(data)) + data)
        n, = struct.unpack(">H", s.recv(2))
        return s.recv(n).hex()
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(wait)
    s.sendto(data, (host, 53))
    return s.recv(4096).hex()
held = []
def flood(host, port, count):
    refused = 0
    for _ in range(count):
        try:
            s = socket.create_connection((host, port), 5)
            s.settimeout(5)
            s.recv(1)
        except OSError:
            refused += 1
    return refused
def hold(host, port, count, send=""):
    for _ in range(count):
        held.append(socket.create_connection((host, port), 5))
        held[-1].sendall(bytes.fromhex(send))
    return count
def late(host, port, send, wait):
    s = socket.create_connection((host, port), 10)
    s.settimeout(20)
    time.sleep(wait)
    s.sendall(bytes.fromhex(send))
    s.shutdown(socket.SHUT_WR)
    got = b""
    while part := s.recv(65536):
        got += part
    return got.hex()
def alive():
    n = 0
    for s in held:
        s.setblocking(False)
        try:
            n += s.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            n += 1
        except OSError:
            pass
    return n
for line in sys.stdin:
    ask = json.loads(line)
    try:
        answer = {"ok": globals()[ask.pop("do")](**ask)}
    except OSError as e:
        answer = {"error": type(e).__name__}
    print(json.dumps(answer), flush=True)
"""


class Namespace:
    def __init__(self):
        command = ["unshare", "-n" if os.getuid() == 0 else "-rn", "/usr/bin/python3", "-c", INSIDE]
        if subprocess.run([*command[:2], "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            pytest.skip("no network namespaces here")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        high = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD, 100)
        script = f"exec 3<&{high}; exec \"$@\""
        self.process = subprocess.Popen(["bash", "-c", script, "bash", *command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, pass_fds=[high], text=True)
        theirs.close()
        os.close(high)
        ours.settimeout(20)
        fds = array.array("i", [0, 0, 0])
        _, extra, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(fds.itemsize * 3))
        assert extra, "the namespace was not made"
        fds.frombytes(extra[0][2])
        self.fds = list(fds)[3:]
        ours.close()

    def ask(self, do, **members):
        self.process.stdin.write(json.dumps({"do": do, **members}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        for fd in self.fds:
            os.close(fd)
        self.process.kill()
        self.process.wait()


class Echo(threading.Thread):
    """A server on the host's loopback: sends back what it got once the other side has finished."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.accepted = []
        self.start()

    def run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.accepted.append(sock)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()

    def serve(self, sock):
        got = b""
        try:
            while part := sock.recv(65536):
                got += part
            sock.sendall(got[::-1])
            sock.close()
        except OSError:
            pass


@pytest.fixture
def net():
    space, echo = Namespace(), Echo()
    network = {"allow": [f"127.0.0.1/32:{echo.port}", "127.0.0.2/32"],
               "hosts": [{"name": "host.caged.internal", "address": "172.30.0.1", "to": "127.0.0.1"}]}
    fds = dict(zip((wardens.TCP, wardens.DNS, wardens.DNS_TCP), space.fds))
    with Warden(fds=fds, network=network, timeouts={"connect_ms": 1500}) as w:
        w.link = w.start()
        w.space, w.echo = space, echo
        yield w
    space.close()
    echo.close()
    for sock in echo.accepted:
        sock.close()


def network(w, event):
    return [e["data"] for e in w.record() if e["type"] == "network" and e["data"]["event"] == event]


def dns(w, event="query"):
    return [e["data"] for e in w.record() if e["type"] == "dns" and e["data"]["event"] == event]


def question(name, kind=1):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return (struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)).hex()


def test_an_allowed_address_is_dialled_and_both_ways_pass_whole(net):
    blob = random.Random(1).randbytes(3_000_000)
    got = net.space.ask("talk", host="172.30.0.1", port=net.echo.port, send=blob.hex())
    assert got == {"ok": blob[::-1].hex()}
    product.wait_for("closed in the record", lambda: network(net, "close"), 10)
    opened, closed = network(net, "open")[0], network(net, "close")[0]
    assert (opened["address"], opened["to"], opened["port"]) == ("172.30.0.1", "127.0.0.1", net.echo.port)
    assert opened["verdict"] == "allow" and opened["rule"] == f"127.0.0.1/32:{net.echo.port}"
    assert closed["conn"] == opened["conn"] and closed["reason"] == "done"
    assert closed["bytes_out"] == closed["bytes_in"] == len(blob)
    status = net.link.call("status")["network"]
    assert status["bytes_out"] == status["bytes_in"] == len(blob) and status["opened"] == 1


@pytest.mark.parametrize("host, port", [("172.30.0.1", 1), ("10.0.0.1", 80), ("169.254.169.254", 80), ("1.1.1.1", 443)])
def test_everything_else_is_reset_and_recorded(net, host, port):
    assert "error" in net.space.ask("talk", host=host, port=port, send="00" * 10)
    product.wait_for("recorded", lambda: network(net, "open"), 10)
    event = network(net, "open")[0]
    assert (event["address"], event["port"], event["verdict"]) == (host, port, "deny")
    assert net.echo.accepted == []


def test_a_refused_and_a_silent_destination_end_with_their_reason(net):
    closed_port = net.echo.port
    net.echo.close()
    assert "error" in net.space.ask("talk", host="172.30.0.1", port=closed_port, send="00")
    product.wait_for("refused", lambda: [e for e in network(net, "close") if e["reason"] == "refused"], 10)
    # a server whose queue is full answers nothing
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.2", 0))
        full.listen(0)
        for sock in (first, second):
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        assert "error" in net.space.ask("talk", host="127.0.0.2", port=full.getsockname()[1], send="00")
    product.wait_for("both told", lambda: [e["reason"] for e in network(net, "close")] == ["refused", "timeout"], 10)


def test_a_peer_that_does_not_read_holds_the_guest_back_and_costs_no_memory(net):
    before = net.rss_kib()
    silent = socket.create_server(("127.0.0.1", 0))
    net.echo.serve = lambda sock: time.sleep(30)
    assert net.space.ask("hold", host="172.30.0.1", port=net.echo.port, count=50) == {"ok": 50}
    product.wait_for("all arrived", lambda: len(net.echo.accepted) == 50, 10)
    assert net.rss_kib() - before < 3000
    silent.close()


def test_connections_are_limited_and_the_rest_is_refused(net):
    net.echo.serve = lambda sock: time.sleep(60)
    assert net.space.ask("hold", host="172.30.0.1", port=net.echo.port, count=1100) == {"ok": 1100}
    product.wait_for("settled", lambda: net.link.call("status")["network"]["opened"] +
                     net.link.call("status")["network"]["denied"] == 1100, 30)
    assert net.link.call("status")["network"]["connections"] == 1024
    assert net.space.ask("alive") == {"ok": 1024}


def test_a_flood_of_denied_connections_is_counted_exactly_and_told_briefly(net):
    assert net.space.ask("flood", host="10.9.8.7", port=443, count=1500) == {"ok": 1500}

    def told():
        return (len([e for e in network(net, "open") if e["verdict"] == "deny"]) +
                sum(e["denied"] for e in network(net, "summary")))

    product.wait_for("all are accounted for", lambda: told() == 1500, 10)
    assert len(network(net, "open")) <= 500


@pytest.mark.parametrize("tcp", [False, True])
def test_names_do_not_exist_but_the_operators(net, tcp):
    answer = bytes.fromhex(net.space.ask("query", host="8.8.8.8", hex=question("secret.data.example.com", 16), tcp=tcp)["ok"])
    assert answer[3] & 15 == 3 and answer[6:8] == b"\0\0"
    answer = bytes.fromhex(net.space.ask("query", host="9.9.9.9", hex=question("HOST.caged.internal"), tcp=tcp)["ok"])
    assert answer[3] & 15 == 0 and answer[-4:] == bytes([172, 30, 0, 1])
    answer = bytes.fromhex(net.space.ask("query", host="9.9.9.9", hex=question("host.caged.internal", 28), tcp=tcp)["ok"])
    assert answer[3] & 15 == 0 and answer[6:8] == b"\0\0"
    product.wait_for("recorded", lambda: len(dns(net)) == 3, 10)
    assert [(e["name"], e["qtype"], e["verdict"]) for e in dns(net)] == [
        ("secret.data.example.com", "TXT", "deny"), ("host.caged.internal", "A", "static"),
        ("host.caged.internal", "AAAA", "static")]
    assert {e["transport"] for e in dns(net)} == {"tcp" if tcp else "udp"}


def test_a_flood_of_queries_is_answered_and_counted(net):
    for i in range(600):
        assert "ok" in net.space.ask("query", host="8.8.8.8", hex=question(f"x{i}.example"))
    product.wait_for("all are accounted for",
                     lambda: len(dns(net)) + sum(e["queries"] for e in dns(net, "summary")) == 600, 10)
    assert len(dns(net)) < 400
    assert net.link.call("status")["network"]["dns_queries"] == 600


def test_garbage_to_the_resolver_is_counted_and_the_next_query_answered(net):
    for size in (0, 1, 11, 12, 100, 511, 512, 513, 4000):
        net.space.ask("query", host="8.8.8.8", hex=os.urandom(size).hex(), wait=0.1)
    assert "ok" in net.space.ask("query", host="8.8.8.8", hex=question("a.example"))


def test_open_connections_stand_in_the_record_when_the_sandbox_ends(net):
    net.echo.serve = lambda sock: time.sleep(60)
    net.space.ask("hold", host="172.30.0.1", port=net.echo.port, count=3)
    product.wait_for("open", lambda: len(network(net, "open")) == 3, 10)
    net.link.call("stop", grace_ms=0)
    net.wait(20)
    assert [e["reason"] for e in network(net, "close")] == ["sandbox_ended"] * 3
    assert net.record()[-1]["data"]["event"] == "destroyed"
