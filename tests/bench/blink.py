"""How quickly a sandbox is there, sleeps, wakes and is copied, and what a clone takes: a part of make bench, and by
itself make bench-clones."""

import concurrent.futures
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import bare  # noqa: E402
import product  # noqa: E402

SHAPE = {"memory_mb": 256, "cpus": 1, "disk_gb": 5}
MB = 1_000_000
# Nothing is refused before the machine is full.
CONFIG = """limits:
  requests_per_minute: 1000000
  sandboxes: 4096
  memory_mb: 16777216
  cpus: 65536
  disk_gb: 16777216
"""


def percentile(samples, p):
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))]


def spawn_inside(sandbox, n):
    """Milliseconds of one spawn of true by a shell in the guest, over n of them."""
    script = f"TIMEFORMAT=%R; time for ((i = 0; i < {n}; i++)); do /bin/true; done"
    done = sandbox.exec(None, argv=["/bin/bash", "-c", script], timeout_ms=120000)
    assert done["exit_code"] == 0, done
    return float(done["stderr"].split()[-1]) * 1000 / n


def spares(server):
    """Those that are warm and nobody's yet."""
    return [d for d in (server.state / "sandboxes").iterdir() if (d / "warm").exists() and not (d / "config.json").exists()]


def rest(server):
    """The pool is full and nothing is under way: the product at rest."""
    product.wait_for("the pool is full", lambda: len(spares(server)) >= 2, 240)
    time.sleep(1)


def wait_ready(server):
    sandbox = server.create(**SHAPE)
    sandbox.destroy()
    product.wait_for("a golden snapshot is made", lambda: list((server.state / "golden").glob("*/meta.json")), 240)
    sandbox = server.create(**SHAPE)
    assert sandbox.get()["isolation"]["started_from"] == "golden snapshot"
    sandbox.destroy()
    rest(server)


def one(server):
    begin = time.perf_counter()
    sandbox = server.create(**SHAPE)
    made = time.perf_counter()
    assert sandbox.exec(None, argv=["/bin/true"])["exit_code"] == 0
    end = time.perf_counter()
    return sandbox, (made - begin) * 1000, (end - begin) * 1000


def create_one(out, server, saved, booted, spawn, quick):
    """One at a time. Turn and turn about with the yardsticks, so that all meet the same noise."""
    made, answered, restores, warm = [], [], [], []
    for _ in range(5 if quick else 20):
        rest(server)
        sandbox, m, a = one(server)
        made.append(m)
        answered.append(a)
        sandbox.destroy()
        restores.append(saved.restore_seconds() * 1000)
        warm.append(saved.warm_seconds() * 1000)
    a, r, w = (percentile(x, 50) for x in (answered, restores, warm))
    out.add("create to first command answered, 1 at once",
            f"p50 {a:.0f} ms, p99 {percentile(answered, 99):.0f} ms, least {min(answered):.0f} ms (created p50 {percentile(made, 50):.0f} ms)",
            f"bare QEMU that waits: restore {r:.0f} ms + spawn inside {spawn:.0f} ms; cold boot {booted * 1000:.0f} ms",
            f"{a / (r + spawn):.2f} x ({booted * 1000 / a:.0f} x quicker than a boot)", p50_ms=a, p99_ms=percentile(answered, 99),
            min_ms=min(answered), created_p50_ms=percentile(made, 50), restore_p50_ms=r, spawn_ms=spawn, cold_boot_ms=booted * 1000,
            ratio=a / (r + spawn))
    out.add("of that, the platform's own", f"p50 {a - w:.0f} ms, least {min(answered) - min(warm):.0f} ms",
            f"bare QEMU, restored and warm before: cont, setup, command p50 {w:.0f} ms, least {min(warm):.0f} ms",
            f"{a / w:.2f} x", own_p50_ms=a - w, warm_p50_ms=w, warm_min_ms=min(warm), ratio=a / w)
    return r + spawn


def create(out, server, saved, booted, quick):
    """Several at once find two spares and share the cores."""
    sandbox = server.create(**SHAPE)
    spawn = spawn_inside(sandbox, 20)
    sandbox.destroy()
    b = create_one(out, server, saved, booted, spawn, quick)
    for n, rounds in ((4, 1 if quick else 4), (16, 1 if quick else 2)):
        made, answered = [], []
        for _ in range(rounds):
            rest(server)
            with concurrent.futures.ThreadPoolExecutor(n) as pool:
                got = list(pool.map(lambda _: one(server), range(n)))
            made += [m for _, m, _ in got]
            answered += [a for _, _, a in got]
            for sandbox, _, _ in got:
                sandbox.destroy()
        a = percentile(answered, 50)
        out.add(f"create to first command answered, {n} at once",
                f"p50 {a:.0f} ms, p99 {percentile(answered, 99):.0f} ms (created p50 {percentile(made, 50):.0f} ms)",
                f"bare QEMU that waits, one alone {b:.0f} ms; cold boot {booted * 1000:.0f} ms",
                f"{a / b:.2f} x ({booted * 1000 / a:.0f} x quicker than a boot)", p50_ms=a, p99_ms=percentile(answered, 99),
                created_p50_ms=percentile(made, 50), yardstick_p50_ms=b, cold_boot_ms=booted * 1000, ratio=a / b)


