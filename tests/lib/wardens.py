"""Starts a real caged-warden with the real agent as its guest end: a plain program over a socket pair
instead of a VM. What the keeper hands over (descriptors 3 to 10) is made here."""

import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

import link as linklib
import product

WARDEN = pathlib.Path(os.environ.get("CAGED_WARDEN", product.LIBEXEC / "caged-warden"))
AGENT = pathlib.Path(os.environ.get("CAGED_AGENT", product.LIBEXEC / "caged-agent"))
ID = "cage-testtest22"
CONTROL, LINK, VMM, TCP, DNS, DNS_TCP, DIR, KEEPER = range(3, 11)


def config(**members):
    whole = {"v": 1, "id": ID, "account": "acct-aaaaaaaaaa", "template": "minimal", "hostname": "box",
             "shape": {"vcpus": 1, "mem_mib": 256, "disk_mib": 1024}, "isolation": {"accel": "none"},
             "env": {"FROM_CONFIG": "yes"}}
    whole.update(members)
    return whole


class Warden:
    """One warden; `guest` is "agent", or a socket that a test plays the guest on."""

    def __init__(self, guest="agent", fds=None, env=None, binary=None, directory=None, **members):
        self.dir = pathlib.Path(directory or tempfile.mkdtemp(prefix="cg-w-"))
        self.dir.chmod(0o755)
        if not (self.dir / "config.json").exists():
            (self.dir / "config.json").write_text(json.dumps(config(**members)))
        (self.dir / "workspace").mkdir(exist_ok=True)
        (self.dir / "workspace").chmod(0o777)
        self.agent = None
        self.links = []
        self.guest, ours = socket.socketpair()
        path = self.dir / "w.sock"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(64)
        given = {CONTROL: listener.fileno(), LINK: ours.fileno(), **(fds or {})}
        folder = os.open(self.dir, os.O_RDONLY | os.O_DIRECTORY)
        given[DIR] = folder
        log = os.open(self.dir / "warden.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        high = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200) for number, fd in {**given, 2: log}.items()}
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in high.items()]
        actions += [(os.POSIX_SPAWN_CLOSE, n) for n in range(3, 11) if n not in given]
        self.path = path
        self.pid = os.posix_spawn(str(binary or WARDEN), ["caged-warden", ID], {**os.environ, **(env or {})},
                                  file_actions=actions)
        self.code = None
        for fd in [*high.values(), folder, log]:
            os.close(fd)
        ours.close()
        listener.close()
        if guest == "agent":
            self._start_agent()

    def _start_agent(self):
        """The agent listens on a socket: it is joined to the warden's end of the pair by a pump."""
        path = self.dir / "agent.sock"
        self.agent = subprocess.Popen([str(AGENT), "--link-socket", str(path), "--workspace", str(self.dir / "workspace")],
                                      stderr=subprocess.DEVNULL)
        sock = socket.socket(socket.AF_UNIX)
        product.wait_for("the agent listens", lambda: path.exists() and sock.connect_ex(str(path)) == 0, 10)
        self.pump = subprocess.Popen(["/usr/bin/python3", "-c", PUMP, str(self.guest.fileno()), str(sock.fileno())],
                                     pass_fds=[self.guest.fileno(), sock.fileno()])
        sock.close()
        self.guest.close()

    def connect(self):
        link = linklib.Link.connect(self.path)
        self.links.append(link)
        return link

    def start(self):
        link = self.connect()
        result = link.call("start")
        assert "error" not in result, result
        return link

    def wait(self, timeout=15):
        if self.code is None:
            product.wait_for("the warden has ended", self._poll, timeout)
        return self.code

    def _poll(self):
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.code = os.waitstatus_to_exitcode(status)
        return bool(pid)

    def kill(self, sig=signal.SIGKILL):
        os.kill(self.pid, sig)
        return self.wait()

    def log(self):
        return (self.dir / "warden.log").read_text(errors="replace")

    def record(self):
        """All whole lines on disk, parsed, without segment headers."""
        lines = []
        for segment in sorted((self.dir / "record").glob("*.jsonl")):
            for line in segment.read_bytes().split(b"\n")[:-1]:
                lines.append(json.loads(line))
        return [line for line in lines if "seq" in line]

    def rss_kib(self):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for link in self.links:
            try:
                link.close()
            except OSError:
                pass
        if self.code is None and not self._poll():
            self.kill()
        if self.agent:
            for process in (self.pump, self.agent):
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


PUMP = """
import select, socket, sys
a, b = (socket.socket(fileno=int(n)) for n in sys.argv[1:])
while True:
    ready, _, _ = select.select([a, b], [], [])
    for source in ready:
        try:
            data = source.recv(1 << 16)
            if not data:
                sys.exit()
            (b if source is a else a).sendall(data)
        except OSError:
            sys.exit()
"""


def lines(link_stream):
    """What an `events` stream has brought so far, parsed."""
    whole = bytes(link_stream.out[1])
    return [json.loads(line) for line in whole.split(b"\n")[:-1]]
