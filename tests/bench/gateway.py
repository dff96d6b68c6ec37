"""make bench-gateway: what the LLM gateway adds to a call, beside nginx's proxy_pass and Portkey's gateway in the same
run, and the thousand-call proof.

Two payloads: small (a request of 60 bytes, a reply of 1.2 KB) and agent (a request of 96 KB, a stream of 61 events).
The provider is nginx with files. Placement: for latency everything on one processor, one connection; for requests a
second the gateway alone on its processor, provider and load on the other, sixteen connections. Recording and metering
are on: ledger rows and llm_call lines are written, bodies are kept, caps are rewritten. Syncs of the ledger are counted
apart: "synced" waits for the disk before each call as a warden does, the other figures leave just that out.
Portkey's gateway comes from npm into the cache folder (CAGED_BENCH_CACHE); without npm that row says so.
"""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))

import httpx  # noqa: E402

import product  # noqa: E402
import report  # noqa: E402

QUICK = os.environ.get("BENCH") == "quick"
SECONDS = 2 if QUICK else 4
ROUNDS = 3 if QUICK else 5
BUILD = ROOT / os.environ.get("BUILD", "build")
CACHE = pathlib.Path(os.environ.get("CAGED_BENCH_CACHE", ROOT / "build" / "bench-cache"))
PORTKEY = "@portkey-ai/gateway@1.15.2"
HERTZ = os.sysconf("SC_CLK_TCK")

SMALL = b'{"model":"claude-haiku-4-5","max_tokens":64,"messages":[]}'
AGENT = (b'{"model":"claude-haiku-4-5","max_tokens":32000,"stream":true,"system":"' + b"You are an agent. " * 2600
         + b'","messages":[' + b",".join(b'{"role":"user","content":"' + b"line of code \\n" * 30 + b'"}' for _ in range(110)) + b"]}")


def small_reply():
    text = "word " * 196
    return (b'{"id":"msg_1","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[{"type":"text","text":"'
            + text.encode() + b'"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":20,"output_tokens":200}}')


def agent_reply():
    events = [("message_start", '{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",'
               '"model":"claude-haiku-4-5","content":[],"stop_reason":null,"usage":{"input_tokens":24000,"output_tokens":1}}}'),
              ("content_block_start", '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}')]
    delta = '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"' + "abcd " * 10 + '"}}'
    events += [("content_block_delta", delta)] * 56
    events += [("content_block_stop", '{"type":"content_block_stop","index":0}'),
               ("message_delta", '{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":700}}'),
               ("message_stop", '{"type":"message_stop"}')]
    assert len(events) == 61
    return "".join(f"event: {name}\ndata: {data}\n\n" for name, data in events).encode()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def running(command, cpu, **kw):
    process = subprocess.Popen(["taskset", "-c", str(cpu), *map(str, command)], **kw)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def nginx(folder, servers, cpu):
    folder.mkdir()
    folder.chmod(0o755)
    temporary = "".join(f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/errors; worker_processes 1; events {{ worker_connections 1024; }}\n"
        f"http {{ access_log off; {temporary} keepalive_requests 100000000; client_max_body_size 8m; "
        f"client_body_buffer_size 256k; {servers} }}\n")
    with running(["nginx", "-e", folder / "errors", "-c", folder / "nginx.conf"], cpu, stderr=subprocess.DEVNULL) as process:
        yield process


def worker_of(pid):
    """nginx's worker: the only child of its master."""
    return int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / HERTZ


def rss_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) * 1024 / 1e6


UNITS = {"us": 1, "ms": 1000, "s": 1_000_000}


def load(url, script, connections, cpu, seconds=SECONDS):
    """requests a second, p50 and p99 in microseconds; refuses a run with a bad answer in it."""
    done = subprocess.run(["taskset", "-c", str(cpu), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s",
                           str(script), url], capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout:
        raise AssertionError(done.stdout)
    figures = {p: float(v) * UNITS[u] for p, v, u in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)\b", done.stdout)}
    total = int(re.search(r"(\d+) requests in", done.stdout)[1])
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1]), figures["50"], figures["99"], total


