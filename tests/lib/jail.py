"""The server's side of caged-jail, for tests that drive it directly (src/jail/jail.h)."""

import array
import contextlib
import ipaddress
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time

import guest
import product

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MAGIC = 0x434A4C31
START, KILL, SWEEP = 1, 2, 3
WARDEN_ENDED, VMM_ENDED, KILLED, BROKEN = 1, 2, 3, 4
NO_CGROUP, ONE_UID, NO_USERNS = 1, 2, 4
UID_BASE = 0x7A000000
NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts")
REQUEST = struct.Struct("=IIII40sIIIIQQII256s")
REPLY = struct.Struct("=IIIIiii224s")
END = struct.Struct("=IIiI")
COUNTERS = struct.Struct("=QQQQ")
REJECTED = struct.Struct("=IIQ")


def tool(name):
    """A program of the build under test."""
    for folder in (os.environ.get("CAGED_LIBEXEC"), ROOT / "stage" / "libexec" / "caged"):
        if folder and (pathlib.Path(folder) / name).exists():
            return pathlib.Path(folder) / name
    raise AssertionError(f"{name} is not built: make build")


def make_readable(folder):
    """mkdtemp makes folders for the owner only; other uids must come through here."""
    folder.chmod(0o755)
    return folder


class Kit:
    """What all tests of a run share: kernel, initramfs of the test guest, test warden."""

    def __init__(self):
        self.dir = make_readable(pathlib.Path(tempfile.mkdtemp(prefix="caged-kit-")))
        self.warden = self.dir / "warden"
        subprocess.run(["gcc", "-O1", "-w", "-o", self.warden, HERE / "warden.c"], check=True)
        self.kernel, modules = find_kernel(self.dir)
        self.initramfs = guest.build(modules, self.dir / "guest.img")

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def find_kernel(work):
    """A kernel that the product has built images with, else the one in CAGED_TEST_KERNEL (an unpacked
    kernel package), else one fetched with apt. Returns a copy anyone may read, and its modules."""
    images = pathlib.Path(product.default_images()) / "kernels"
    built = sorted(images.glob("*/vmlinuz"))
    if "CAGED_TEST_KERNEL" in os.environ:
        root = pathlib.Path(os.environ["CAGED_TEST_KERNEL"])
        found, modules = next((root / "boot").glob("vmlinuz-*")), next((root / "lib" / "modules").iterdir())
    elif built:
        found, modules = built[-1], built[-1].parent / "modules"
    else:
        names = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True, check=True)
        package = next(line.split()[1] for line in names.stdout.splitlines() if "Depends:" in line)
        subprocess.run(["apt-get", "download", package], cwd=work, check=True, capture_output=True)
        subprocess.run(["dpkg-deb", "-x", next(work.glob("*.deb")), work / "kernel"], check=True)
        found = next((work / "kernel" / "boot").glob("vmlinuz-*"))
        modules = next((work / "kernel" / "lib" / "modules").iterdir())
    kernel = work / "vmlinuz"
    shutil.copy(found, kernel)
    kernel.chmod(0o644)
    return kernel, modules


def built_images(template="minimal"):
    """Kernel, initramfs, base and writable image as `caged image build` made them; None without."""
    folder = pathlib.Path(product.default_images())
    try:
        boot = json.loads((folder / "boot.json").read_text())
        build = json.loads((folder / "templates" / f"{template}.json").read_text())["build_id"]
        base = next((folder / "templates" / template / build).glob("base.*"))
        return (folder / "kernels" / boot["kernel"] / "vmlinuz", folder / "initramfs" / (boot["initramfs"] + ".cpio"),
                base, next((folder / "writable").iterdir()))
    except (OSError, StopIteration, KeyError):
        return None