def dirty(sandbox, mb):
    """So much of the guest's memory is not zero and nobody else's."""
    sandbox.run(f"mkdir -p /tmp/ram && mount -t tmpfs -o size={mb + 16}m none /tmp/ram && head -c {mb}000000 /dev/urandom > /tmp/ram/x",
                user="root", timeout_ms=300000)


def pause(out, server, quick):
    for mb in (16, 128) if quick else (16, 128, 512):
        sandbox = server.create(memory_mb=256 if mb < 200 else 1024, cpus=1)
        dirty(sandbox, mb)
        down, up = [], []
        for _ in range(1 if quick else 3):
            begin = time.perf_counter()
            server.api("POST", sandbox.path + "/pause")
            middle = time.perf_counter()
            server.api("POST", sandbox.path + "/resume")
            end = time.perf_counter()
            down.append((middle - begin) * 1000)
            up.append((end - middle) * 1000)
        state = pathlib.Path("/dev/shm/caged-bench-yard")
        begin = time.perf_counter()
        with state.open("wb") as f:
            f.write(os.urandom(mb * MB))
        write = (time.perf_counter() - begin) * 1000
        state.unlink()
        a, b = statistics.median(down), statistics.median(up)
        out.add(f"pause and resume, {mb} MB used by a program", f"pause {a:.0f} ms, resume {b:.0f} ms",
                f"as many random bytes made and written to memory {write:.0f} ms", f"{a / write:.1f} x", pause_ms=a, resume_ms=b,
                yardstick_ms=write)
        sandbox.destroy()


def fork(out, server, quick):
    for memory, mb in ((256, 60), (1024, 60), (1024, 500)):
        sandbox = server.create(memory_mb=memory, cpus=1)
        dirty(sandbox, mb)
        stalls, times = [], []
        for _ in range(1 if quick else 3):
            begin = time.perf_counter()
            reply = server.api("POST", sandbox.path + "/fork", {"count": 2})
            times.append((time.perf_counter() - begin) * 1000)
            stalls.append(reply["stall_ms"])
            assert reply["failed"] == 0, reply
            for copy in reply["sandboxes"]:
                server.call("DELETE", f"/v1/sandboxes/{copy['id']}")
        used = float(sandbox.run("awk '/MemTotal/ {t=$2} /MemFree/ {f=$2} END {print (t-f)/1000}' /proc/meminfo"))
        target = 150 * max(1.0, used / 80)
        out.add(f"fork of a live {memory} MB guest into 2, {used:.0f} MB used", f"stall {statistics.median(stalls):.0f} ms, all of it {statistics.median(times):.0f} ms",
                f"target: 150 ms of stall per 80 MB used: {target:.0f} ms",
                f"{statistics.median(stalls) / target:.2f} x of it", stall_ms=statistics.median(stalls), total_ms=statistics.median(times),
                used_mb=used, target_stall_ms=target)
        sandbox.destroy()


def private_mb(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"Private_(?:Clean|Dirty):\s+(\d+)", text)) * 1024 / MB



def vmms(server, boxes):
    """Those of these sandboxes: each has a uid of its own. Others on this machine run guests, too."""
    uids = {(server.state / "sandboxes" / s.id).stat().st_uid for s in boxes}
    return [pid for pid in product.processes_naming("qemu-system") if os.stat(f"/proc/{pid}").st_uid in uids]


def memory(out, server, saved, quick):
    """Clones that have answered one command and idle, then those that have done light work."""
    n = 4 if quick else 20
    looked = []
    saved.restore_seconds(lambda pid: looked.append(private_mb(pid)))
    boxes = []
    for _ in range(n):
        sandbox = server.create(**SHAPE)
        sandbox.exec(None, argv=["/bin/true"])
        boxes.append(sandbox)
    time.sleep(3)
    for what, target in (("that answered one command", 45), ("after light work", 75)):
        mine = [private_mb(pid) for pid in vmms(server, boxes)]
        each = statistics.median(mine)
        out.add(f"private memory of a clone's VMM, {n} {what}", f"median {each:.0f} MB, most {max(mine):.0f} MB",
                f"bare QEMU after one command {looked[0]:.0f} MB; target {target} MB", f"{each / target:.2f} x of it",
                private_mb=each, clones=n, bare_mb=looked[0], target_mb=target)
        for sandbox in boxes if target == 45 else []:
            sandbox.run("git --version; git --version; ls -lR /etc; head -c 100000 /dev/urandom | sha256sum")
    for sandbox in boxes:
        sandbox.destroy()


