"""The yardstick of a boot: QEMU without jail, warden or server, with the options that the product gives it
(src/vmm/qemu/args.c), the same kernel, initramfs, base and writable image, spoken to as the warden does."""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
import socket
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


def command(disk, link_fd, accel, vcpus, mem_mib):
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
        "-object", f"memory-backend-ram,id=ram,size={mem_mib}M",
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
