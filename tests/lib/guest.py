"""Builds the test guest's initramfs: tests/lib/guest.c, static, with the virtio modules of a kernel."""

import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
WANTED = ["virtio_mmio", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng"]


def _entry(name, mode, data=b"", ino=[1]):
    ino[0] += 1
    head = "070701" + "".join(f"{v:08x}" for v in (ino[0], mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0))
    out = head.encode() + name.encode() + b"\0"
    out += b"\0" * (-len(out) % 4) + data
    return out + b"\0" * (-len(out) % 4)


def _depends(path):
    blob = path.read_bytes()
    at = blob.find(b"\0depends=")
    text = blob[at + 9 : blob.index(b"\0", at + 9)].decode() if at >= 0 else ""
    return [name for name in text.split(",") if name]


def module_order(folder):
    """Paths of the wanted modules and of what they need, each after its needs."""
    known = {p.name.removesuffix(".ko").replace("-", "_"): p for p in folder.rglob("*.ko")}
    order = []

    def add(name):
        path = known.get(name.replace("-", "_"))
        if path is None or path in order:
            return
        for need in _depends(path):
            add(need)
        order.append(path)

    for name in WANTED:
        add(name)
    return order


def build(modules, out):
    """Writes the initramfs to `out`; `modules` is the /lib/modules/<release> folder of the kernel."""
    binary = out.with_suffix(".init")
    subprocess.run(["musl-gcc", "-O1", "-static", "-s", "-idirafter", "/usr/include", "-idirafter",
                    "/usr/include/x86_64-linux-gnu", "-o", binary, HERE / "guest.c"], check=True)
    order = module_order(pathlib.Path(modules))
    archive = _entry("dev", 0o040755) + _entry("modules", 0o040755)
    archive += _entry("init", 0o100755, binary.read_bytes())
    for path in order:
        archive += _entry("modules/" + path.name, 0o100644, path.read_bytes())
    archive += _entry("modules/order", 0o100644, "".join(p.name + "\n" for p in order).encode())
    archive += _entry("TRAILER!!!", 0)
    out.write_bytes(archive)
    return out