def wrk_script(path, body, headers):
    lines = ["wrk.method = 'POST'", f"wrk.headers['Content-Type'] = 'application/json'"]
    lines += [f"wrk.headers['{k}'] = '{v}'" for k, v in headers.items()]
    data = path.with_suffix(".body")
    data.write_bytes(body)
    lines += [f"local f = io.open('{data}', 'rb')", "wrk.body = f:read('*a')", "f:close()"]
    path.write_text("\n".join(lines) + "\n")
    return path


# --- those that are measured: a context that gives (URL, pid to account) on a processor ---


@contextlib.contextmanager
def direct(folder, provider, cpu):
    yield provider, None


@contextlib.contextmanager
def proxy(folder, provider, cpu):
    port = free_port()
    host = provider.removeprefix("http://")
    with nginx(folder / f"proxy{port}", f"upstream up {{ server {host}; keepalive 64; }} server {{ listen 127.0.0.1:{port}; "
               "location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_buffering off; } }",
               cpu) as process:
        url = f"http://127.0.0.1:{port}"
        wait(url)
        yield url, worker_of(process.pid)


def gateway_of(*more):
    @contextlib.contextmanager
    def run(folder, provider, cpu):
        record = folder / f"record{free_port()}"
        record.mkdir()
        with running([BUILD / "tests/gateway", ROOT / "data/prices.json", record, provider, str(10**15), "flow", *more], cpu,
                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            yield process.stdout.readline().strip(), process.pid
        shutil.rmtree(record)
    return run


@contextlib.contextmanager
def portkey(folder, provider, cpu):
    home = CACHE / "portkey"
    program = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if not program.exists():
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", home, PORTKEY], check=True)
    port = free_port()
    with running(["node", program, f"--port={port}", "--headless"], cpu, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                 cwd=home) as process:
        url = f"http://127.0.0.1:{port}"
        wait(url)
        yield url, process.pid


def wait(url):
    def answers():
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(url, timeout=5).status_code > 0
        return False
    product.wait_for(f"{url} answers", answers, 60)


def measure(kinds, folder, provider, body, name):
    """Turn and turn about, so that all meet the same noise. The best of the rounds is what the code costs; the rest is
    what else ran on the machine."""
    out = {}
    for kind, start in kinds.items():
        rows = out.setdefault(kind, {"p50": [], "p99": [], "req_s": [], "cpu_us": [], "rss": 0.0})
        rows["start"] = start
    for _ in range(ROUNDS):
        for kind, start in kinds.items():
            rows = out[kind]
            headers = {} if kind != "portkey" else {
                "x-portkey-provider": "anthropic", "x-portkey-custom-host": provider + "/v1", "Authorization": "Bearer sk-x"}
            script = wrk_script(folder / f"{name}-{kind.replace(' ', '')}.lua", body, headers)
            try:
                with start(folder, provider, 0) as (url, _):
                    load(url + "/v1/messages", script, 1, 0, 1)
                    _, p50, p99, _ = load(url + "/v1/messages", script, 1, 0)
                rows["p50"].append(p50)
                rows["p99"].append(p99)
                with start(folder, provider, 1) as (url, pid):
                    load(url + "/v1/messages", script, 16, 0, 1)
                    before = cpu_seconds(pid) if pid else 0
                    req_s, _, _, total = load(url + "/v1/messages", script, 16, 0)
                    if pid:
                        rows["cpu_us"].append((cpu_seconds(pid) - before) / total * 1e6)
                        rows["rss"] = max(rows["rss"], rss_mb(pid))
                rows["req_s"].append(req_s)
            except (AssertionError, OSError, subprocess.CalledProcessError) as e:
                rows["failed"] = str(e).strip().split("\n")[-1][:80] or "failed"
    return out


def put(out, what, rows, base, yard):
    if rows.get("failed"):
        out.add(what, "failed", rows["failed"])
        return
    p50, p99 = min(rows["p50"]), min(rows["p99"])
    added = p50 - min(base["p50"])
    cpu = min(rows["cpu_us"])
    numbers = dict(added_p50_us=added, p50_us=p50, p99_us=p99, added_p99_us=p99 - min(base["p99"]), req_s=max(rows["req_s"]),
                   cpu_us=cpu, req_s_core=1e6 / cpu, rss_mb=rows["rss"])
    yardstick = "direct p50 %.0f us, p99 %.0f us" % (min(base["p50"]), min(base["p99"]))
    ratio = ""
    if yard is not rows and not yard.get("failed"):
        ratio = "%.1f x nginx's CPU a request" % (cpu / min(yard["cpu_us"]))
    out.add(what, "added p50 %+.0f us, p99 %+.0f us; %.0f req/s; %.0f us of CPU a request = %.0f req/s a core; %.1f MB" % (
        added, numbers["added_p99_us"], numbers["req_s"], cpu, numbers["req_s_core"], rows["rss"]), yardstick, ratio, **numbers)
    return numbers


def thousand(out, mode):
    """What the model server billed, on a dollar. Returns dollars."""
    import asyncio

    import modelserver

    body = (b'{"model":"claude-haiku-4-5","max_tokens":4000,"stream":true,"messages":[{"role":"user","content":"'
            + b"x" * 2000 + b'"}]}')

    async def one(host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST /run-test/v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                     b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        await reader.read(-1)
        writer.close()

    async def all_of(url):
        host, port = url.split("/")[2].split(":")
        await asyncio.wait_for(asyncio.gather(*(one(host, int(port)) for _ in range(1000))), 400)

    folder = pathlib.Path(tempfile.mkdtemp(prefix="caged-bench-"))
    with modelserver.ModelServer(words=1000) as model:
        process = subprocess.Popen([BUILD / "tests/gateway", ROOT / "data/prices.json", folder, model.url, str(10**9), mode],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            asyncio.run(all_of(process.stdout.readline().strip()))
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)
        billed = model.bill.cost(1.0, 5.0)
    assert billed <= 1.0, billed
    out.add(f"1000 parallel calls on $1, {mode}", f"the provider billed ${billed:.4f}", "the budget, $1", f"{billed:.3f} of it",
            billed=billed)
    return billed


def main():
    for tool in ("wrk", "nginx", "taskset"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing: make setup")
    os.environ["PATH"] += ":/usr/sbin"
    out = report.Report(QUICK)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="caged-bench-"))
    folder.chmod(0o755)
    kinds = {"direct": direct, "nginx": proxy, "gateway": gateway_of("lazy"), "synced": gateway_of()}
    ours = {}
    try:
        for name, body, reply, type_ in (("small", SMALL, small_reply(), "application/json"),
                                         ("agent", AGENT, agent_reply(), "text/event-stream")):
            files = folder / name
            (files / "v1").mkdir(parents=True)
            (files / "v1/messages").write_bytes(reply)
            files.chmod(0o755)
            port = free_port()
            server = (f"server {{ listen 127.0.0.1:{port}; root {files}; default_type {type_}; error_page 405 =200 $uri; "
                      "location / { } }")
            with nginx(folder / f"provider-{name}", server, 0):
                provider = f"http://127.0.0.1:{port}"
                wait(provider)
                more = {"portkey": portkey} if shutil.which("npm") and shutil.which("node") else {}
                rows = measure({**kinds, **more}, folder, provider, body, name)
            size = f"{len(body) / 1000:.1f} KB, reply {len(reply) / 1000:.1f} KB"
            for kind, label in (("nginx", "nginx proxy_pass"), ("gateway", "gateway"), ("synced", "gateway, synced"),
                                ("portkey", "Portkey's gateway")):
                if kind in rows:
                    ours[name, kind] = put(out, f"{label}: {name} ({size})", rows[kind], rows["direct"], rows["nginx"])
        billed = [thousand(out, mode) for mode in ("strict", "flow")]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    kept = out.keep("none", "gateway-")
    print(f"kept: {kept}")
    s, a = ours["small", "gateway"], ours["agent", "gateway"]
    print("bench-gateway: small added p50 %.0f us, %.0f req/s a core; 96 KB and 61 events added p50 %.0f us, %.0f req/s a core; "
          "%.1f MB; 1000 calls on $1 billed $%.3f strict, $%.3f flow" % (
              s["added_p50_us"], s["req_s_core"], a["added_p50_us"], a["req_s_core"], max(s["rss_mb"], a["rss_mb"]), *billed))


if __name__ == "__main__":
    main()
