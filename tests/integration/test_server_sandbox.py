"""The sandbox routes of the server against real guests: what each promises beyond the ordinary way,
which tests/vm walks."""

import asyncio
import base64
import concurrent.futures
import contextlib
import hashlib
import io
import json
import os
import signal
import socket
import tarfile
import threading
import time

import httpx
import pytest
import websockets

import product


@pytest.fixture(scope="module")
def box(server):
    """One sandbox for the tests that leave it as it was."""
    s = server.create(memory_mb=256, disk_gb=1)
    yield s
    s.destroy()


def refused(server, method, path, **kw):
    response = server.call(method, path, **kw)
    assert response.status_code >= 400, response.text
    assert response.json()["reason"]["code"]
    return response


# --- the object ---


def test_the_object_has_every_field_of_the_contract(server, box):
    got = box.get()
    assert got["status"] == "running" and got["id"].startswith("cage-")
    for field in ("template", "ip", "cpus", "memory_mb", "disk_gb", "network_mode", "created_at", "started_at"):
        assert got[field], field
    assert got["network_mode"] == "full"
    assert got["llm_cost"] == 0 and got["cost"] > 0 and got["total_cost"] == got["cost"]
    assert got["isolation"]["vmm"] == "qemu" and got["isolation"]["accel"] in ("tcg", "kvm")
    assert "stopped_at" not in got and "budget" not in got
    assert box.id in [s["id"] for s in server.api("GET", "/v1/sandboxes")]


# --- exec ---


def test_exec_output_beyond_eight_mib_is_cut_and_said(box):
    done = box.exec("head -c 9000000 /dev/zero | tr '\\0' x; echo end >&2")
    assert done["exit_code"] == 0 and done["truncated"] is True
    assert len(done["stdout"]) == 8 << 20 and set(done["stdout"]) == {"x"}
    assert done["stderr"] == "end\n"


def test_exec_output_that_is_not_utf8_stays_valid_json(box):
    done = box.exec("printf '\\377\\376ok\\001\\033[31m\\n'")
    assert done["output"] == "\ufffd\ufffdok\x01\x1b[31m\n"


def test_exec_takes_argv_and_a_large_stdin(box):
    text = "0123456789abcdef" * 100_000
    done = box.exec(None, argv=["sha256sum"], stdin=text)
    assert done["output"].split()[0] == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("path,words", [
    ("logs?tail=null", "tail whole number null"), ("logs?tail=", "tail"), ("logs?tail=1.5", "tail 1.5"), ("logs?tail=" + "9" * 99, "tail bytes"),
    ("replay?limit=null", "limit from 1 null"), ("replay?limit=0", "limit from 1"), ("replay?after_seq=-1", "after_seq from 0"),
    ("replay?q=" + "x" * 256, "q 255 bytes"), ("replay?from=" + "1" * 99, "from bytes"), ("replay?type=" + "x" * 600, "type bytes"),
    ("terminal?rows=null", "rows 1 to 1000 null"), ("terminal?cols=1001", "cols 1 to 1000 1001"), ("git/diff?path=/" + "x" * 4096, "path bytes"),
    ("files?at_seq=" + "1" * 99, "at_seq bytes"), ("/v1/sessions?page=null", "page from 1 null"), ("/v1/sessions?per_page=null", "per_page from 1 null"),
    ("/v1/sessions?page=4294967296", "page 1 to"), ("/v1/alerts?limit=null", "limit null"), ("/v1/alerts?offset=x", "offset x"),
    ("/v1/notifications?limit=x", "limit x"), ("/v1/notifications?unread=null", "unread true false null"), ("/v1/audit?limit=null", "limit null"),
    ("/v1/audit?before=null", "before null"), ("/v1/prices?all=null", "all null"), ("/v1/prices?provider=" + "x" * 300, "provider bytes"),
    ("/v1/billing/usage/export?from=" + "1" * 99, "from bytes"), ("/v1/events/stream?types=" + "x" * 200, "types bytes"),
], ids=lambda v: v[:40])
def test_wrong_query_parameters_are_refused_by_name_and_range(server, box, path, words):
    answer = server.call("GET", path if path[0] == "/" else f"{box.path}/{path}")
    assert answer.status_code == 400, answer.text[:300]
    assert not [w for w in words.split() if w not in answer.json()["detail"]], answer.json()["detail"]


