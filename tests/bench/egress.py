"""What the way out costs: a real warden, and connections that a packet filter redirects to it from a network namespace, as in a
sandbox. The yardstick is the same transfer between two local sockets, by the same client and server. Under emulation a
guest's own network is far slower than either, so it has a line of its own."""

import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys

import product
import wardens

sys.path.insert(0, str(product.ROOT / "tests" / "integration"))

MB = 1_000_000
DOOR = "172.30.0.1"  # leads to this machine's loopback, where the operator's rule opens one port

# Answers "N\n" with N bytes, "ping\n" with one.
SOURCE = r"""
import socketserver, sys
class H(socketserver.StreamRequestHandler):
    def handle(self):
        block = bytes(1 << 20)
        while line := self.rfile.readline():
            if line == b"ping\n":
                self.wfile.write(b"x")
                continue
            n = int(line)
            while n > 0:
                self.wfile.write(block[:min(n, len(block))])
                n -= len(block)
class S(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
s = S((sys.argv[1], int(sys.argv[2])), H)
print("up")
s.serve_forever()
"""

# Run where the connections start; prints seconds of a download, then milliseconds of connect-and-answer, and of an answer.
CLIENT = r"""
import socket, sys, time
host, port, size, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
def connect():
    s = socket.create_connection((host, port), 30)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s
s = connect()
s.sendall(b"%d\n" % size)
begin, left = time.perf_counter(), size
buf = bytearray(1 << 20)
while left > 0:
    n = s.recv_into(buf)
    assert n > 0, "it was cut"
    left -= n
print(time.perf_counter() - begin)
answers, opens = [], []
for _ in range(rounds):
    begin = time.perf_counter()
    s.sendall(b"ping\n")
    assert s.recv(1) == b"x"
    answers.append((time.perf_counter() - begin) * 1000)
for _ in range(rounds):
    begin = time.perf_counter()
    t = connect()
    t.sendall(b"ping\n")
    assert t.recv(1) == b"x"
    opens.append((time.perf_counter() - begin) * 1000)
    t.close()
print(sorted(answers)[rounds // 2], sorted(opens)[rounds // 2])
"""


def source():
    """A server on loopback: its process and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-u", "-c", SOURCE, "127.0.0.1", str(port)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    return process, port


def client(prefix, host, port, size, rounds):
    """MB/s, and the medians of an answer and of a connection with an answer, in milliseconds."""
    done = subprocess.run([*prefix, sys.executable, "-c", CLIENT, host, str(port), str(size), str(rounds)],
                          capture_output=True, text=True, check=True)
    seconds, answer, opened = map(float, done.stdout.split())
    return size / MB / seconds, answer, opened


def through_a_warden(out, port, quick):
    import test_egress  # its namespace, redirected like a sandbox's
    size, rounds, n = ((100, 50, 1) if quick else (1000, 400, 3))
    space = test_egress.Namespace()
    fds = dict(zip((wardens.TCP, wardens.DNS, wardens.DNS_TCP), space.fds))
    network = {"allow": [f"127.0.0.1/32:{port}"], "hosts": [{"name": "host.caged.internal", "address": DOOR, "to": "127.0.0.1"}],
               "rules": {"mode": "full"}}
    inside = ["nsenter", f"--net=/proc/{space.process.pid}/ns/net"]
    ours, theirs = [], []
    try:
        with wardens.Warden(fds=fds, network=network) as warden:
            warden.start()
            ticks = cpu_ticks(warden.pid)
            for _ in range(n):  # turn and turn about
                ours.append(client(inside, DOOR, port, size * MB, rounds))
                theirs.append(client([], "127.0.0.1", port, size * MB, rounds))
            spent = (cpu_ticks(warden.pid) - ticks) / os.sysconf("SC_CLK_TCK")
    finally:
        space.close()
    a, b = (tuple(statistics.median(column) for column in zip(*runs)) for runs in (ours, theirs))
    out.add(f"egress, a download of {size} MB", f"{a[0]:.0f} MB/s, warden's CPU {spent / n / size * 1000:.2f} s a GB (all of it)",
            f"two local sockets {b[0]:.0f} MB/s", f"{a[0] / b[0]:.2f} x", mb_s=a[0], yardstick_mb_s=b[0], ratio=a[0] / b[0], cpu_s_gb=spent / n / size * 1000)
    for what, i in (("an answer", 1), ("connect and an answer", 2)):
        out.add(f"egress, {what}", f"p50 {a[i]:.3f} ms", f"two local sockets p50 {b[i]:.3f} ms", f"+{a[i] - b[i]:.3f} ms",
                p50_ms=a[i], yardstick_p50_ms=b[i], difference_ms=a[i] - b[i])


def cpu_ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


# The same in bash, which every guest has: bytes, then twenty times a byte and its answer.
SHELL = (r"TIMEFORMAT=%R; exec 3<>/dev/tcp/{0}/{1}; echo {2} >&3; time head -c {2} <&3 > /dev/null; "
         r"time for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo ping >&3; read -r -N 1 x <&3; done")


def shell_times(text, size):
    """MB/s, and milliseconds of an answer."""
    seconds, pings = map(float, re.findall(r"^[\d.]+$", text, re.M))
    return size / MB / seconds, pings * 50


def from_a_guest(out, port, quick):
    size = (10 if quick else 100) * MB
    with product.Server(config=f"network: {{allow: ['127.0.0.1/32:{port}']}}\n") as server:
        sandbox = server.create(memory_mb=256, disk_gb=1)
        done = sandbox.exec(None, argv=["/bin/bash", "-c", SHELL.format("host.caged.internal", port, size)], timeout_ms=600000)
        assert done["exit_code"] == 0, done
        sandbox.destroy()
    rate, answer = shell_times(done["stderr"], size)
    here = subprocess.run(["/bin/bash", "-c", SHELL.format("127.0.0.1", port, size)], capture_output=True, text=True, check=True)
    direct, floor = shell_times(here.stderr, size)
    out.add(f"egress from a guest, {size // MB} MB", f"{rate:.0f} MB/s", f"two local sockets, the same client {direct:.0f} MB/s", f"{rate / direct:.3f} x",
            mb_s=rate, yardstick_mb_s=direct, ratio=rate / direct)
    out.add("egress from a guest, an answer", f"mean {answer:.2f} ms", f"two local sockets, the same client {floor:.2f} ms", f"+{answer - floor:.2f} ms",
            mean_ms=answer, yardstick_ms=floor, difference_ms=answer - floor)


def measure(out, quick):
    if os.getuid() != 0 or not shutil.which("nft"):
        out.add("egress", "not measured", "needs root and nft: it makes a network namespace")
        return
    process, port = source()
    try:
        through_a_warden(out, port, quick)
        from_a_guest(out, port, quick)
    finally:
        process.kill()
        process.wait()
