"""The observation alone, in a real guest with a kernel of the product: storms of known size, counted.

Self-contained on purpose: a test init (guest/testprogs/observe_init.c) takes the agent's place, so that
loss, stall and detachment can be made to happen. Everything told or lost must add up exactly.
"""

import io
import json
import lzma
import pathlib
import re
import shutil
import subprocess

import pytest

import product

ROOT = product.ROOT
MODULES = ("virtio", "virtio_ring", "virtio_mmio", "virtio_blk", "overlay")
BASE = [ROOT / "src/base" / f"{name}.c" for name in ("defs", "err", "buf", "fs", "fd", "json", "jsonw", "clock")]

TSC = r"""
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>
int main(void)
{
    struct timespec a, b;
    unsigned long long from, ns;
    clock_gettime(CLOCK_MONOTONIC_RAW, &a);
    from = __rdtsc();
    do {
        clock_gettime(CLOCK_MONOTONIC_RAW, &b);
        ns = (unsigned long long)((b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec);
    } while (ns < 100000000);
    printf("%llu\n", (__rdtsc() - from) * 1000000 / ns);
}
"""


def sh(*words, **more):
    subprocess.run([str(w) for w in words], check=True, **more)


def cpio(files):
    """An archive in the kernel's newc format of {name: bytes, or None for a folder}."""
    out = io.BytesIO()
    for number, (name, data) in enumerate([*files.items(), ("TRAILER!!!", b"")], 1):
        mode = 0o40755 if data is None else 0o100755
        data, path = data or b"", name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        out.write(b"070701" + b"".join(b"%08x" % f for f in fields) + path)
        out.write(b"\0" * (-out.tell() % 4) + data)
        out.write(b"\0" * (-out.tell() % 4))
    return out.getvalue()