def available_mb():
    return int(re.search(r"MemAvailable:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) * 1024 / MB


def fill(out, server, quick):
    """Clones until memory is full: BENCH_FILL_MB of it, else all but 4 GB. All of them answer in the end."""
    begin = available_mb()
    room = float(os.environ.get("BENCH_FILL_MB", 1000 if quick else max(500, begin - 4000)))
    boxes = []
    while begin - available_mb() < room and len(boxes) < 2000:
        sandbox = server.create(**SHAPE)
        assert sandbox.exec(None, argv=["/bin/true"])["exit_code"] == 0
        boxes.append(sandbox)
    taken = begin - available_mb()
    assert all(s.run("hostname") == s.id for s in boxes), "each is itself, to the last"
    out.add(f"clones until {room:.0f} MB of memory were full", f"{len(boxes)} clones, {taken / len(boxes):.1f} MB each, all told",
            f"as many guests of {SHAPE['memory_mb']} MB without sharing {len(boxes) * SHAPE['memory_mb']} MB",
            f"{taken / len(boxes) / SHAPE['memory_mb']:.2f} x", clones=len(boxes), taken_mb=taken, room_mb=room)
    for sandbox in boxes:
        sandbox.destroy()


def snapshots(out, server, quick):
    """What of the disk is copied while the guest stands still is what changed since the copy began."""
    mb = 100 if quick else 1000
    sandbox = server.create(**SHAPE)
    sandbox.run(f"head -c {mb}000000 /dev/urandom > /workspace/big; sync", timeout_ms=600000)
    image = server.state / "sandboxes" / sandbox.id / "disk.img"
    copy, stalls = server.dir / "yard.img", []
    for _ in range(1 if quick else 3):
        snap = server.api("POST", sandbox.path + "/snapshots", {})
        stalls.append(snap["stall_ms"])
        server.api("DELETE", f"/v1/snapshots/{snap['id']}")
    begin = time.perf_counter()
    subprocess.run(["cp", "--sparse=always", "--reflink=never", image, copy], check=True)
    yard = (time.perf_counter() - begin) * 1000
    copy.unlink()
    a = statistics.median(stalls)
    out.add(f"snapshot of a guest with {mb} MB of files", f"stall {a:.0f} ms", f"cp of its disk {yard:.0f} ms", f"{a / yard:.2f} x",
            stall_ms=a, yardstick_ms=yard)
    sandbox.destroy()


def disks(out, server):
    used = {}
    for size in (1, 10, 50):
        sandbox = server.create(**{**SHAPE, "disk_gb": size})
        assert sandbox.get()["isolation"]["started_from"] == "golden snapshot"
        assert size * 900 < int(sandbox.run("df --output=size -m /workspace | tail -1")) <= size * 1024
        used[size] = (server.state / "sandboxes" / sandbox.id / "disk.img").stat().st_blocks * 512 / MB
        sandbox.destroy()
    text = ", ".join(f"{size} GB: {mb:.1f} MB" for size, mb in used.items())
    out.add("disk of a clone of one golden snapshot, on the host", text, "its size in the guest", f"{used[50] / 50000:.5f} x at 50 GB",
            **{f"gb_{size}_mb": mb for size, mb in used.items()})


def measure(out, server, accel, booted, quick):
    """`booted`: seconds of a cold boot in this run."""
    wait_ready(server)
    saved = bare.Saved(accel, SHAPE["cpus"], SHAPE["memory_mb"])
    try:
        create(out, server, saved, booted, quick)
        memory(out, server, saved, quick)
    finally:
        saved.forget()
    disks(out, server)
    fork(out, server, quick)
    pause(out, server, quick)
    snapshots(out, server, quick)
    fill(out, server, quick)


def main():
    import report
    quick = os.environ.get("BENCH") == "quick"
    out = report.Report(quick)
    with product.Server(config="golden: {snapshots: off}\n") as server:
        sandbox = server.create(**SHAPE)
        accel = sandbox.info["isolation"]["accel"]
        sandbox.destroy()  # the first one asks which acceleration works
        begin = time.perf_counter()
        server.create(**SHAPE).destroy()
        booted = time.perf_counter() - begin
    with product.Server(config=CONFIG) as server:
        measure(out, server, accel, booted, quick)
    print(f"\nkept in {out.keep(accel, 'clones-')}.md and .json")


if __name__ == "__main__":
    main()