class Broker:
    """One caged-jail --broker. `wrap` goes in front of its command line, as in ["setpriv", ...]."""

    def __init__(self, kit, rootless=False, wrap=(), uid_base=UID_BASE, owner=None, run=None, warden=None):
        self.kit = kit
        self.rootless = rootless
        self.dir = make_readable(pathlib.Path(tempfile.mkdtemp(prefix="caged-j-")))
        self.run = run or self.dir / "run"
        self.run.mkdir(exist_ok=True)
        self.owner = owner
        if owner is not None:
            os.chown(self.run, owner, owner)
        self.uid_base = uid_base
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log = open(self.dir / "broker.log", "wb")
        command = [*wrap, tool("caged-jail"), "--broker", str(theirs.fileno()), "--run-dir", self.run, "--uid-base",
                   str(uid_base), "--warden", warden or kit.warden] + (["--rootless"] if rootless else [])
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=self.log, stdin=subprocess.DEVNULL)
        theirs.close()
        self.boxes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for box in self.boxes:
            box.close()
        self.sock.close()
        self.process.wait(20)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def log_text(self):
        return (self.dir / "broker.log").read_text(errors="replace")

    def send(self, op, slot=0, name="", fds=(), vcpus=1, mem_mib=256, accel=0, net=(), tsc_khz=None, disk=128 << 20, magic=MAGIC):
        packed = b"".join(struct.pack("=4sBBH", socket.inet_aton(a), p, 0, port) for a, p, port in net)
        message = REQUEST.pack(magic, REQUEST.size, op, slot, name.encode(), vcpus, mem_mib, accel, 128,
                               tsc_khz if tsc_khz is not None else tsc(), disk, len(net), 0, packed)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([message], ancillary)

    def start(self, name, slot, wait=True, **shape):
        box = Box(self, name, slot, **shape)
        self.boxes.append(box)
        if wait:
            box.started()
        return box

    def stop(self):
        """The server goes away in good order: its end of the socket closes."""
        self.sock.close()
        self.process.wait(20)

    def kill(self, name, slot=0):
        self.send(KILL, slot=slot, name=name)


_tsc = []


def tsc():
    """The TSC's rate as caged-jail measures it."""
    if not _tsc:
        text = subprocess.run([tool("caged-jail"), "--tsc"], capture_output=True, text=True, check=True).stdout
        _tsc.append(int(text))
    return _tsc[0]


