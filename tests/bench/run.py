"""make bench: what the product costs, each figure beside a yardstick taken in the same run.

Prints one table and keeps it in bench/results/ with the machine described. Machines are noisy: the ratios are
the message. BENCH=quick takes fewer samples. Loads loopback only; everything started here is stopped here.
"""

import asyncio
import contextlib
import http.client
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))

import httpx  # noqa: E402
import websockets  # noqa: E402

import bare  # noqa: E402
import blink  # noqa: E402
import egress  # noqa: E402
import guard  # noqa: E402
import observed  # noqa: E402
import product  # noqa: E402
import report  # noqa: E402
import window  # noqa: E402

QUICK = os.environ.get("BENCH") == "quick"
BUILD = ROOT / os.environ.get("BUILD", "build")
MB = 1_000_000


def percentile(samples, p):
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))]


def spread(samples_ms):
    return f"p50 {percentile(samples_ms, 50):.2f} ms, p99 {percentile(samples_ms, 99):.2f} ms"


def clock(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


# --- cold boot ---


def cold_boot(out, server):
    """Turn and turn about, so that both meet the same noise. The first create asks which acceleration works,
    which is done once in the life of a machine: it is not counted."""
    n = 2 if QUICK else 5
    server.create(memory_mb=256).destroy()
    ours, yard = [], []
    for _ in range(n):
        begin = time.perf_counter()
        sandbox = server.create(memory_mb=256)
        ours.append(time.perf_counter() - begin)
        info = sandbox.info
        assert info["status"] == "running", info
        sandbox.destroy()
        yard.append(bare.boot_seconds(info["isolation"]["accel"], info["cpus"], info["memory_mb"], info["disk_gb"]))
    a, b = statistics.median(ours), statistics.median(yard)
    out.add("cold boot, create to running", f"p50 {a:.2f} s ({min(ours):.2f} to {max(ours):.2f}, of {n})",
            f"bare QEMU to the agent's setup p50 {b:.2f} s ({min(yard):.2f} to {max(yard):.2f})", f"{a / b:.2f} x",
            p50_s=a, yardstick_p50_s=b, ratio=a / b)
    return a


# --- exec ---


def exec_round_trip(out, server, sandbox):
    """One connection that stays, and a client that does little beside it."""
    n = 50 if QUICK else 200
    connection = http.client.HTTPConnection(server.info["listen"], timeout=60)
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}

    def request(method, path, body=None):
        connection.request(method, path, body, headers)
        return json.loads(connection.getresponse().read())

    def once():
        assert request("POST", sandbox.path + "/exec", '{"argv":["/bin/true"]}')["exit_code"] == 0

    for _ in range(5):
        once()
    inside = [blink.spawn_inside(sandbox, n)]
    times = [clock(once) * 1000 for _ in range(n)]
    inside.append(blink.spawn_inside(sandbox, n))
    floor = percentile([clock(lambda: request("GET", "/health")) * 1000 for _ in range(n)], 50)
    connection.close()
    spawn, p50 = statistics.mean(inside), percentile(times, 50)
    out.add("exec of true over REST", spread(times), f"the same spawn inside the guest, mean {spawn:.2f} ms",
            f"+{p50 - spawn:.2f} ms at p50 (GET /health: {floor:.2f} ms)",
            p50_ms=p50, p99_ms=percentile(times, 99), yardstick_ms=spawn, difference_ms=p50 - spawn, health_p50_ms=floor)


# --- files ---