def test_a_budget_of_the_wrong_type_is_refused_beside_a_right_one(server, box):
    for body, word in (({"budget": 1, "budget_usd": "2"}, "budget_usd"), ({"budget": [], "budget_usd": 2}, "budget"), ({"budget": -1}, "budget")):
        assert word + " must be dollars" in refused(server, "PATCH", box.path, json=body).json()["detail"]
    refused(server, "POST", "/v1/sandboxes?wait=perhaps", json={"template": "minimal"})
    assert server.api("PATCH", box.path, {"budget": 5, "budget_usd": 2})["budget"] == 5
    server.api("PATCH", box.path, {"budget": 0})


@pytest.mark.parametrize("body,word", [
    ({}, "command"), ({"command": ""}, "command"), ({"command": 7}, "command"), ({"argv": []}, "argv"),
    ({"argv": "x"}, "argv"), ({"command": "x", "user": "nobody"}, "user"), ({"command": "x", "env": {"A B": "x"}}, "env"),
    ({"command": "x", "timeout_ms": -1}, "timeout_ms"), ({"command": "x", "stdin": 5}, "stdin"),
], ids=lambda v: json.dumps(v) if isinstance(v, dict) else "")
def test_wrong_exec_requests_name_the_field(server, box, body, word):
    assert word in refused(server, "POST", box.path + "/exec", json=body).json()["detail"]


def test_a_client_that_hangs_up_ends_its_command(server, box):
    with pytest.raises(httpx.ReadTimeout):
        server.call("POST", box.path + "/exec", json={"command": "exec sleep 4242"}, timeout=2)
    product.wait_for("it is gone", lambda: box.exec("pgrep -f 'sleep 424[2]'")["exit_code"] == 1, 20)


# --- files ---


def test_files_are_written_listed_read_renamed_and_deleted(server, box):
    files = box.path + "/files"
    put = server.api("PUT", files + "/content?path=/workspace/d/a.txt", {"content": "grüße\n"})
    assert put == {"status": "ok", "path": "/workspace/d/a.txt"}
    server.api("PUT", files + "/content", {"path": "/workspace/d/old-form.txt", "content": "x"})
    got = server.call("GET", files + "/content?path=/workspace/d/a.txt")
    assert got.text == "grüße\n" and got.headers["content-type"].startswith("text/plain")
    listed = {f["name"]: f for f in server.api("GET", files + "?path=/workspace/d")}
    assert listed["a.txt"]["type"] == "file" and listed["a.txt"]["size"] == 8
    assert listed["a.txt"]["path"] == "/workspace/d/a.txt" and listed["a.txt"]["mod_time"].endswith("Z")
    server.api("POST", files + "/mkdir", {"path": "/workspace/d/e/f"})
    server.api("POST", files + "/rename", {"from": "/workspace/d/a.txt", "to": "/workspace/d/e/f/b.txt"})
    assert box.run("cat d/e/f/b.txt") == "grüße"
    assert [f["type"] for f in server.api("GET", files + "?path=d") if f["name"] == "e"] == ["directory"]
    refused(server, "DELETE", files + "?path=/workspace/d")
    assert server.call("DELETE", files + "?path=/workspace/d&recursive=true").status_code == 204
    assert refused(server, "GET", files + "?path=/workspace/d").status_code == 404


def test_binary_bytes_go_in_and_out_as_they_are(server, box):
    data = os.urandom(3_000_000)
    raw = box.path + "/files/raw?path=/workspace/blob"
    assert server.call("PUT", raw, content=data).status_code == 200
    assert server.call("GET", raw).content == data
    over = refused(server, "GET", box.path + "/files/content?path=/workspace/blob")
    assert over.status_code == 400 and "raw" in over.json()["detail"]
    assert server.call("PUT", raw, content=iter([b"a", b"", b"b"])).status_code == 200
    assert server.call("GET", raw).content == b"ab"
    assert server.call("PUT", raw, content=b"").status_code == 200
    assert server.call("GET", raw).content == b""


