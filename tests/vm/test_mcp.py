"""The MCP endpoint of a real sandbox: over WebSocket, through `caged mcp`, and with the official client."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys

import pytest
import websockets

import product

CLIENT = r"""
import asyncio, json, sys
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

async def main():
    server = StdioServerParameters(command=sys.argv[1], args=["mcp", sys.argv[2]], env=json.loads(sys.argv[3]))
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        start = await session.initialize()
        tools = await session.list_tools()
        await session.call_tool("filesystem_write", {"path": "official.txt", "content": "from the official client"})
        done = await session.call_tool("terminal_exec", {"command": "cat official.txt; exit 3"})
        listed = await session.call_tool("filesystem_list", {"path": "."})
        dump = lambda m: m.model_dump(mode="json", by_alias=True)
        print(json.dumps({"start": dump(start), "tools": dump(tools), "done": dump(done), "listed": dump(listed)}))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def box(server):
    s = server.create(memory_mb=256, disk_gb=1)
    yield s
    s.destroy()


class Socket:
    """A strict client: every answer is JSON-RPC and carries the id that was asked with."""

    def __init__(self, ws):
        self.ws, self.n = ws, 0

    async def ask(self, method, params=None):
        self.n += 1
        await self.ws.send(json.dumps({"jsonrpc": "2.0", "id": self.n, "method": method, "params": params or {}}))
        answer = json.loads(await asyncio.wait_for(self.ws.recv(), 120))
        assert answer["jsonrpc"] == "2.0" and answer["id"] == self.n, answer
        assert set(answer) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})
        return answer

    async def call(self, tool, **arguments):
        result = (await self.ask("tools/call", {"name": tool, "arguments": arguments}))["result"]
        return result["content"][0]["text"], result["isError"], result.get("structuredContent")


@contextlib.asynccontextmanager
async def connect(server, box):
    ticket = server.api("POST", "/v1/auth/socket-ticket")["ticket"]
    url = server.url.replace("http", "ws") + f"{box.path}/mcp?token={ticket}"
    async with websockets.connect(url, subprotocols=["mcp"], max_size=None) as ws:
        assert ws.subprotocol == "mcp"
        yield Socket(ws)


def test_files_and_commands_are_those_of_the_guest(server, box):
    async def go():
        async with connect(server, box) as s:
            start = await s.ask("initialize", {"protocolVersion": "2024-11-05", "capabilities": {},
                                               "clientInfo": {"name": "t", "version": "1"}})
            assert start["result"]["protocolVersion"] == "2024-11-05"
            assert len((await s.ask("tools/list"))["result"]["tools"]) == 10
            assert (await s.ask("resources/list"))["result"] == {"resources": []}
            assert (await s.ask("prompts/list"))["result"] == {"prompts": []}
            assert not (await s.call("filesystem_write", path="a/b.txt", content="hello ü\n"))[1]
            assert (await s.call("filesystem_read", path="a/b.txt"))[:2] == ("hello ü\n", False)
            assert (await s.call("filesystem_read", path="/workspace/a/b.txt"))[:2] == ("hello ü\n", False)
            text, failed, _ = await s.call("filesystem_list", path="a")
            assert text.split()[-1] == "b.txt" and not failed
            assert (await s.call("filesystem_search", pattern="*.txt"))[:2] == ("a/b.txt\n", False)
            assert (await s.call("terminal_exec", command="pwd; id -un; echo e >&2; exit 4"))[:2] == (
                "/workspace\nagent\nSTDERR:\ne\n\nexit code 4", True)
            assert not (await s.call("filesystem_delete", path="a"))[1]
            assert (await s.call("filesystem_read", path="a/b.txt"))[1]

    asyncio.run(go())
    assert "/workspace" in box.exec("ls -d /workspace")["output"]


@pytest.mark.parametrize("path", ["../etc/passwd", "/etc/passwd", "/workspace/../etc/passwd", "out/passwd"])
def test_no_path_leads_out_of_the_workspace(server, box, path):
    box.exec("ln -sfn /etc /workspace/out")

    async def go():
        async with connect(server, box) as s:
            for tool, more in (("filesystem_read", {}), ("filesystem_write", {"content": "x"}), ("filesystem_delete", {})):
                text, failed, _ = await s.call(tool, path=path, **more)
                assert failed, (tool, text)

    asyncio.run(go())
    assert "root:" in box.exec("cat /etc/passwd")["output"]


