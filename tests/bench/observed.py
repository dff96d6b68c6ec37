"""What it costs a guest to be watched, and how fast what it does becomes durable: an untar of many small files and a
build by make and gcc, turn about with the hooks for files and connections on and off (ftrace_enabled in the guest; those for
commands stay). Times are the guest's own. The compiler is this machine's, carried into the guest: both are of one release."""

import io
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))

import product  # noqa: E402

TOOLS = ("gcc-12", "cpp-12", "binutils", "binutils-x86-64-linux-gnu", "libbinutils", "libctf0", "libctf-nobfd0", "libisl23", "libmpc3", "libmpfr6",
         "libgmp10", "libjansson4", "libzstd1", "zlib1g", "libc6-dev", "linux-libc-dev", "libgcc-12-dev", "make")
LEFT_OUT = re.compile(r"/usr/share/|/lto1$|/lto-wrapper$|/libasan|/libtsan|/liblsan|/libubsan|/gdb")
MAKEFILE = "objects := $(patsubst %.c,%.o,$(wildcard src/base/*.c src/link/*.c))\nall: $(objects)\n" \
           "%.o: %.c\n\tx86_64-linux-gnu-gcc-12 -std=c17 -D_GNU_SOURCE -O2 -Isrc -c -o $@ $<\nclean:\n\trm -f $(objects)\n"


def calm(folder):
    """Nobody is paused for what is switched off here."""
    rules = folder / "calm.yaml"
    text = (ROOT / "data/trust/default.yaml").read_text()
    rules.write_text(re.sub(r"pause: \d+", "pause: 0", text, count=1))
    rules.chmod(0o644)
    return f"trust: {{rules: {rules}}}\n"


def put(server, sandbox, path, data):
    server.http.put(f"{sandbox.path}/files/archive", params={"path": path}, content=data).raise_for_status()


def many_files(n):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as outer:
        inner = io.BytesIO()
        with tarfile.open(fileobj=inner, mode="w") as archive:
            for i in range(n):
                head = tarfile.TarInfo(f"many/{i % 100}/{i}.txt")
                head.size = 100
                archive.addfile(head, io.BytesIO(b"x" * 100))
        head = tarfile.TarInfo("many.tar")
        head.size = inner.tell()
        inner.seek(0)
        outer.addfile(head, inner)
    return made.getvalue()


def project():
    """The sources, a Makefile, and the tools as an archive within."""
    made, tools = io.BytesIO(), io.BytesIO()
    listed = subprocess.run(["dpkg", "-L", *TOOLS], capture_output=True, text=True, check=True).stdout.split("\n")
    with tarfile.open(fileobj=tools, mode="w") as archive:
        for name in sorted(set(listed)):
            if name and not LEFT_OUT.search(name) and os.path.lexists(name) and not os.path.isdir(name):
                archive.add(name, recursive=False)
    with tarfile.open(fileobj=made, mode="w") as archive:
        for folder in ("src/base", "src/link"):
            for path in sorted((ROOT / folder).glob("*.[ch]")):
                archive.add(path, f"{folder}/{path.name}")
        for name, data in (("Makefile", MAKEFILE.encode()), ("tools.tar", tools.getvalue())):
            head = tarfile.TarInfo(name)
            head.size = len(data)
            archive.addfile(head, io.BytesIO(data))
    return made.getvalue()


def turns(sandbox, command, clean, rounds):
    """Seconds of the command, observed and not, turn about; the first of each is not counted."""
    took = {True: [], False: []}
    for i in range(rounds + 1):
        for on in (True, False):
            sandbox.run(f"echo {int(on)} > /proc/sys/kernel/ftrace_enabled; {clean}", user="root", timeout_ms=600000)
            done = sandbox.exec(command, timeout_ms=1800000)
            assert done["exit_code"] == 0, done
            if i > 0:
                took[on].append(done["duration_ms"] / 1000)
    sandbox.run("echo 1 > /proc/sys/kernel/ftrace_enabled", user="root")
    return took


def compare(out, what, took, target):
    on, off = (statistics.median(took[k]) for k in (True, False))
    out.add(what, f"{on:.2f} s observed", f"the same with the hooks off {off:.2f} s", f"{100 * (on / off - 1):+.1f} % (target {target} %)",
            observed_s=on, unobserved_s=off, longer_percent=100 * (on / off - 1))


def durable(out, server, sandbox, n):
    """Events from the guest to the disk: when the command is answered, all that it did is there."""
    def now():
        status = server.api("GET", f"{sandbox.path}/status")
        return status["seq"], status["record"]["bytes"]
    sandbox.run("rm -rf many; sync", timeout_ms=600000)
    seq, size = now()
    done = sandbox.exec("tar xf many.tar", timeout_ms=1800000)
    after, grown = now()
    seconds = done["duration_ms"] / 1000
    out.add("guest to durable", f"{(after - seq) / seconds / 1000:.1f} k events/s", f"the untar of {n:,} files itself, {n / seconds / 1000:.1f} k/s",
            f"{(grown - size) / (after - seq):.0f} bytes an event before it is packed", events_s=(after - seq) / seconds, files_s=n / seconds,
            plain_bytes_event=(grown - size) / (after - seq))


def packed(out, server, sandbox):
    """What a finished record takes on disk: packed segments, seals and leaves."""
    seq = server.api("GET", f"{sandbox.path}/status")["seq"]
    sandbox.destroy()
    record = server.state / "archive" / sandbox.id / "record"
    product.wait_for("the record is packed", lambda: list(record.glob("*.zst")) and not list(record.glob("*.jsonl")), 120)
    size = sum(p.stat().st_size for p in record.iterdir() if p.is_file())
    plain = sum(int(subprocess.run(f"zstdcat {p} | wc -c", shell=True, capture_output=True, text=True, check=True).stdout) for p in record.glob("*.zst"))
    out.add("bytes an event at rest", f"{size / seq:.1f} of {seq:,} events, with seals", f"the same lines plain {plain / seq:.0f}", f"{size / plain:.2f} x (target 120 bytes)",
            bytes_event=size / seq, plain_bytes_event=plain / seq)


def measure(out, quick):
    n, rounds = (5_000, 1) if quick else (50_000, 3)
    with tempfile.TemporaryDirectory(prefix="caged-bench-") as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        with product.Server(config=calm(folder)) as server:
            sandbox = server.create(memory_mb=1024, cpus=1, disk_gb=5)
            put(server, sandbox, "/workspace", many_files(n))
            compare(out, f"untar of {n:,} files", turns(sandbox, "tar xf many.tar", "rm -rf /workspace/many; sync", rounds), 10)
            durable(out, server, sandbox, n)
            packed(out, server, sandbox)
            sandbox = server.create(memory_mb=1024, cpus=1, disk_gb=5)
            put(server, sandbox, "/workspace", project())
            sandbox.run("tar -C / -xf /workspace/tools.tar && ldconfig", user="root", timeout_ms=600000)
            compare(out, "build by make and gcc", turns(sandbox, "make -s", "make -s clean; sync", rounds), 5)
            sandbox.destroy()


if __name__ == "__main__":
    import report
    quick = os.environ.get("BENCH") == "quick"
    table = report.Report(quick)
    measure(table, quick)
    print(f"\nkept in {table.keep('tcg', 'observed-')}.md and .json")
