"""The yardstick of a boot: QEMU without jail, warden or server, with the options that the product gives it
(src/vmm/qemu/args.c), the same kernel, initramfs, base and writable image, spoken to as the warden does."""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
import time

import link as linklib
import product

QEMU = "/usr/bin/qemu-system-x86_64"


def boot_files(template="minimal"):
    """Kernel, initramfs, base and empty writable image, as the next sandbox would get them."""
    images = pathlib.Path(product.default_images())
    boot = json.loads((images / "boot.json").read_text())
    build = json.loads((images / "templates" / f"{template}.json").read_text())["build_id"]
    return (images / "kernels" / boot["kernel"] / "vmlinuz", images / "initramfs" / f"{boot['initramfs']}.cpio",
            images / "templates" / template / build / "base.ext4", images / "writable" / "1.ext4")


def tsc_khz():
    """0 when the host does not say."""
    done = subprocess.run([product.LIBEXEC / "caged-jail", "--tsc"], capture_output=True, text=True)
    return int(done.stdout.strip() or 0) if done.returncode == 0 else 0


def command(disk, link_fd, accel, vcpus, mem_mib, ram="memory-backend-ram", more=()):
    kernel, initramfs, base, _ = boot_files()
    kvm, tsc = accel == "kvm", tsc_khz()
    steady = "" if kvm or " nonstop_tsc" not in pathlib.Path("/proc/cpuinfo").read_text() else " tsc=reliable"
    block = "driver=raw,file.driver=file,file.locking=off"
    tb_size = 32 if mem_mib <= 512 else 128 if mem_mib <= 2048 else 256
    append = ("console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on preempt=voluntary"
              + (f" tsc_early_khz={tsc}{steady}" if tsc else "") + ("" if kvm else " clearcpuid=cx16"))
    return [
        QEMU, "-M", "microvm,rtc=on,pit=off,pic=off,memory-backend=ram", "-nodefaults", "-no-user-config", "-no-reboot",
        "-display", "none", "-accel", "kvm" if kvm else f"tcg,thread=multi,tb-size={tb_size}",
        "-cpu", "host" if kvm else "max", "-smp", str(vcpus), "-m", str(mem_mib),
        "-object", f"{ram},id=ram,size={mem_mib}M", *more,
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-kernel", str(kernel), "-initrd", str(initramfs), "-append", append,
        "-chardev", "null,id=console", "-serial", "chardev:console",
        "-chardev", f"socket,id=link,fd={link_fd}", "-device", "virtio-serial-device,max_ports=2",
        "-device", "virtserialport,chardev=link,name=caged.link",
        "-blockdev", f"node-name=base,{block},read-only=on,file.read-only=on,file.filename={base}",
        "-device", "virtio-blk-device,id=base,drive=base,serial=caged-base",
        "-blockdev", f"node-name=disk,{block},discard=unmap,file.discard=unmap,file.filename={disk}",
        "-device", "virtio-blk-device,id=disk,drive=disk,serial=caged-disk",
        "-object", "rng-builtin,id=rng", "-device", "virtio-rng-device,rng=rng"]


def boot_seconds(accel, vcpus, mem_mib, disk_gb):
    """From the copy of the writable image to the agent's answer to setup."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="caged-bench-"))
    ours, theirs = socket.socketpair()
    qemu = None
    try:
        begin = time.perf_counter()
        disk = folder / "disk"
        subprocess.run(["cp", "--sparse=always", boot_files()[3], disk], check=True)
        disk.chmod(0o600)
        os.truncate(disk, disk_gb << 30)
        with (folder / "errors").open("w") as errors:
            qemu = subprocess.Popen(command(disk, theirs.fileno(), accel, vcpus, mem_mib), pass_fds=[theirs.fileno()],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        theirs.close()
        setup = {"sandbox_id": "cage-bench22222", "hostname": "bench", "entropy": secrets.token_hex(32),
                 "wall_ns": time.time_ns(), "env": {}, "resize_disk": True}
        try:
            result = linklib.Link(ours).call("setup", timeout=240, **setup)
        except (OSError, linklib.Closed) as error:
            raise AssertionError(f"bare QEMU: {error}; {(folder / 'errors').read_text()[-500:]}") from error
        taken = time.perf_counter() - begin
        assert "error" not in result, result
        return taken
    finally:
        if qemu:
            qemu.kill()
            qemu.wait()
        with contextlib.suppress(OSError):
            ours.close()
        shutil.rmtree(folder, ignore_errors=True)


# --- restore ---


class Qmp:
    def __init__(self, sock):
        self.sock, self.lines = sock, sock.makefile("r")
        self.next()
        self.ask("qmp_capabilities")

    def next(self):
        return json.loads(self.lines.readline())

    def ask(self, name, fd=None, **arguments):
        text = json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n"
        socket.send_fds(self.sock, [text], [fd] if fd is not None else [])
        while True:
            answer = self.next()
            if "error" in answer:
                raise RuntimeError(f"{name}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def move(self, name, fd):
        """A save or a restore, to its end."""
        self.ask("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True},
                                                           {"capability": "x-ignore-shared", "state": True}])
        self.ask("getfd", fd=fd, fdname="state")
        text = json.dumps({"execute": name, "arguments": {"uri": "fd:state"}}).encode() + b"\n"
        self.sock.sendall(text)
        while True:
            status = self.next().get("data", {}).get("status")
            if status in ("completed", "failed"):
                assert status == "completed", name
                break
        while self.ask("query-status")["status"] == "finish-migrate":
            pass


class Wire:
    """The link, one thing after the other and without threads: nothing but the guest is measured."""

    def __init__(self, sock):
        self.sock, self.streams = sock, 0
        sock.settimeout(60)

    def read(self, n):
        got = b""
        while len(got) < n:
            more = self.sock.recv(n - len(got))
            assert more, "the link has ended"
            got += more
        return got

    def write(self, stream, kind, payload):
        self.sock.sendall(struct.pack("<IHBB", len(payload), stream, kind, 0) + payload)

    def reset(self):
        """Takes the guest over, whatever was said before; to the agent's first word."""
        nonce = secrets.token_bytes(16)
        self.write(0, linklib.RESET, nonce)
        seen = b""
        while not seen.endswith(nonce):
            seen += self.read(1)

    def call(self, kind, **members):
        self.streams += 1
        self.write(self.streams, linklib.OPEN, json.dumps({"kind": kind, **members}).encode())
        while True:
            length, stream, frame, _ = struct.unpack("<IHBB", self.read(8))
            payload = self.read(length)
            if stream == self.streams and frame == linklib.CLOSE:
                return json.loads(payload)

    def begin(self, resize, **more):
        self.reset()
        self.streams = 0
        self.write(0, linklib.HELLO, b'{"v":1}')
        done = self.call("setup", sandbox_id="cage-bench22222", hostname="bench", entropy=secrets.token_hex(32),
                         wall_ns=time.time_ns(), env={}, resize_disk=resize, **more)
        assert "error" not in done, done

    def true(self):
        done = self.call("exec", argv=["/bin/true"], env={})
        assert done.get("exit_code") == 0, done