def test_a_command_over_its_time_is_killed(server, box):
    async def go():
        async with connect(server, box) as s:
            text, failed, _ = await s.call("terminal_exec", command="echo begun; sleep 600", timeout=1)
            assert failed and text.startswith("begun") and "killed" in text

    asyncio.run(go())


def test_three_megabytes_are_written_and_read(server, box):
    big = "0123456789abcde\n" * (3 << 16)

    async def go():
        async with connect(server, box) as s:
            assert not (await s.call("filesystem_write", path="big", content=big))[1]
            assert (await s.call("filesystem_read", path="big"))[0] == big

    asyncio.run(go())


def test_a_client_that_leaves_ends_its_commands(server, box):
    async def go():
        async with connect(server, box) as s:
            await s.ws.send('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"terminal_exec",'
                            '"arguments":{"command":"exec sleep 4321","timeout":600}}}')
            while "sleep 4321" not in await asyncio.to_thread(lambda: box.exec("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")["output"]):
                await asyncio.sleep(0.2)

    asyncio.run(go())
    product.wait_for("it is gone", lambda: "sleep 4321" not in box.exec("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | sed 's/cat .*//'")["output"], 30)


def test_what_a_client_does_is_in_the_record(server, box):
    async def go():
        async with connect(server, box) as s:
            await s.call("terminal_exec", command="echo recorded-4711")

    asyncio.run(go())
    product.wait_for("it is recorded", lambda: [e for e in box.events("command") if "recorded-4711" in json.dumps(e)], 20)


def test_a_read_key_may_not(server, box):
    key = server.api("POST", "/v1/account/keys", {"name": "r", "scope": "read"})["key"]
    response = server.call("GET", f"{box.path}/mcp", headers={"Authorization": f"Bearer {key}"})
    assert response.status_code == 403


def test_the_bridge_answers_a_message_a_line(server, box):
    lines = [{"jsonrpc": "2.0", "id": "a", "method": "initialize", "params": {"protocolVersion": "2025-11-25"}},
             {"jsonrpc": "2.0", "method": "notifications/initialized"},
             {"jsonrpc": "2.0", "id": "b", "method": "tools/call",
              "params": {"name": "terminal_exec", "arguments": {"command": "sleep 1; echo bridged"}}}]
    done = server.cli("mcp", box.id, input="".join(json.dumps(line) + "\n" for line in lines) + "nonsense\n")
    answers = {a["id"]: a for a in map(json.loads, done.stdout.splitlines())}
    assert answers["a"]["result"]["protocolVersion"] == "2025-11-25" and answers[None]["error"]["code"] == -32700
    assert answers["b"]["result"]["content"][0]["text"] == "bridged\n"
    gone = server.cli("mcp", "cage-aaaaaaaaaa", check=False)
    assert gone.returncode == 1 and gone.stdout == "" and "cage-aaaaaaaaaa" in gone.stderr


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A Python that has the official `mcp` package; made here unless MCP_PYTHON names one."""
    if os.environ.get("MCP_PYTHON"):
        return os.environ["MCP_PYTHON"]
    folder = tmp_path_factory.mktemp("mcp")
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, timeout=120)
        subprocess.run([f"{folder}/bin/pip", "install", "-q", "mcp"], check=True, capture_output=True, timeout=300)
    except (subprocess.SubprocessError, OSError) as e:
        pytest.skip(f"the official client cannot be installed here: {e}")
    return f"{folder}/bin/python"


def test_the_official_client_works_through_the_bridge(server, box, official, tmp_path):
    script = tmp_path / "client.py"
    script.write_text(CLIENT)
    env = {k: v for k, v in server.env.items() if k.startswith("CAGED_") or k in ("PATH", "HOME")}
    done = subprocess.run([official, str(script), str(product.CAGED), box.id, json.dumps(env)], capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["start"]["serverInfo"]["name"] == "caged-mcp-server"
    assert len(said["tools"]["tools"]) == 10
    assert said["done"]["isError"] and said["done"]["content"][0]["text"].startswith("from the official client")
    assert "official.txt" in [e["name"] for e in said["listed"]["structuredContent"]["entries"]]
