"""A small internet of network namespaces: this thread moves into one that stands for the host (its
loopback is up, it has one way out), and `outside` has public addresses on its loopback that servers
of the test listen on. Nothing of the real network is reachable from either. Needs root."""

import ctypes
import os
import subprocess
import tempfile

CLONE_NEWNET = 0x40000000
HOST, ROUTER = "9.0.0.1", "9.0.0.2"
libc = ctypes.CDLL(None, use_errno=True)


def setns(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)


def run(*args):
    subprocess.run(args, check=True, capture_output=True)


class Lab:
    """`addresses` are the outside's. Use as a context manager, in the thread that starts things."""

    def __init__(self, addresses):
        self.addresses = addresses
        self.processes = []

    def __enter__(self):
        self.before = f"/proc/{os.getpid()}/fd/{os.open('/proc/thread-self/ns/net', os.O_RDONLY)}"
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        self.outside = f"/proc/{self.holder.pid}/ns/net"
        here = os.readlink("/proc/thread-self/ns/net")
        while os.readlink(self.outside) == here:
            pass
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "out0", "type", "veth", "peer", "name", "in0", "netns", str(self.holder.pid))
        run("ip", "addr", "add", f"{HOST}/30", "dev", "out0")
        run("ip", "link", "set", "out0", "up")
        for command in (("link", "set", "lo", "up"), ("addr", "add", f"{ROUTER}/30", "dev", "in0"),
                        ("link", "set", "in0", "up"), *(("addr", "add", f"{a}/32", "dev", "lo") for a in self.addresses)):
            run("nsenter", f"--net={self.outside}", "ip", *command)
        run("ip", "route", "add", "default", "via", ROUTER)
        return self

    def start(self, *args, **kw):
        """A process in the outside; it is ended with the lab. Its standard output is a pipe."""
        process = subprocess.Popen(["nsenter", f"--net={self.outside}", *args], stdout=subprocess.PIPE, text=True, **kw)
        self.processes.append(process)
        return process

    def python(self, source, *args, **kw):
        """A Python program in the outside, up when it has printed a line."""
        path = tempfile.NamedTemporaryFile("w", suffix=".py", delete=False)
        path.write(source)
        path.close()
        process = self.start("/usr/bin/python3", "-u", path.name, *map(str, args), **kw)
        assert process.stdout.readline(), "it did not start"
        os.unlink(path.name)
        return process

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
        setns(self.before)
        self.holder.kill()
        self.holder.wait()
        os.close(int(self.before.rsplit("/", 1)[1]))


# Answers A questions: NAME=ADDRESS[,ADDRESS] arguments, ">" between the first answer and all later ones; "*.x=..." for
# all below x. Anything it is
# asked stands in the file that is named first, one name a line.
RESOLVER = r"""
import socket, struct, sys
seen, bind, names = open(sys.argv[1], "a", buffering=1), sys.argv[2], dict(a.split("=") for a in sys.argv[3:])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((bind, 53))
print("up")
while True:
    q, who = s.recvfrom(2048)
    at, labels = 12, []
    while q[at]:
        labels.append(q[at + 1:at + 1 + q[at]].decode("latin1"))
        at += q[at] + 1
    name, (kind,) = ".".join(labels), struct.unpack(">H", q[at + 1:at + 3])
    seen.write(f"{kind} {name}\n")
    found = names.get(name) or names.get("*." + name.partition(".")[2])
    if found == "silent":
        continue
    first, turned, later = (found or "").partition(">")
    if turned:
        found, names[name] = first, later
    ttl, _, found = (found or "").rpartition("@")
    addresses = found.split(",") if found else []
    out = q[:2] + struct.pack(">HHHHH", 0x8180 if addresses else 0x8183, 1, len(addresses), 0, 0) + q[12:at + 5]
    for a in addresses:
        out += b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, int(ttl or 60), 4) + socket.inet_aton(a)
    s.sendto(out, who)
"""
