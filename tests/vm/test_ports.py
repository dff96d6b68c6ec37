"""Ports of a real guest from outside: what listens, connections to it, `caged forward`."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import threading

import pytest
import websockets

import product

ECHO = r"""
use IO::Socket::INET; $SIG{CHLD} = 'IGNORE'; $| = 1;
my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 64, ReuseAddr => 1) or die "listen: $!";
while (my $c = $s->accept) {
    next if fork;
    while (sysread($c, my $b, 65536)) { my $at = 0; while ($at < length $b) { $at += syswrite($c, $b, length($b) - $at, $at) // exit } }
    shutdown($c, 1); exit;
}
"""
WEB = r"""
use IO::Socket::INET; $SIG{CHLD} = 'IGNORE'; $| = 1;
my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 64, ReuseAddr => 1) or die "listen: $!";
while (my $c = $s->accept) {
    next if fork;
    my $head = ''; while ($head !~ /\r\n\r\n/ and sysread($c, my $b, 65536)) { $head .= $b }
    my $n = length $head; my $body = "guest got:\n$head";
    print $c "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-From: guest\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
    close $c; exit;
}
"""


def serve(box, name, program, port):
    box.exec(f"cat > /tmp/{name}.pl", stdin=program)
    done = box.exec(f"setsid perl /tmp/{name}.pl {port} >/tmp/{name}.log 2>&1 </dev/null & sleep 1; cat /tmp/{name}.log")
    assert done["output"] == "", done


@pytest.fixture(scope="module")
def box(server):
    s = server.create(memory_mb=256, disk_gb=1)
    serve(s, "echo", ECHO, 7777)
    serve(s, "web", WEB, 3000)
    yield s
    s.destroy()


def ports(server, box):
    return {p["port"]: p for p in server.api("GET", f"{box.path}/ports")}


async def connect(server, box, port):
    ticket = server.api("POST", "/v1/auth/socket-ticket")["ticket"]
    url = server.url.replace("http", "ws") + f"{box.path}/ports/{port}/connect?token={ticket}"
    return await websockets.connect(url, subprotocols=["tcp"], max_size=None)


@contextlib.contextmanager
def forward(server, box, *words):
    """`caged forward`, its local ports in the order of words."""
    process = subprocess.Popen([str(product.CAGED), "forward", box.id, *words], env=server.env, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield [int(process.stdout.readline().split(" -> ")[0].rsplit(":", 1)[1]) for _ in words], process
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def read_all(sock):
    out = b""
    while chunk := sock.recv(1 << 16):
        out += chunk
    return out


def test_a_listener_on_loopback_is_listed_and_its_end_as_well(server, box):
    product.wait_for("both are listed", lambda: {7777, 3000} <= ports(server, box).keys(), 60)
    assert ports(server, box)[3000]["protocol"] == "http"
    assert ports(server, box)[7777]["protocol"] == "tcp" and ports(server, box)[7777]["preview_url"] is None
    shown = server.cli("ports", box.id).stdout
    assert shown.startswith("PORT") and "\n7777 " in shown and "perl" in shown
    assert [p for p in json.loads(server.cli("ports", box.id, "--json").stdout) if p["port"] == 7777]
    serve(box, "short", ECHO, 7790)
    product.wait_for("it is listed", lambda: 7790 in ports(server, box), 60)
    box.exec("pkill -f short.pl || kill $(ps ax | awk '/short.pl/ && !/awk/ {print $1}')")
    product.wait_for("it is listed no more", lambda: 7790 not in ports(server, box), 60)


def test_bytes_go_both_ways_and_each_direction_ends_on_its_own(server, box):
    async def go():
        ws = await connect(server, box, 7777)
        assert json.loads(await ws.recv()) == {"type": "connected"}
        await ws.send(b"\x00\xffhello")
        assert await ws.recv() == b"\x00\xffhello"
        await ws.send(json.dumps({"type": "eof"}))
        assert json.loads(await ws.recv()) == {"type": "eof"}  # the echo server answers our end with its own
        with pytest.raises(websockets.ConnectionClosed):
            while True:
                await ws.recv()
        return ws.close_code

    assert asyncio.run(go()) == 1000


def test_a_port_where_nothing_listens_is_refused_by_name(server, box):
    async def go():
        ws = await connect(server, box, 7999)
        said = json.loads(await ws.recv())
        assert said["type"] == "error" and "7999" in said["message"] and "refused" in said["message"].lower()
        with pytest.raises(websockets.ConnectionClosed):
            await ws.recv()

    asyncio.run(go())


@pytest.mark.parametrize("port", ["0", "65536", "-1", "03000", "http", "3000x"])
def test_what_is_no_port_is_refused(server, box, port):
    response = server.call("GET", f"{box.path}/ports/{port}/connect")
    assert response.status_code == 400 and "port" in response.json()["detail"]


def test_a_plain_request_is_told_to_upgrade(server, box):
    assert server.call("GET", f"{box.path}/ports/3000/connect").status_code == 426


def test_forward_carries_a_megabyte_there_and_back(server, box):
    data = os.urandom(1 << 20)
    with forward(server, box, "7777:0") as ((local,), _):
        with socket.create_connection(("127.0.0.1", local)) as s:
            def send():
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
            sender = threading.Thread(target=send)
            sender.start()
            s.settimeout(120)
            back = read_all(s)
            sender.join()
    assert len(back) == len(data) and hashlib.sha256(back).digest() == hashlib.sha256(data).digest()


def test_forward_serves_several_ports_and_connections_at_once(server, box):
    with forward(server, box, "7777:0", "3000:0") as ((echo, web), _):
        idle = [socket.create_connection(("127.0.0.1", echo)) for _ in range(4)]
        with socket.create_connection(("127.0.0.1", web)) as s:
            s.settimeout(60)
            s.sendall(b"GET /x?y HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = read_all(s)
        assert b"X-From: guest" in answer and b"GET /x?y HTTP/1.1" in answer
        for n, s in enumerate(idle):
            s.settimeout(60)
            s.sendall(b"n%d" % n)
            assert s.recv(16) == b"n%d" % n
            s.close()


def test_forward_to_a_dead_port_resets_the_connection_and_says_why(server, box):
    with forward(server, box, "7999:0") as ((local,), process):
        with socket.create_connection(("127.0.0.1", local)) as s:
            s.settimeout(60)
            with pytest.raises(ConnectionResetError):
                s.recv(1)
        assert "7999" in process.stderr.readline()


def test_forward_refuses_what_it_does_not_understand(server, box):
    assert server.cli("forward", box.id, check=False).returncode == 2
    assert server.cli("forward", box.id, "99999", check=False).returncode == 2
    gone = server.cli("forward", "cage-aaaaaaaaaa", "3000:0", check=False)
    assert gone.returncode == 1 and "cage-aaaaaaaaaa" in gone.stderr


def test_a_connection_is_in_the_record(server, box):
    product.wait_for("it is recorded", lambda: [e for e in box.events("network")
                                                if e["data"].get("event") == "dial" and e["data"]["port"] == 7777], 20)