class Guest:
    def __init__(self, folder, kernel):
        self.folder, self.kernel = folder, kernel
        self.build()

    def build(self):
        bpf = self.folder / "bpf"
        sh(ROOT / "scripts/build-bpf", bpf)
        programs = ROOT / "guest/testprogs"
        sh("musl-gcc", "-std=c17", "-D_GNU_SOURCE", "-O2", "-static", f"-I{ROOT}/src", f"-I{ROOT}", "-isystem", bpf,
           "-idirafter", bpf / "uapi", "-o", self.folder / "init", programs / "observe_init.c", programs / "storms.c",
           *sorted((ROOT / "guest/bpf").glob("*.c")), *BASE)
        sh("gcc", "-O2", "-static", "-nostdlib", "-ffreestanding", "-o", self.folder / "true", programs / "true.c")
        files = {"modules": None, "init": (self.folder / "init").read_bytes(), "true": (self.folder / "true").read_bytes()}
        for path in (self.kernel / "modules").rglob("*.ko*"):
            name = path.name.split(".")[0]
            if name in MODULES:
                data = path.read_bytes()
                files[f"modules/{name}.ko"] = lzma.decompress(data) if path.suffix == ".xz" else data
        (self.folder / "initrd").write_bytes(cpio(files))
        (self.folder / "tsc.c").write_text(TSC)
        sh("gcc", "-O2", "-o", self.folder / "tsc", self.folder / "tsc.c")
        for name in ("upper", "work", "workspace"):
            (self.folder / "disk.d" / name).mkdir(parents=True)

    def storms(self, *what, cpus=1, timeout=900):
        """Boots, runs the storms and returns (what start said, [a report for each], all lines)."""
        disk = self.folder / "disk"
        disk.unlink(missing_ok=True)
        with disk.open("wb") as f:
            f.truncate(1 << 30)
        sh("/sbin/mke2fs", "-q", "-t", "ext4", "-d", self.folder / "disk.d", disk)
        khz = subprocess.run([self.folder / "tsc"], check=True, capture_output=True, text=True).stdout.strip()
        words = (f"tsc_early_khz={khz} clearcpuid=cx16 preempt=voluntary console=ttyS0 panic=-1 quiet "
                 f"storms={','.join(what)}")
        done = subprocess.run(
            ["qemu-system-x86_64", "-M", "microvm,rtc=on,pit=off,pic=off", "-accel", "tcg", "-cpu", "max", "-m", "512",
             "-smp", str(cpus), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
             "-kernel", self.kernel / "vmlinuz", "-initrd", self.folder / "initrd", "-append", words,
             "-drive", f"id=d0,file={disk},format=raw,if=none", "-device", "virtio-blk-device,drive=d0"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
        text = done.stdout.decode(errors="replace")
        said = [json.loads(line) for line in re.findall(r"^(\{.*\})\r?$", text, re.M)]
        assert said and said[-1] == {"done": True}, text[-3000:]
        lines = [json.loads(line) for line in re.findall(r"^line (\{.*\})\r?$", text, re.M)]
        return said[0], said[1:-1], lines


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    kernels = sorted(pathlib.Path(product.default_images()).glob("kernels/*/vmlinuz"))
    if not kernels:
        pytest.skip("no kernel yet: caged image build minimal")
    for tool in ("musl-gcc", "qemu-system-x86_64", "clang"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is missing: make setup")
    return Guest(tmp_path_factory.mktemp("observe"), kernels[-1].parent)


def lost(report, kind):
    return sum(n for key, n in report.items() if re.fullmatch(rf"lost\.\w+\.{kind}", key))


def check(report, **counts):
    """The storm went well, its lines are valid, the kernel's sums agree, and the counts are these."""
    assert report["status"] == 0, report
    assert report["bad"] == 0, report
    beat = report["beat"]
    for kind, seen in beat["seen"].items():
        assert seen == beat["told"][kind] + beat["lost"][kind], (kind, beat)
    if not lost(report, "file"):
        told = {key[5:].replace(".", "_"): n for key, n in report.items() if key.startswith("file.")}
        assert told == {key: n for key, n in counts.items() if n}, report


def test_every_exec_and_every_file_is_told_or_counted_as_lost(guest):
    start, (execs, workspace, overlay), _ = guest.storms("execs:10000", "tree_workspace:50000", "tree_overlay:50000")
    assert start["exec"] and start["file"] and start["more"] and start["security"], start
    assert execs["numbers"] + lost(execs, "exec") == 10000
    assert execs["exec"] + lost(execs, "exec") == 10000
    assert execs["exit"] + lost(execs, "exit") == 10001
    check(execs)
    for report, place in ((workspace, "workspace"), (overlay, "overlay")):
        check(report, **{f"mkdir_{place}": 500, f"create_{place}": 50000, f"write_{place}": 50000,
                         f"delete_{place}": 50000, f"rmdir_{place}": 500})
        told = sum(n for key, n in report.items() if key.startswith("file."))
        assert told + lost(report, "file") == 151000


def test_rarer_changes_are_told_once_each_with_their_result(guest):
    _, reports, lines = guest.storms("renames:2000", "tmpfiles:500", "mappings:500", "oddities:100", "noise:200",
                                     "forks:7", "endings:60:show", "depths:30", cpus=2)
    renames, tmpfiles, mappings, oddities, noise, forks, endings, depths = reports
    check(renames, rename_workspace=2001, rename_overlay=2000, create_workspace=2, write_workspace=2,
          create_overlay=1, write_overlay=1)
    check(tmpfiles, create_workspace=500, write_workspace=500)
    check(mappings, **{f"{op}_{place}": 250 for op in ("create", "truncate", "write") for place in ("workspace", "overlay")})
    each = {"create": 100, "write": 50, "link": 50, "symlink": 50, "mknod": 50, "truncate": 50, "chmod": 50, "chown": 50,
            "delete": 250}
    check(oddities, **{f"{op}_{place}": n for op, n in each.items() for place in ("workspace", "overlay")})
    check(noise)
    check(forks)
    assert forks["exit"] == 2**8 - 1
    check(depths, mkdir_workspace=20, mkdir_other=10, create_other=1, write_other=1, delete_other=1, rmdir_other=10,
          rmdir_workspace=20)
    check(endings)
    # a process whose first thread left early ends once, with the code of the last (as waitpid says)
    ends = [(e["code"], e["signal"]) for e in lines if e["e"] == "exit"]
    assert sorted(ends, key=str) == sorted([(137, "KILL"), (0, None), (42, None)] * 20 + [(0, None)], key=str)


def test_what_the_ring_or_the_link_cannot_take_is_counted_exactly(guest):
    _, (tree, execs, full), _ = guest.storms("tree_workspace:20000:stall", "execs:2000:stall", "execs:200:full")
    assert tree["lost.ring_full.file"] > 0
    assert sum(n for key, n in tree.items() if key.startswith("file.")) + lost(tree, "file") == 60400
    check(tree)
    # a storm of files has displaced no command
    assert execs["numbers"] == 2000 and not lost(execs, "exec")
    assert full["exec"] + full["lost.link_full.exec"] == 200
    assert full["exit"] + full["lost.link_full.exit"] == 201
    check(full)


def test_hooks_that_stop_running_are_told_as_detached(guest):
    _, (broken, again), lines = guest.storms("oddities:2:break", "execs:10:show")
    gaps = [line for line in lines if line["e"] == "gap"]
    assert [g["reason"] for g in gaps] == ["detached"]
    assert {"open", "close", "unlink", "rename_out", "exit", "ptrace", "mount"} <= set(gaps[0]["hooks"])
    assert "exec" not in gaps[0]["hooks"]
    assert broken["gap.detached"] == 1 and "gap.detached" not in again


def test_root_that_moves_the_rings_and_resets_the_maps_hides_nothing(guest):
    _, (thefts, after), _ = guest.storms("thefts:200", "noise:5", cpus=2)
    assert thefts["bpf"] > 100
    told = sum(n for key, n in thefts.items() if key.startswith("file."))
    assert told + lost(thefts, "file") == 400
    check(thefts, create_workspace=200, write_workspace=200)
    check(after)


def test_hostile_names_stay_one_valid_line_and_rare_acts_are_told(guest):
    _, (names, security), lines = guest.storms("names:1:show", "security:1:show")
    check(names, create_workspace=8, write_workspace=8)
    created = [e["path"] for e in lines if e["e"] == "file" and e["op"] == "create"]
    for name in ("new\nline", "esc\x1b[31mred", "bidi\u202etxt.exe", "\ufffd\ufffd raw", 'quo"te\\back', '{"e":"exec"}'):
        assert f"/workspace/{name}" in created
        assert [name, "", "last"] in [e["argv"] for e in lines if e["e"] == "exec"]
    assert security["status"] == 0 and security["bad"] == 0
    found = {kind: [e for e in lines if e["e"] == kind] for kind in ("conn", "mount", "ptrace", "setuid", "bpf", "exec")}
    assert [(c["family"], c["address"], c["port"], c["protocol"]) for c in found["conn"]] == [
        ("ipv4", "127.0.0.1", 4242, "tcp"), ("ipv4", "127.0.0.1", 4242, "udp"), ("ipv6", "::1", 4343, "tcp")]
    assert [(m["path"], m["type"], m["source"]) for m in found["mount"]] == [("/workspace/mnt", "tmpfs", "storm")]
    assert sum("tracer" in p for p in found["ptrace"]) == 1 and sum("target" in p for p in found["ptrace"]) == 1
    assert [(s["from"], s["to"]) for s in found["setuid"]] == [(0, 1000)]
    assert [b["command"] for b in found["bpf"]] == [11]
    assert any(e["exe"] == "memfd:in-memory" for e in found["exec"])