class Box:
    """One sandbox: the descriptors the server gives, the reply, and the warden's own descriptors."""

    def __init__(self, broker, name, slot, disk=128 << 20, reuse=False, folder=None, images=None, config=None,
                 **shape):
        self.broker, self.name, self.slot = broker, name, slot
        self.dir = broker.dir / name
        self.rundir = broker.run / name
        self.dir.mkdir(exist_ok=reuse)
        self.rundir.mkdir(exist_ok=reuse)
        server = broker.owner if broker.rootless else broker.uid_base
        for place in (self.dir, self.rundir):
            os.chown(place, server, server)
        self.reply_sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener = socket.socket(socket.AF_UNIX)
        self.control_path = str(self.rundir / "w.sock")
        listener.bind(self.control_path + ("2" if reuse else ""))
        listener.listen(8)
        kernel, initramfs, base, image = broker.kit.kernel, broker.kit.initramfs, None, self.file("disk.img", disk)
        if images:
            kernel, initramfs, base, writable = images
            with open(writable, "rb") as f, open(image, "r+b") as g:
                shutil.copyfileobj(f, g)
        base = base or self.file("base.img", 64 << 20)
        if config is not None:
            (self.dir / "config.json").write_text(json.dumps({**config, "id": name}))
        self.console = self.file("console.log", 0)
        self.logfile = self.file("warden.log", 0)
        ro, wo = os.O_RDONLY, os.O_WRONLY | os.O_APPEND
        opened = [os.open(p, f) for p, f in ((folder or self.dir, ro), (self.rundir, ro), (kernel, ro),
                  (initramfs, ro), (base, ro), (image, os.O_RDWR), (image, ro), (self.console, wo), (self.logfile, wo))]
        broker.send(START, slot=slot, name=name, fds=[theirs.fileno(), listener.fileno(), *opened], disk=disk, **shape)
        for fd in opened:
            os.close(fd)
        theirs.close()
        listener.close()
        self.reply = self.ending = None
        self.client = None

    def file(self, name, size):
        path = self.dir / name
        with open(path, "wb") as f:
            f.truncate(size)
        return path

    def answer(self, timeout=40):
        """The keeper's reply as a dict."""
        self.reply_sock.settimeout(timeout)
        data = self.reply_sock.recv(4096)
        assert data, "the keeper ended without a reply"
        magic, ok, code, warnings, keeper, warden, vmm, text = REPLY.unpack(data)
        assert magic == MAGIC
        self.reply = {"ok": bool(ok), "code": code, "warnings": warnings, "keeper": keeper, "warden": warden,
                      "vmm": vmm, "text": text.rstrip(b"\0").decode()}
        return self.reply

    def started(self):
        reply = self.answer()
        assert reply["ok"], f"{reply['text']}\n{self.broker.log_text()}"
        self.keeper, self.warden, self.vmm = reply["keeper"], reply["warden"], reply["vmm"]
        return self

    def attach(self):
        """Takes the warden's descriptors: link, vmm, tcp, dns, dns_tcp, dir, keeper."""
        self.client = socket.socket(socket.AF_UNIX)
        self.client.settimeout(20)
        self.client.connect(self.control_path)
        size = socket.CMSG_SPACE(7 * 4)
        name, ancillary, _, _ = self.client.recvmsg(64, size)
        assert name.decode() == self.name
        fds = array.array("i")
        fds.frombytes(ancillary[0][2])
        self.link, self.qmp, self.tcp, self.dns, self.dns_tcp, folder, self.ask = (
            socket.socket(fileno=fd) if i != 5 else fd for i, fd in enumerate(fds))
        os.close(folder)
        for s in (self.link, self.qmp, self.tcp, self.dns, self.dns_tcp, self.ask):
            s.settimeout(60)
        return self

    def line(self, sock=None, timeout=90):
        sock = sock or self.link
        sock.settimeout(timeout)
        out = b""
        while not out.endswith(b"\n"):
            piece = sock.recv(1)
            assert piece, f"closed after {out!r}; console: {self.console_text()[-2000:]}; log: {self.log_text()[-2000:]}"
            out += piece
        return out.decode().rstrip("\n")

    def booted(self, timeout=120):
        self.attach()
        assert self.line(timeout=timeout) == "HELLO"
        return self

    def tell(self, command, timeout=90):
        """A command to the test guest and its answer."""
        self.link.sendall(command.encode() + b"\n")
        return self.line(timeout=timeout)

    def counters(self):
        self.ask.send(b"c")
        data = self.ask.recv(8192)
        *numbers, n = COUNTERS.unpack(data[:COUNTERS.size])
        at = [REJECTED.unpack_from(data, COUNTERS.size + i * REJECTED.size) for i in range(n)]
        return {**dict(zip(("rejected", "dropped", "bytes"), numbers)),
                "at": {(str(ipaddress.ip_address(address)), port): packets for address, port, packets in at}}

    def console_text(self):
        return self.console.read_text(errors="replace")

    def log_text(self):
        return self.logfile.read_text(errors="replace")

    def end(self, timeout=30):
        """Waits for the keeper's last message and for the socket to close."""
        self.reply_sock.settimeout(timeout)
        data = self.reply_sock.recv(4096)
        assert len(data) == END.size, data
        magic, cause, status, _ = END.unpack(data)
        assert magic == MAGIC and self.reply_sock.recv(1) == b""
        return cause, status

    def close(self):
        with contextlib.suppress(OSError):
            self.broker.kill(self.name, self.slot)
        with contextlib.suppress(OSError, AssertionError):
            self.reply_sock.settimeout(20)
            while self.reply_sock.recv(4096):
                pass


def gone(pid, timeout=20):
    deadline = time.monotonic() + timeout
    while product.alive(pid):
        assert time.monotonic() < deadline, f"process {pid} still lives"
        time.sleep(0.02)


def status_of(pid):
    """/proc/PID/status as a dict."""
    with open(f"/proc/{pid}/status") as f:
        return {k: v.strip() for k, v in (line.rstrip("\n").split(":", 1) for line in f)}


def namespaces(pid):
    return {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in NAMESPACES}
