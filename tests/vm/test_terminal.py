"""The terminal WebSocket, exactly as clients of the contract use it."""

import asyncio
import json
import os
import pty
import secrets
import subprocess
import time

import pytest
import websockets

import product


def ticket(server):
    return server.api("POST", "/v1/auth/socket-ticket")["ticket"]


async def terminal(server, sandbox, **query):
    query = "".join(f"&{k}={v}" for k, v in query.items())
    url = server.url.replace("http", "ws") + f"{sandbox.path}/terminal?token={ticket(server)}{query}"
    return await websockets.connect(url, subprotocols=["terminal"], max_size=None)


async def send(ws, data):
    await ws.send(json.dumps({"type": "input", "data": data}))


async def read_until(ws, text, timeout=30):
    seen = ""
    deadline = time.monotonic() + timeout
    while text not in seen:
        message = json.loads(await asyncio.wait_for(ws.recv(), max(0.1, deadline - time.monotonic())))
        if message["type"] == "output":
            seen += message["data"]
    return seen


def test_streaming_exec_by_markers_works_as_old_clients_do_it(server, sandbox):
    async def go():
        nonce = secrets.token_hex(8)
        begin, end = f"__CAGED_BEGIN_{nonce}__", f"__CAGED_EXIT_{nonce}__"
        ws = await terminal(server, sandbox)
        await send(ws, f"stty -echo 2>/dev/null; printf '%s\\n' '{begin}'\n"
                       "for i in 1 2 3; do echo line $i; done; (exit 6)\n"
                       f"__caged_rc=$?; printf '%s%d\\n' '{end}' \"$__caged_rc\"; exit $__caged_rc\n")
        seen = ""
        try:
            while True:
                message = json.loads(await asyncio.wait_for(ws.recv(), 30))
                if message["type"] == "output":
                    seen += message["data"]
        except websockets.ConnectionClosed:
            pass
        body = seen.replace("\r", "").split(begin + "\n", 1)[1]
        # the first marker that comes is the real one: nothing typed was echoed by the terminal
        output, code = body.split(end, 1)
        return output, code.split()[0]

    output, code = asyncio.run(go())
    assert code == "6"
    assert [line for line in output.splitlines() if line.startswith("line")] == ["line 1", "line 2", "line 3"]


def test_resize_reaches_the_program(server, sandbox):
    async def go():
        ws = await terminal(server, sandbox, rows=30, cols=100)
        await send(ws, "stty size\n")
        await read_until(ws, "30 100")
        await ws.send(json.dumps({"type": "resize", "rows": 50, "cols": 150}))
        await send(ws, "stty size\n")
        await read_until(ws, "50 150")
        await ws.send(json.dumps({"type": "ping"}))
        while json.loads(await asyncio.wait_for(ws.recv(), 10))["type"] != "pong":
            pass
        await ws.close()

    asyncio.run(go())


def test_a_flood_is_held_back_by_a_slow_reader_and_the_server_stays_small(server, sandbox):
    async def go():
        ws = await terminal(server, sandbox)
        await send(ws, "yes flood | head -c 40000000; echo end-of-flood\n")
        await asyncio.sleep(3)  # nobody reads: the guest must wait, not the server's memory grow
        rss = int(next(line.split()[1] for line in open(f"/proc/{server.pid}/status") if line.startswith("VmRSS")))
        assert rss < 200 * 1024
        assert server.call("GET", "/health").status_code == 200
        await ws.close()

    asyncio.run(go())
    assert sandbox.run("echo still") == "still"


def test_a_cut_connection_ends_its_shell(server, sandbox):
    async def go():
        ws = await terminal(server, sandbox)
        await send(ws, "exec sleep 4321\n")
        await asyncio.sleep(1)
        ws.transport.abort()

    asyncio.run(go())
    product.wait_for("the shell's program is gone",
                     lambda: sandbox.exec("pgrep -f 'sleep 4321$'")["exit_code"] == 1, 30)


def test_utf8_is_never_cut(server, sandbox):
    async def go():
        ws = await terminal(server, sandbox)
        await send(ws, "i=0; while [ $i -lt 3000 ]; do printf 'äöü€😀'; i=$((i+1)); done; echo; echo done-$((1+1))\n")
        return await read_until(ws, "done-2", 60)

    seen = asyncio.run(go())
    assert "\ufffd" not in seen and seen.count("😀") >= 3000


def test_tickets_are_for_one_use_and_origins_are_checked(server, sandbox):
    async def go():
        url = server.url.replace("http", "ws") + f"{sandbox.path}/terminal?token="
        once = ticket(server)
        ws = await websockets.connect(url + once, subprotocols=["terminal"])
        await ws.close()
        for bad, headers in ((once, {}), ("caged_wst_x.y", {}), (ticket(server), {"Origin": "http://evil.example"})):
            with pytest.raises(websockets.InvalidStatusCode):
                await websockets.connect(url + bad, subprotocols=["terminal"], extra_headers=headers)

    asyncio.run(go())


def test_terminal_bytes_are_in_the_record(server, sandbox):
    async def go():
        ws = await terminal(server, sandbox)
        await send(ws, "echo typed-$((40+2))\n")
        await read_until(ws, "typed-42")
        await send(ws, "exit\n")
        try:
            while True:
                await asyncio.wait_for(ws.recv(), 10)
        except websockets.ConnectionClosed:
            pass

    asyncio.run(go())
    product.wait_for("the bytes are recorded", lambda: "typed-42" in json.dumps(sandbox.events("terminal")), 10)
    assert {e["data"]["dir"] for e in sandbox.events("terminal")} >= {"in", "out"}


def test_connect_gives_a_shell_and_puts_the_terminal_back(server, sandbox):
    master, slave = pty.openpty()
    before = subprocess.run(["stty", "-g"], stdin=slave, capture_output=True, text=True).stdout
    process = subprocess.Popen([str(product.CAGED), "connect", sandbox.id], env=server.env, stdin=slave, stdout=slave,
                               stderr=slave, start_new_session=True)
    seen = b""

    def has(text):
        nonlocal seen
        os.set_blocking(master, False)
        try:
            seen += os.read(master, 65536)
        except BlockingIOError:
            pass
        return text in seen

    product.wait_for("a prompt", lambda: has(b"$"), 30)
    os.write(master, b"echo sum-$((20+3)); exit 5\n")
    product.wait_for("its output", lambda: has(b"sum-23"), 30)
    assert process.wait(20) == 5
    assert subprocess.run(["stty", "-g"], stdin=slave, capture_output=True, text=True).stdout == before