def files(out, server, sandbox):
    size = (20 if QUICK else 100) * MB
    data = os.urandom(size)
    url = sandbox.path + "/files/raw?path=/workspace/bench"
    rounds = 1 if QUICK else 3
    up, down, write, read, copy = [], [], [], [], []
    for _ in range(rounds):
        up.append(clock(lambda: server.call("PUT", url, content=data).raise_for_status()))
        cold(sandbox)
        got = []
        down.append(clock(lambda: got.append(server.call("GET", url))))
        got[0].raise_for_status()
        assert got[0].content == data, "what came back is not what was sent"
        write.append(dd(sandbox, f"if=/dev/zero of=/workspace/yard bs=1000000 count={size // MB} conv=fsync"))
        cold(sandbox)
        read.append(dd(sandbox, "if=/workspace/bench of=/dev/null bs=1000000"))
        copy.append(host_copy(data))
    sandbox.run("rm -f /workspace/bench /workspace/yard")
    up, down, write, read, copy = (size / MB / min(s) for s in (up, down, write, read, copy))
    out.add(f"file up, {size // MB} MB", f"{up:.0f} MB/s", f"dd inside the guest {write:.0f} MB/s, cp on the host {copy:.0f} MB/s",
            f"{up / write:.2f} x of dd", mb_s=up, yardstick_mb_s=write, host_cp_mb_s=copy, ratio=up / write)
    out.add(f"file down, {size // MB} MB", f"{down:.0f} MB/s", f"dd inside the guest {read:.0f} MB/s",
            f"{down / read:.2f} x of dd", mb_s=down, yardstick_mb_s=read, ratio=down / read)


def cold(sandbox):
    """Reads come from the disk from here on, not from the guest's memory."""
    sandbox.run("sync; echo 3 > /proc/sys/vm/drop_caches", user="root")


def dd(sandbox, arguments):
    """The seconds that dd itself counted."""
    done = sandbox.exec("LC_ALL=C dd " + arguments, timeout_ms=300000)
    assert done["exit_code"] == 0, done
    return float(re.search(r"copied, ([\d.e-]+) s", done["stderr"])[1])


def host_copy(data):
    with tempfile.TemporaryDirectory(prefix="caged-bench-") as folder:
        (pathlib.Path(folder) / "from").write_bytes(data)
        return clock(lambda: subprocess.run(["sh", "-c", "cp from to && sync to"], cwd=folder, check=True))


# --- terminal ---


KEYS = "abcdefghij"


async def echo_times(server, sandbox, n):
    ticket = server.api("POST", "/v1/auth/socket-ticket")["ticket"]
    url = server.url.replace("http", "ws") + f"{sandbox.path}/terminal?token={ticket}"
    times = []
    async with websockets.connect(url, subprotocols=["terminal"], compression=None) as ws:
        async def until(text):
            seen = ""
            while text not in seen:
                seen += json.loads(await asyncio.wait_for(ws.recv(), 30)).get("data", "")

        async def key(text):
            await ws.send(json.dumps({"type": "input", "data": text}))
            await until(text)

        line = "stty -icanon echo; printf '%s\\n' READY-$((1 + 1)); exec cat > /dev/null\n"
        await ws.send(json.dumps({"type": "input", "data": line}))
        await until("READY-2")
        for text in KEYS:  # warm, and nothing of the prompt is left
            await key(text)
        for i in range(n):
            begin = time.perf_counter()
            await key(KEYS[i % len(KEYS)])
            times.append((time.perf_counter() - begin) * 1000)
    return times


def local_echo(n):
    pid, fd = pty.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh", "-c", "stty -icanon echo; echo READY; exec cat > /dev/null"])
    try:
        seen = b""
        while b"READY\r\n" not in seen:
            seen += os.read(fd, 100)
        times = []
        for i in range(n):
            begin = time.perf_counter()
            os.write(fd, KEYS[i % len(KEYS)].encode())
            os.read(fd, 100)
            times.append((time.perf_counter() - begin) * 1000)
        return times
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)


def terminal_echo(out, server, sandbox):
    n = 50 if QUICK else 300
    times, local = asyncio.run(echo_times(server, sandbox, n)), local_echo(n)
    p50, yard = percentile(times, 50), percentile(local, 50)
    out.add("keystroke echo, WebSocket", spread(times), f"a local PTY {spread(local)}", f"+{p50 - yard:.2f} ms at p50",
            p50_ms=p50, p99_ms=percentile(times, 99), yardstick_p50_ms=yard, yardstick_p99_ms=percentile(local, 99))


# --- REST ---


def wrk(url, *more):
    """Requests a second; refuses a run in which any answer was not a good one."""
    done = subprocess.run(["wrk", "-t1", "-c4", f"-d{2 if QUICK else 5}s", *more, url], capture_output=True, text=True, check=True)
    assert "Non-2xx" not in done.stdout and "Socket errors" not in done.stdout, done.stdout
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])


