"""The real agent as PID 1 of a real guest, under QEMU alone: no jail, no warden, no network behind the tap.

Kernel, modules, base and writable image are those of the template `minimal`; /init is the agent under test
(CAGED_AGENT, else the staged one). The link is a unix socket, so a test can hang up and come back.
"""

import json
import os
import pathlib
import secrets
import shutil
import subprocess
import tempfile
import time

import link as linklib
import product

AGENT = pathlib.Path(os.environ.get("CAGED_AGENT", product.LIBEXEC / "caged-agent"))
QEMU = "/usr/bin/qemu-system-x86_64"


def with_init(cpio, init):
    """The same newc archive with another /init."""
    out, at = bytearray(), 0
    while True:
        fields = [int(cpio[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = fields[6], fields[11]
        name = cpio[at + 110:at + 109 + name_size]
        body = at + 110 + name_size + -(110 + name_size) % 4
        data = init if name == b"init" else cpio[body:body + size]
        fields[6] = len(data)
        out += b"070701" + b"".join(b"%08X" % f for f in fields) + name + b"\0"
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
        if name == b"TRAILER!!!":
            return bytes(out)
        at = body + size + -size % 4


class BareGuest:
    def __init__(self, mem_mib=256, cpus=1, disk_mib=1024):
        images = pathlib.Path(product.default_images())
        boot = json.loads((images / "boot.json").read_text())
        build = json.loads((images / "templates/minimal.json").read_text())["build_id"]
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="caged-g-"))
        self.socket, self.console_path = self.dir / "link.sock", self.dir / "console"
        self.disk = self.dir / "disk"
        subprocess.run(["cp", "--sparse=always", images / "writable/1.ext4", self.disk], check=True)
        self.disk.chmod(0o600)
        os.truncate(self.disk, disk_mib << 20)
        initrd = self.dir / "initrd"
        initrd.write_bytes(with_init((images / "initramfs" / f"{boot['initramfs']}.cpio").read_bytes(), AGENT.read_bytes()))
        khz = subprocess.run([product.LIBEXEC / "caged-jail", "--tsc"], check=True, capture_output=True, text=True).stdout.strip()
        block = "driver=raw,file.driver=file,file.locking=off"
        self.qemu = subprocess.Popen([
            QEMU, "-M", "microvm,rtc=on,pit=off,pic=off", "-accel", "tcg,thread=multi,tb-size=32", "-cpu", "max",
            "-smp", str(cpus), "-m", str(mem_mib), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-kernel", str(images / "kernels" / boot["kernel"] / "vmlinuz"), "-initrd", str(initrd),
            "-append", f"console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on preempt=voluntary clearcpuid=cx16 tsc_early_khz={khz}",
            "-serial", f"file:{self.console_path}",
            "-chardev", f"socket,id=link,path={self.socket},server=on,wait=off",
            "-device", "virtio-serial-device,max_ports=2", "-device", "virtserialport,chardev=link,name=caged.link",
            "-blockdev", f"node-name=base,{block},read-only=on,file.read-only=on,"
                         f"file.filename={images}/templates/minimal/{build}/base.ext4",
            "-device", "virtio-blk-device,drive=base",
            "-blockdev", f"node-name=disk,{block},file.filename={self.disk}", "-device", "virtio-blk-device,drive=disk",
            "-netdev", "user,id=net,restrict=on", "-device", "virtio-net-device,netdev=net",
            "-object", "rng-builtin,id=rng", "-device", "virtio-rng-device,rng=rng"], stdin=subprocess.DEVNULL)
        product.wait_for("QEMU listens", self.socket.exists, 30)

    def link(self, setup=True, timeout=240):
        """A new connection of the host, and its `setup`."""
        link = linklib.Link.connect(self.socket)
        if setup:
            result = link.call("setup", timeout=timeout, **self.identity())
            assert "error" not in result, (result, self.console())
            link.setup = result
        return link

    @staticmethod
    def identity(hostname="guest"):
        return {"sandbox_id": "cage-test222222", "hostname": hostname, "entropy": secrets.token_hex(32),
                "wall_ns": time.time_ns(), "env": {}, "resize_disk": True}

    def console(self):
        return self.console_path.read_text(errors="replace") if self.console_path.exists() else ""

    def close(self):
        self.qemu.kill()
        self.qemu.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
