"""make bench: what the product costs, each figure beside a yardstick taken in the same run.

Prints one table and keeps it in bench/results/ with the machine described. Machines are noisy: the ratios are
the message. BENCH=quick takes fewer samples. Loads loopback only; everything started here is stopped here.
"""

import asyncio
import datetime
import json
import os
import pathlib
import platform
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))

import httpx  # noqa: E402
import websockets  # noqa: E402

import product  # noqa: E402

QUICK = os.environ.get("BENCH") == "quick"
ROWS = []


def row(what, figure, yardstick, ratio=""):
    ROWS.append((what, figure, yardstick, ratio))
    print(f"{what:34} {figure:34} {yardstick:44} {ratio}", flush=True)


def percentile(samples, p):
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))]


def clock(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def bare_boot(images):
    """The same kernel and initramfs under a bare QEMU, from spawn to the first byte on the agent's port."""
    import socket

    boot = json.loads((images / "boot.json").read_text())
    kernel = images / "kernels" / boot["kernel"] / "vmlinuz"
    initramfs = next((images / "initramfs").glob(boot["initramfs"] + "*"))
    base = next((images / "templates" / "minimal").rglob("*.ext4"), None) or next((images / "templates" / "minimal").rglob("base*"))
    tsc = subprocess.run([product.LIBEXEC / "caged-jail", "--tsc"], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as tmp:
        disk = pathlib.Path(tmp) / "disk"
        subprocess.run(["cp", "--sparse=always", next((images / "writable").glob("*.ext4")), disk], check=True)
        os.truncate(disk, 1 << 30)
        ours, theirs = socket.socketpair()
        begin = time.perf_counter()
        qemu = subprocess.Popen(
            ["qemu-system-x86_64", "-M", "microvm,rtc=on,pit=off,pic=off", "-accel", "tcg,tb-size=32", "-cpu", "max",
             "-m", "256", "-smp", "2", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-kernel", kernel, "-initrd", initramfs,
             "-append", f"console=ttyS0 quiet panic=-1 reboot=t tsc_early_khz={tsc} clearcpuid=cx16",
             "-drive", f"if=none,id=b,file={base},format=raw,readonly=on", "-device", "virtio-blk-device,drive=b",
             "-drive", f"if=none,id=d,file={disk},format=raw", "-device", "virtio-blk-device,drive=d",
             "-device", "virtio-serial-device", "-chardev", f"socket,id=l,fd={theirs.fileno()}",
             "-device", "virtserialport,chardev=l,name=caged.link"],
            pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            ours.settimeout(60)
            ours.recv(1)
            return time.perf_counter() - begin
        finally:
            qemu.kill()
            qemu.wait()


def cold_boot(server):
    n = 2 if QUICK else 5
    images = pathlib.Path(product.default_images())
    ours, bare = [], []
    for _ in range(n):
        made = []
        ours.append(clock(lambda: made.append(server.create(memory_mb=256, disk_gb=1, cpus=2))))
        made[0].destroy()
        bare.append(bare_boot(images))
    a, b = statistics.median(ours), statistics.median(bare)
    row("cold boot, create to running", f"{a:.2f} s (median of {n})", f"bare QEMU to first agent byte {b:.2f} s", f"{a / b:.2f} x")


def exec_round_trip(sandbox):
    n = 50 if QUICK else 200
    times = [clock(lambda: sandbox.exec("", argv=["/bin/true"])) * 1000 for _ in range(n)]
    minutes, seconds = re.search(r"real\s+(\d+)m([\d.]+)s", sandbox.exec(
        f"time (i=0; while [ $i -lt {n} ]; do /bin/true; i=$((i+1)); done)")["stderr"]).groups()
    spawn = (int(minutes) * 60 + float(seconds)) * 1000 / n
    p50 = percentile(times, 50)
    row("exec /bin/true over REST", f"p50 {p50:.1f} ms, p99 {percentile(times, 99):.1f} ms",
        f"the same spawn inside the guest {spawn:.1f} ms", f"+{p50 - spawn:.1f} ms")


def files(server, sandbox):
    size = (20 if QUICK else 100) << 20
    data = os.urandom(size)
    up = clock(lambda: server.call("PUT", sandbox.path + "/files/raw?path=/workspace/bench", content=data).raise_for_status())
    got = []
    down = clock(lambda: got.append(server.call("GET", sandbox.path + "/files/raw?path=/workspace/bench").content))
    assert got[0] == data
    inside = clock(lambda: sandbox.run("cat /workspace/bench > /workspace/copy && sync", timeout_ms=300000))
    mib = size >> 20
    row("file up", f"{mib / up:.0f} MB/s", f"cp inside the guest {mib / inside:.0f} MB/s", f"{inside / up:.2f} x")
    row("file down", f"{mib / down:.0f} MB/s", f"cp inside the guest {mib / inside:.0f} MB/s", f"{inside / down:.2f} x")


async def echo_times(server, sandbox, n):
    ticket = server.api("POST", "/v1/auth/socket-ticket")["ticket"]
    url = server.url.replace("http", "ws") + f"{sandbox.path}/terminal?token={ticket}"
    times = []
    async with websockets.connect(url, subprotocols=["terminal"]) as ws:
        async def until(text):
            seen = ""
            while text not in seen:
                message = json.loads(await asyncio.wait_for(ws.recv(), 30))
                seen += message.get("data", "")
        await ws.send(json.dumps({"type": "input", "data": "stty -icanon echo; echo ready-$((1+1)); exec cat >/dev/null\n"}))
        await until("ready-2")
        await asyncio.sleep(1)
        for i in range(n):
            key = "abcdefghij"[i % 10]
            begin = time.perf_counter()
            await ws.send(json.dumps({"type": "input", "data": key}))
            await until(key)
            times.append((time.perf_counter() - begin) * 1000)
    return times


def local_echo(n):
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp("sh", ["sh", "-c", "stty -icanon echo; exec cat >/dev/null"])
    time.sleep(0.3)
    times = []
    for i in range(n):
        begin = time.perf_counter()
        os.write(fd, b"abcdefghij"[i % 10:i % 10 + 1])
        os.read(fd, 100)
        times.append((time.perf_counter() - begin) * 1000)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(fd)
    return times


def terminal_echo(server, sandbox):
    n = 50 if QUICK else 300
    times = asyncio.run(echo_times(server, sandbox, n))
    local = local_echo(n)
    row("keystroke echo, WebSocket PTY", f"p50 {percentile(times, 50):.2f} ms, p99 {percentile(times, 99):.2f} ms",
        f"local PTY p50 {percentile(local, 50):.2f} ms", f"+{percentile(times, 50) - percentile(local, 50):.2f} ms")


def wrk(url, *more):
    seconds = 2 if QUICK else 5
    done = subprocess.run(["wrk", "-t1", "-c4", f"-d{seconds}s", *more, url], capture_output=True, text=True, check=True)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])


def rest_list(server):
    body = server.call("GET", "/v1/sandboxes").content
    with tempfile.TemporaryDirectory() as tmp:
        root = pathlib.Path(tmp)
        root.chmod(0o755)
        (root / "list").write_bytes(body)
        port = 17878
        (root / "conf").write_text(
            f"pid {tmp}/pid; error_log /dev/null; worker_processes 1; events {{}} http {{ access_log off; "
            f"keepalive_requests 1000000; server {{ listen 127.0.0.1:{port}; root {tmp}; }} }}")
        nginx = subprocess.Popen(["nginx", "-c", f"{tmp}/conf", "-g", "daemon off;"], stderr=subprocess.DEVNULL)
        try:
            product.wait_for("nginx answers", lambda: answers(f"http://127.0.0.1:{port}/list"), 10)
            theirs = wrk(f"http://127.0.0.1:{port}/list")
        finally:
            nginx.terminate()
            nginx.wait()
    ours = wrk(server.url + "/v1/sandboxes", "-H", f"Authorization: Bearer {server.key}")
    row("REST list of sandboxes", f"{ours:.0f} req/s", f"nginx, the same {len(body)} bytes {theirs:.0f} req/s", f"{ours / theirs:.2f} x")


def answers(url):
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


def rss_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def memory(server, sandbox):
    warden = next(pid for pid, line in product.processes_naming(sandbox.id).items() if "caged-warden" in line)
    agent = int(sandbox.run("awk '/VmRSS/{print $2}' /proc/1/status", user="root")) / 1024
    row("memory of server", f"{rss_mb(server.pid):.1f} MB", "target 20 MB")
    row("memory of warden", f"{rss_mb(warden):.1f} MB", "target 6 MB")
    row("memory of agent", f"{agent:.1f} MB", "target 2 MB")


def machine():
    cpu = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (f"{os.cpu_count()} cores ({cpu[1] if cpu else '?'}), {memory_gb:.0f} GiB, Linux {platform.release()}, "
            f"{qemu}, load {os.getloadavg()[0]:.1f} at the end")


def main():
    print(f"{'what':34} {'figure':34} {'yardstick, same run':44} ratio")
    with product.Server() as server:
        memory_idle = rss_mb(server.pid)
        row("memory of server, idle", f"{memory_idle:.1f} MB", "target 20 MB")
        cold_boot(server)
        sandbox = server.create(memory_mb=512, disk_gb=2, cpus=2)
        accel = sandbox.info["isolation"]["accel"]
        exec_round_trip(sandbox)
        files(server, sandbox)
        terminal_echo(server, sandbox)
        rest_list(server)
        memory(server, sandbox)
        sandbox.destroy()
    folder = ROOT / "bench" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    today = datetime.date.today().isoformat()
    lines = [f"# {today}, {accel}", "", machine(), "", "| what | figure | yardstick, same run | ratio |", "| --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(r) + " |" for r in ROWS]
    path = folder / f"{today}-{os.cpu_count()}-cores-{accel}.md"
    path.write_text("\n".join(lines) + "\n")
    print(f"\n{machine()}\nkept in {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