class Saved:
    """A guest of bare QEMU, saved as it waits for `setup`: the yardstick of a golden snapshot."""

    def __init__(self, accel, vcpus, mem_mib):
        self.shape = (accel, vcpus, mem_mib)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="caged-bench-", dir="/dev/shm"))
        with (self.folder / "ram").open("wb") as ram:
            ram.truncate(mem_mib << 20)
        subprocess.run(["cp", "--sparse=always", boot_files()[3], self.folder / "disk"], check=True)
        (self.folder / "disk").chmod(0o600)
        qemu, qmp, link = self.launch(self.folder / "disk", "on", ())
        with qemu:
            agent = linklib.Link(link)
            product.wait_for("the agent answers", lambda: agent.hello, 240)
            time.sleep(0.5)
            qmp.ask("stop")
            with (self.folder / "state").open("wb") as state:
                qmp.move("migrate", state.fileno())
            qemu.kill()

    def launch(self, disk, share, more):
        accel, vcpus, mem_mib = self.shape
        ours, theirs = socket.socketpair()
        link, link_theirs = socket.socketpair()
        ram = f"memory-backend-file,mem-path={self.folder}/ram,share={share}"
        arguments = command(disk, link_theirs.fileno(), accel, vcpus, mem_mib, ram,
                            ("-chardev", f"socket,id=control,fd={theirs.fileno()}", "-mon", "chardev=control,mode=control", *more))
        qemu = subprocess.Popen(arguments, pass_fds=[link_theirs.fileno(), theirs.fileno()], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        theirs.close()
        link_theirs.close()
        return qemu, Qmp(ours), link

    @contextlib.contextmanager
    def spawned(self):
        """A VMM that waits for a state, its disk beside it."""
        disk = self.folder / "clone"
        subprocess.run(["cp", "--sparse=always", self.folder / "disk", disk], check=True)
        qemu, qmp, link = self.launch(disk, "off", ("-S", "-incoming", "defer"))
        with qemu:
            try:
                yield qemu, qmp, Wire(link)
            finally:
                qemu.kill()

    def restore(self, qmp):
        with (self.folder / "state").open("rb") as state:
            qmp.move("migrate-incoming", state.fileno())
        qmp.ask("cont")

    def restore_seconds(self, look=None):
        """Of a VMM that waits: the state, and the first word of the guest's agent. look(pid) comes after a command."""
        with self.spawned() as (qemu, qmp, wire):
            begin = time.perf_counter()
            self.restore(qmp)
            wire.reset()
            took = time.perf_counter() - begin
            if look:
                wire.begin(False)
                wire.true()
                look(qemu.pid)
        return took

    def warm_seconds(self):
        """Of a VMM whose guest was restored, has done the same before and stands still, as the product's spares do:
        cont, setup, one command. This much of a create is the VMM's and the guest's."""
        with self.spawned() as (_, qmp, wire):
            self.restore(qmp)
            wire.begin(False, warm=True)
            wire.true()
            wire.true()
            time.sleep(0.1)
            qmp.ask("stop")
            time.sleep(1)
            begin = time.perf_counter()
            qmp.ask("cont")
            wire.begin(False)
            wire.true()
            return time.perf_counter() - begin

    def forget(self):
        shutil.rmtree(self.folder, ignore_errors=True)