def test_archives_go_in_and_out(server, box):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in (("in/x", b"1"), ("in/deep/y", os.urandom(700_000))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert server.call("PUT", box.path + "/files/archive?path=/workspace/t", content=buffer.getvalue()).status_code == 200
    got = server.call("GET", box.path + "/files/archive?path=/workspace/t/in")
    with tarfile.open(fileobj=io.BytesIO(got.content)) as tar:
        assert sorted(os.path.basename(m.name) for m in tar if m.isfile()) == ["x", "y"]
    box.run("rm -rf t")


def test_an_upload_that_cannot_be_written_says_why_however_long_it_is(server, box):
    for size in (10, 20 << 20):
        answer = refused(server, "PUT", box.path + "/files/raw?path=/proc/nothing/x", content=b"x" * size)
        assert answer.status_code in (400, 403, 404, 500)
    assert refused(server, "PUT", box.path + "/files/archive?path=/workspace/t",
                   content=b"no tar at all" * 100_000).status_code in (400, 502)
    assert box.exec("ls -A /workspace")["output"].count("x") == 0


def test_an_upload_that_is_cut_leaves_no_file(server, box):
    host, port = server.info["listen"].rsplit(":", 1)
    with socket.create_connection((host, int(port))) as s:
        s.sendall(f"PUT {box.path}/files/raw?path=/workspace/cut HTTP/1.1\r\nHost: {host}\r\n"
                  f"Authorization: Bearer {server.key}\r\nContent-Length: 10000000\r\n\r\n".encode() + b"x" * 100_000)
    product.wait_for("nothing is left of it", lambda: box.run("find /workspace -name '*cut*'") == "", 20)


def test_a_path_that_is_no_folder_or_too_long_is_the_clients_mistake(server, box):
    box.run("touch /workspace/plain")
    assert server.call("GET", f"{box.path}/files?path=/workspace/plain").status_code == 409
    assert server.call("GET", f"{box.path}/files?path=/workspace/plain/under").status_code == 409
    assert server.call("GET", f"{box.path}/files?path=/workspace/{'x' * 300}").status_code == 400
    box.run("rm /workspace/plain")


def test_a_missing_path_parameter_is_named(server, box):
    for method, route in (("GET", "content"), ("GET", "raw"), ("PUT", "raw")):
        assert "missing path parameter" in refused(server, method, f"{box.path}/files/{route}").json()["detail"]


def test_a_slow_download_holds_only_itself_back(server, box):
    size = 60 << 20
    box.run(f"head -c {size} /dev/urandom > big")
    want = box.run("sha256sum < big").split()[0]
    host, port = server.info["listen"].rsplit(":", 1)
    with socket.create_connection((host, int(port))) as s:
        s.sendall(f"GET {box.path}/files/raw?path=/workspace/big HTTP/1.0\r\nHost: {host}\r\n"
                  f"Authorization: Bearer {server.key}\r\n\r\n".encode())
        first = s.recv(10_000)
        before = rss_kib(server)
        for i in range(20):
            assert box.run(f"echo {i}") == str(i)
        assert_grew_less(server, before, 8 * 1024)
        rest = [first]
        while part := s.recv(1 << 20):
            rest.append(part)
    body = b"".join(rest).split(b"\r\n\r\n", 1)[1]
    assert len(body) == size and hashlib.sha256(body).hexdigest() == want
    box.run("rm big")


def rss_kib(server):
    with open(f"/proc/{server.pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1])


def assert_grew_less(server, before, kib):
    if "asan" not in str(product.STAGE):  # its quarantine grows by itself
        assert rss_kib(server) - before < kib


# --- git, ports, metrics, logs ---


def test_git_diff_tells_states_and_texts(server, box):
    box.run("mkdir g && cd g && git init -q && git config user.email t@t && git config user.name t && "
            "printf 'a\\n' > kept && printf 'b\\n' > gone && printf 'c\\n' > moved && git add . && git commit -qm 1 && "
            "echo more >> kept && rm gone && echo new > 'with space' && echo staged > s && git add s")
    got = server.api("GET", box.path + "/git/diff?path=/workspace/g")
    assert {f["path"]: f["status"] for f in got["files"]} == {
        "kept": "modified", "gone": "deleted", "with space": "untracked", "s": "added"}
    assert "+more" in got["diff"] and "+staged" in got["staged_diff"] and "+staged" not in got["diff"]
    assert "git" in refused(server, "GET", box.path + "/git/diff?path=/tmp").json()["detail"]
    box.run("rm -rf g")


def test_listening_ports_appear_and_go(server, box):
    box.exec("(timeout 60 python3 -m http.server 8000 || timeout 60 perl -MIO::Socket::INET -e "
             "'IO::Socket::INET->new(Listen=>1,LocalPort=>8000,ReuseAddr=>1)->accept') >/dev/null 2>&1 &")

    def found():
        return [p for p in server.api("GET", box.path + "/ports") if p["port"] == 8000]

    port = product.wait_for("port 8000 is listed", found, 30)[0]
    assert port["protocol"] == "http" and port["protected"] is False
    assert port["preview_url"] == f"http://{box.id}-{port['port']}.preview.localhost:{server.url.rsplit(':')[-1]}"
    box.exec("pkill -f 8000", user="root")
    product.wait_for("port 8000 is gone", lambda: not found(), 30)


def test_metrics_and_status_come_from_the_guest(server, box):
    product.wait_for("there is a sample", lambda: server.api("GET", box.path + "/metrics"), 30)
    sample = server.api("GET", box.path + "/metrics")
    assert 100 < sample["memory_total_mb"] <= 256 and sample["num_processes"] > 1
    status = server.api("GET", box.path + "/status")
    assert status["state"] == "running" and status["durable_seq"] > 0


def test_logs_have_the_last_lines_and_clamp_the_tail(server, box):
    for i in range(5):
        box.run(f"echo log-{i}")
    lines = server.api("GET", box.path + "/logs?tail=4")
    assert len(lines) == 4 and all(set(line) >= {"timestamp", "type", "message"} for line in lines)
    assert "echo log-4" in [line["message"] for line in lines]
    assert len(server.api("GET", box.path + "/logs?tail=0")) > 4
    assert len(server.api("GET", box.path + "/logs?tail=100000000")) <= 1000


# --- WebSockets ---


def connect(server, path, protocol):
    ticket = server.api("POST", "/v1/auth/socket-ticket")["ticket"]
    url = server.url.replace("http", "ws") + f"{path}?token={ticket}"
    return websockets.connect(url, subprotocols=[protocol], max_size=None)


def test_exec_by_socket_keeps_its_outputs_apart_and_takes_input_and_signals(server, box):
    async def run(start, *messages):
        out, last = {1: b"", 2: b""}, None
        async with connect(server, box.path + "/exec", "exec") as ws:
            await ws.send(json.dumps({"type": "start", **start}))
            for message in messages:
                await ws.send(message if isinstance(message, bytes) else json.dumps(message))
            with contextlib.suppress(websockets.ConnectionClosedError):
                async for message in ws:
                    if isinstance(message, bytes):
                        out[message[0]] += message[1:]
                    else:
                        last = json.loads(message)
        return out[1], out[2], last

    data = os.urandom(500_000)
    out, err, end = asyncio.run(run({"command": "base64 -w0; echo done >&2; exit 9", "stdin": True},
                                    *[b"\0" + data[i:i + 50_000] for i in range(0, len(data), 50_000)], {"type": "eof"}))
    assert base64.b64decode(out) == data and err == b"done\n"
    assert end["type"] == "exit" and end["exit_code"] == 9
    _, _, end = asyncio.run(run({"argv": ["sleep", "100"]}, {"type": "signal", "signal": "TERM"}))
    assert end["exit_code"] == 128 + signal.SIGTERM
    _, _, end = asyncio.run(run({"argv": ["/no/such/program"]}))
    assert end["type"] == "error" and "/no/such/program" in end["message"]


def test_a_socket_without_upgrade_or_with_broken_frames_harms_nobody(server, box):
    assert refused(server, "GET", box.path + "/terminal").status_code == 426
    ticket = server.api("POST", "/v1/auth/socket-ticket")["ticket"]
    host, port = server.info["listen"].rsplit(":", 1)
    for rubbish in (b"\x81\x05hello", b"\xff" * 64, b"\x88\x81\0\0\0\0\0", b"\x81\xff" + b"\x7f" + b"\xff" * 7 + b"\0" * 16):
        ticket = server.api("POST", "/v1/auth/socket-ticket")["ticket"]
        with socket.create_connection((host, int(port)), timeout=20) as s:
            s.sendall(f"GET {box.path}/terminal?token={ticket} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
                      f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode())
            assert b" 101 " in s.recv(4096)
            s.sendall(rubbish)
            while s.recv(65536):
                pass
    assert box.run("echo fine") == "fine"


def test_pings_that_nobody_reads_do_not_grow_the_server(server, box):
    ticket = server.api("POST", "/v1/auth/socket-ticket")["ticket"]
    host, port = server.info["listen"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=5) as s:
        s.sendall(f"GET {box.path}/terminal?token={ticket} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
                  f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode())
        before = rss_kib(server)
        ping = (b"\x89\xfd\0\0\0\0" + b"p" * 125) * 1000
        try:
            for _ in range(400):
                s.sendall(ping)
        except TimeoutError:
            pass
        assert_grew_less(server, before, 16 * 1024)
        assert box.run("echo fine") == "fine"


# --- events ---


def sse(server, path, until, begun=None, **headers):
    """Reads a stream until `until(fields)` or its end; the list of field dicts. Sets the event `begun` when it is open."""
    events, fields = [], {}
    with httpx.stream("GET", server.url + path, headers={"Authorization": f"Bearer {server.key}", **headers},
                      timeout=30) as r:
        assert r.status_code == 200 and r.headers["content-type"].startswith("text/event-stream")
        if begun:
            begun.set()
        for line in r.iter_lines():
            line = line.rstrip("\n")
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
                continue
            if fields:
                events.append(fields)
                if until(fields):
                    break
                fields = {}
    return events


def test_a_stream_of_an_ended_sandbox_is_whole_and_ends_with_its_state(server):
    s = server.create(memory_mb=256, disk_gb=1)

    async def fill():
        async with connect(server, s.path + "/exec", "exec") as ws:
            await ws.send(json.dumps({"type": "start", "command": "head -c 2000000 /dev/zero | tr '\\0' x",
                                      "pty": {"rows": 24, "cols": 80}}))
            with contextlib.suppress(websockets.ConnectionClosed):
                while True:
                    await ws.recv()

    asyncio.run(fill())
    s.destroy()
    events = sse(server, f"/v1/events/stream?sandbox_id={s.id}", lambda f: False)
    seqs = [int(f["id"].rsplit(":", 1)[1]) for f in events if "id" in f]
    assert seqs == list(range(1, len(seqs) + 1))
    assert sum(len(f["data"]) for f in events) > 1 << 20
    told = [json.loads(f["data"]) for f in events]
    assert told[-2]["type"] == "lifecycle" and told[-2]["data"]["event"] == "destroyed"
    assert events[-1]["event"] == "sandbox" and told[-1]["status"] == "destroyed"
    lines = {line["seq"]: line for line in s.record() if line.get("seq")}
    assert len(lines) == len(seqs)
    again = sse(server, f"/v1/events/stream?sandbox_id={s.id}", lambda f: "id" in f,
                **{"Last-Event-ID": f"{s.id}:{seqs[-1] - 1}"})
    assert again[0]["id"] == f"{s.id}:{seqs[-1]}"
    assert len(server.api("GET", s.path + "/logs?tail=3")) == 3


def test_one_stream_carries_all_sandboxes_of_the_account(server, box):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        begun = threading.Event()
        seen = pool.submit(sse, server, "/v1/events/stream", lambda f: "two-in-one" in f["data"], begun)
        assert begun.wait(60)
        other = server.create(memory_mb=256, disk_gb=1)
        box.run("echo one-in-one")
        other.run("echo two-in-one")
        events = seen.result(60)
    ids = {json.loads(f["data"]).get("sandbox_id") for f in events}
    assert {box.id, other.id} <= ids
    phases = [json.loads(f["data"])["phase"] for f in events if f.get("event") == "sandbox" and '"phase"' in f["data"]]
    assert "boot" in phases
    other.destroy()


def test_wrong_stream_requests_are_refused(server, box):
    refused(server, "GET", "/v1/events/stream?sandbox_id=cage-doesnotexist")
    refused(server, "GET", f"/v1/events/stream?sandbox_id={box.id}&after_seq=minus")


# --- creating and ending ---


def left_of(server, sandbox_id):
    return [p for p in (server.state / "sandboxes" / sandbox_id, os.path.join(server.info["run_dir"], sandbox_id))
            if os.path.exists(p)]


def test_wait_false_answers_at_once_and_shows_how_far_it_is(server):
    made = server.api("POST", "/v1/sandboxes?wait=false", {"template": "minimal", "memory_mb": 256, "disk_gb": 1,
                                                           "init_script": "echo hello; sleep 1"})
    assert made["status"] == "pending" and made["phase"] and "percent" in made
    s = product.Sandbox(server, made)
    phases = []

    def done():
        got = s.get()
        phases.append((got.get("percent", 100), got.get("phase")))
        return got["status"] != "pending" and "phase" not in got

    product.wait_for("it runs", done)
    assert s.get()["status"] == "running" and s.get()["init"] == {"status": "ok", "exit_code": 0, "output_tail": "hello\n"}
    assert phases == sorted(phases, key=lambda p: p[0]) and len({p[1] for p in phases}) > 2
    s.destroy()


@pytest.mark.parametrize("phase", ["prepare", "boot", "init"])
def test_destroy_while_it_is_made_leaves_nothing(server, phase):
    # a shape that nobody else has boots for a while; another is restored in a blink
    made = server.api("POST", "/v1/sandboxes?wait=false", {"template": "minimal", "memory_mb": 304 if phase == "boot" else 256,
                                                           "disk_gb": 1, "init_script": "sleep 1000"})
    s = product.Sandbox(server, made)
    product.wait_for(f"it is at {phase}", lambda: phase == "prepare" or s.get().get("phase") == phase)
    s.destroy()
    assert s.get()["status"] == "destroyed"
    assert left_of(server, s.id) == []
    assert s.id not in [x["id"] for x in server.api("GET", "/v1/sandboxes")]


def test_the_synchronous_create_hears_of_a_destroy(server):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        create = pool.submit(server.call, "POST", "/v1/sandboxes",
                             # a shape that nobody else has boots for a while: there is time to destroy it
                             json={"template": "minimal", "memory_mb": 288, "disk_gb": 1, "name": "to-go"})
        found = product.wait_for("it is listed", lambda: [s for s in server.api("GET", "/v1/sandboxes") if
                                                          s.get("name") == "to-go"])[0]
        server.api("DELETE", f"/v1/sandboxes/{found['id']}")
        answer = create.result(60)
    assert answer.status_code == 409 and found["id"] in answer.json()["detail"]


def test_a_clone_that_fails_undoes_everything_and_says_why(server):
    answer = server.call("POST", "/v1/sandboxes", json={
        "template": "minimal", "memory_mb": 256, "disk_gb": 1, "name": "no-clone",
        "repo": "https://user:very-secret-token@127.0.0.1:1/x.git"})
    assert answer.status_code == 400
    assert "clone https://127.0.0.1:1/x.git" in answer.json()["detail"]
    failed = [s for s in server.api("GET", "/v1/sandboxes") if s.get("name") == "no-clone"][0]
    assert failed["status"] == "error" and failed["error"]["text"]
    assert left_of(server, failed["id"]) == []
    for part in ("server.db", "server.db-wal", "server.log"):
        assert b"very-secret-token" not in (server.state / part).read_bytes()
    record = b"".join(product.segments(server.state / "archive" / failed["id"] / "record"))
    assert b"127.0.0.1:1/x.git" in record and b"very-secret-token" not in record
    assert record.rstrip().rsplit(b"\n", 1)[1].count(b'"event":"destroyed"') == 1
    assert server.call("DELETE", f"/v1/sandboxes/{failed['id']}").status_code == 204
    assert refused(server, "DELETE", f"/v1/sandboxes/{failed['id']}").status_code == 404


def test_a_deferred_init_runs_once_when_it_is_asked_for(server):
    s = server.create(memory_mb=256, disk_gb=1, init_script="cat input > output", defer_init=True)
    assert s.get()["init"] == {"status": "pending"}
    server.api("PUT", s.path + "/files/content?path=/workspace/input", {"content": "given"})
    assert server.api("POST", s.path + "/init")["init"]["status"] == "ok"
    assert s.run("cat output") == "given"
    assert refused(server, "POST", s.path + "/init").status_code == 409
    s.destroy()


def test_an_init_asked_for_the_moment_a_creation_is_over_is_waited_for(server):
    for _ in range(10):
        made = server.api("POST", "/v1/sandboxes?wait=false", {"template": "minimal", "memory_mb": 256, "disk_gb": 1,
                                                               "init_script": "sleep 0.3; exit 4", "defer_init": True})
        path = f"/v1/sandboxes/{made['id']}"
        while "phase" in server.api("GET", path):
            pass
        told = server.api("POST", path + "/init")["init"]
        assert (told["status"], told.get("exit_code")) == ("failed", 4)
        server.api("DELETE", path)


def test_admission_gives_exactly_as_many_as_the_limit_says():
    with product.Server(config="limits:\n  sandboxes: 2\n") as server:
        def one(_):
            return server.call("POST", "/v1/sandboxes?wait=false", json={"template": "minimal", "memory_mb": 128, "disk_gb": 1})

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(one, range(200)))
        codes = [a.status_code for a in answers]
        assert sorted(set(codes)) == [201, 403] and codes.count(201) == 2
        reason = next(a for a in answers if a.status_code == 403).json()["reason"]
        assert reason["code"] == "plan_limit_reached" and reason["action"]
        for a in answers:
            if a.status_code == 201:
                server.api("DELETE", f"/v1/sandboxes/{a.json()['id']}")
        assert server.create(memory_mb=256, disk_gb=1).run("echo room again") == "room again"


def test_a_restart_in_the_middle_of_things(tmp_path):
    """Pending ones end as error with nothing left; running ones are found again, also when it was killed."""
    with product.Server() as server:
        runs = server.create(memory_mb=256, disk_gb=1)
        inits = product.Sandbox(server, server.api("POST", "/v1/sandboxes?wait=false", {
            "template": "minimal", "memory_mb": 256, "disk_gb": 1, "init_script": "sleep 1000"}))
        product.wait_for("init runs", lambda: inits.get().get("phase") == "init")
        pending = product.Sandbox(server, server.api("POST", "/v1/sandboxes?wait=false", {
            "template": "minimal", "memory_mb": 256, "disk_gb": 1}))
        product.wait_for("it is in the jail", lambda: pending.get().get("phase") in ("jail", "boot"))
        server.kill(signal.SIGKILL)
        server.start()
        assert runs.run("echo found") == "found"
        assert inits.get()["status"] == "running" and inits.get()["init"]["status"] == "failed"
        assert "restarted" in inits.get()["init"]["output_tail"]
        assert inits.run("echo found too") == "found too"
        product.wait_for("it is cleaned up", lambda: pending.get()["status"] == "error")
        assert "restarted while it was made" in pending.get()["error"]["text"]
        assert left_of(server, pending.id) == []
        for s in (runs, inits, pending):
            s.destroy()
            assert left_of(server, s.id) == []


def test_a_stop_tells_streams_and_terminals_and_ends_soon(server):
    with product.Server() as server:
        s = server.create(memory_mb=256, disk_gb=1)

        async def go():
            async with connect(server, s.path + "/terminal", "terminal") as ws:
                os.kill(server.pid, signal.SIGTERM)
                with pytest.raises(websockets.ConnectionClosed):
                    while True:
                        await asyncio.wait_for(ws.recv(), 20)
                return ws.close_code

        assert asyncio.run(go()) == 1001
        product.wait_for("the server is gone", lambda: not product.alive(server.pid), 20)
        server.start()
        assert s.run("echo still here") == "still here"


def test_a_vmm_that_dies_tells_so_and_frees_everything(server):
    s = server.create(memory_mb=256, disk_gb=1)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        stream = pool.submit(sse, server, f"/v1/events/stream?sandbox_id={s.id}", lambda f: False)
        waits = pool.submit(server.call, "POST", s.path + "/exec", json={"command": "sleep 1000"})
        product.wait_for("the command runs", lambda: server.api("GET", s.path + "/status")["execs"] == 1)
        pids = product.processes_naming(s.id)
        vmm = [pid for pid, line in pids.items() if "qemu" in line]
        keeper = [int(open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()[1]) for p in pids][:1]
        children = [int(c) for c in open(f"/proc/{keeper[0]}/task/{keeper[0]}/children").read().split()]
        vmm = vmm or [c for c in children if "qemu" in open(f"/proc/{c}/cmdline").read()]
        os.kill(vmm[0], signal.SIGKILL)
        assert waits.result(60).status_code in (502, 409, 503)
        events = stream.result(60)
    got = s.get()
    assert got["status"] == "error" and got["error"]["text"] and got["stopped_at"]
    assert json.loads(events[-1]["data"])["status"] == "error"
    types = [json.loads(f["data"]).get("type") for f in events]
    assert types.count("error") == 1
    assert left_of(server, s.id) == [] and not product.processes_naming(s.id)
    assert refused(server, "POST", s.path + "/exec", json={"command": "x"}).status_code == 409
    cost = got["cost"]
    time.sleep(0.2)
    assert s.get()["cost"] == cost
    s.destroy()