@contextlib.contextmanager
def nginx(body):
    """The URL under which a server of our own gives these bytes, from a file."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="caged-bench-"))
    folder.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "list.json").write_bytes(body)
    temporary = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/errors; worker_processes 1; events {{}}\n"
        f"http {{ access_log off; {temporary} types {{ application/json json; }} keepalive_requests 10000000;\n"
        f"server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n")
    process = subprocess.Popen(["nginx", "-e", f"{folder}/errors", "-c", f"{folder}/nginx.conf"], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/list.json"
    try:
        product.wait_for("nginx answers", lambda: gives(url, body), 10)
        yield url
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def gives(url, body):
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url).content == body
    return False


def rest_list(out, server):
    missing = [tool for tool in ("wrk", "nginx") if not shutil.which(tool)]
    if missing:
        out.add("REST list of sandboxes", "not measured", f"{' and '.join(missing)} missing: make setup")
        return
    body = server.call("GET", "/v1/sandboxes").content
    ours, theirs = [], []
    with nginx(body) as url:
        for _ in range(1 if QUICK else 3):
            ours.append(wrk(server.url + "/v1/sandboxes", "-H", f"Authorization: Bearer {server.key}"))
            theirs.append(wrk(url))
    a, b = statistics.median(ours), statistics.median(theirs)
    out.add("REST list of sandboxes", f"{a:.0f} req/s", f"nginx, the same {len(body)} bytes from a file, {b:.0f} req/s",
            f"{a / b:.2f} x", req_s=a, yardstick_req_s=b, ratio=a / b)


# --- memory ---


def resident(status):
    """What /proc/PID/status says, in MB: all that is resident, and of it what is anonymous."""
    return [int(re.search(name + r":\s+(\d+)", status)[1]) * 1024 / MB for name in ("VmRSS", "RssAnon")]


def process_mb(pid):
    return resident(pathlib.Path(f"/proc/{pid}/status").read_text())


def memory(out, sandbox, idle):
    """The warden's and the agent's after all that was measured before, so with what the work left in them."""
    warden = next(pid for pid, line in product.processes_naming(sandbox.id).items() if "caged-warden" in line.split()[0])
    # the agent's program lies in the guest's RAM disk; its only files are the rings, which the kernel owns and maps twice
    status = sandbox.run("cat /proc/1/status", user="root")
    rings = int(re.search(r"RssFile:\s+(\d+)", status)[1]) * 1024 / MB
    agent = [resident(status)[0] - rings, resident(status)[1]]
    for what, (mb, own), target in (("server, idle", idle, 20), ("server, at the end", process_mb(sandbox.server.pid), 20),
                                    ("warden, at the end", process_mb(warden), 6), ("agent, at the end, without the rings of observation", agent, 2)):
        out.add(f"memory of {what}", f"{mb:.1f} MB resident, {own:.1f} MB of it anonymous", f"target {target} MB",
                f"{mb / target:.2f} x of it", mb=mb, anonymous_mb=own, target_mb=target)


# --- record ---


def record_append(out):
    """The lines are those of a compile that is watched; the yardstick appends the same bytes with cat, synced as well."""
    libraries = [BUILD / "src" / f"libcg_{name}.a" for name in ("record", "base")]
    n = 100_000 if QUICK else 1_000_000
    with tempfile.TemporaryDirectory(prefix="caged-bench-") as folder:
        folder = pathlib.Path(folder)
        program, record = folder / "record_bench", folder / "record"
        record.mkdir()
        made = subprocess.run(["cc", "-std=c17", "-D_GNU_SOURCE", "-O2", f"-I{ROOT / 'src'}", ROOT / "tests/bench/record_bench.c",
                               "-o", program, *libraries, "-lsodium", "-lzstd", "-lcrypto"], capture_output=True, text=True)
        if made.returncode != 0:
            out.add("record append", "not measured", "the bench program was not built: make build")
            print(made.stderr, file=sys.stderr)
            return
        got = json.loads(subprocess.run([program, record, str(n)], capture_output=True, text=True, check=True).stdout)
        yard = clock(lambda: subprocess.run(["sh", "-c", "for f in record/*.jsonl; do cat $f >> copy; done; sync copy"],
                                            cwd=folder, check=True))
    ours, core, theirs = n / got["wall_s"], n / got["cpu_s"], n / yard
    out.add("record append", f"{ours / 1000:.0f} k events/s durable, {core / 1000:.0f} k a core",
            f"cat >> file of the same lines, synced, {theirs / 1000:.0f} k/s",
            f"{ours / theirs:.2f} x ({got['bytes'] / n:.0f} bytes an event)",
            events_s=ours, events_s_core=core, yardstick_events_s=theirs, ratio=ours / theirs, bytes_event=got["bytes"] / n)


def record_replay(out):
    """Pages of a record of a million events, each opening the index anew as a request does. The yardstick reads the same
    lines from beginning to end, as a reader without an index must."""
    n = 100_000 if QUICK else 1_000_000
    libraries = [BUILD / "src" / f"libcg_{name}.a" for name in ("record", "base")]
    with tempfile.TemporaryDirectory(prefix="caged-bench-") as folder:
        folder = pathlib.Path(folder)
        program, record = folder / "replay_bench", folder / "record"
        record.mkdir()
        made = subprocess.run(["cc", "-std=c17", "-D_GNU_SOURCE", "-O2", f"-I{ROOT / 'src'}", ROOT / "tests/bench/replay_bench.c",
                               "-o", program, *libraries, "-lsodium", "-lzstd", "-lcrypto"], capture_output=True, text=True)
        if made.returncode != 0:
            out.add("replay of a record", "not measured", "the bench program was not built: make build")
            print(made.stderr, file=sys.stderr)
            return
        got = json.loads(subprocess.run([program, record, str(n)], capture_output=True, text=True, check=True).stdout)
        subprocess.run(["sh", "-c", "for f in record/*.zst record/*.jsonl; do [ ! -e $f ] || zstdcat -f $f >> all; done"], cwd=folder, check=True)
        whole = clock(lambda: subprocess.run(["grep", "-c", "-F", "dir42/file7", "all"], cwd=folder, check=True, capture_output=True)) * 1000
        hashed = got["bytes"] / 1e6 / clock(lambda: subprocess.run(["b2sum", "all"], cwd=folder, check=True, capture_output=True))
    for name, what in (("session", "of one session"), ("rare", "of a rare type"), ("text", "with a text in it"),
                       ("packed", "of one session, packed"), ("packed_rare", "of a rare type, packed"), ("packed_text", "with a text, packed")):
        p50, worst, cpu = got[f"{name}_p50_ms"], got[f"{name}_max_ms"], got[f"{name}_max_cpu_ms"]
        out.add(f"page {what}", f"p50 {p50:.2f} ms, slowest {worst:.1f} ms, {cpu:.1f} of CPU", f"grep of all {n:,} lines {whole:.0f} ms",
                f"{p50 / whole:.3f} x", p50_ms=p50, max_ms=worst, max_cpu_ms=cpu, whole_ms=whole)
    mb = got["bytes"] / 1e6
    out.add("index of a record", f"{n / got['index_s'] / 1000:.0f} k events/s, once", "-", events_s=n / got["index_s"])
    out.add("verify", f"{mb / got['verify_s']:.0f} MB/s of lines", f"b2sum {hashed:.0f} MB/s", f"{mb / got['verify_s'] / hashed:.2f} x",
            mb_s=mb / got["verify_s"], yardstick_mb_s=hashed)


def main():
    out = report.Report(QUICK)
    with product.Server(config="golden: {snapshots: off}\nlimits: {requests_per_minute: 1000000}\n") as server:
        idle = process_mb(server.pid)
        booted = cold_boot(out, server)
        sandbox = server.create(memory_mb=512, disk_gb=2)
        accel = sandbox.info["isolation"]["accel"]
        exec_round_trip(out, server, sandbox)
        terminal_echo(out, server, sandbox)
        files(out, server, sandbox)
        rest_list(out, server)
        memory(out, sandbox, idle)
        sandbox.destroy()
    with product.Server(config=blink.CONFIG) as server:
        blink.measure(out, server, accel, booted, QUICK)
    guard.measure(out, QUICK)
    egress.measure(out, QUICK)
    observed.measure(out, QUICK)
    record_append(out)
    record_replay(out)
    window.measure(out, product.STAGE, QUICK)
    print(f"\nkept in {out.keep(accel)}.md and .json")


if __name__ == "__main__":
    main()
