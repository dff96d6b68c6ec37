"""caged-mcp-server over stdio and WebSocket, with a client that checks every answer against JSON-RPC."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess

import pytest
import websockets

import product

SERVER = product.STAGE / "bin" / "caged-mcp-server"
MODERN = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
ALL = {"filesystem_read", "filesystem_write", "filesystem_list", "filesystem_delete", "filesystem_search",
       "terminal_exec", "git_status", "git_diff", "git_log", "git_commit"}
CHANGING = {"filesystem_write", "filesystem_delete", "terminal_exec", "git_commit"}


def check(answer, ident):
    """One JSON-RPC answer: the members that there must be, and no other."""
    assert answer["jsonrpc"] == "2.0" and answer["id"] == ident, answer
    assert set(answer) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"}), answer
    if "error" in answer:
        assert isinstance(answer["error"]["code"], int) and answer["error"]["message"]
    return answer


class Client:
    def __init__(self, folder, *flags, env=None):
        self.process = subprocess.Popen([str(SERVER), "--workspace", str(folder), *flags], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, **(env or {})})
        self.n = 0

    def send(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def ask(self, method, params=None):
        self.n += 1
        self.send(json.dumps({"jsonrpc": "2.0", "id": self.n, "method": method, **({} if params is None else {"params": params})}))
        return check(self.receive(), self.n)

    def initialize(self, version="2025-11-25"):
        result = self.ask("initialize", {"protocolVersion": version, "capabilities": {},
                                         "clientInfo": {"name": "t", "version": "1"}})["result"]
        self.send('{"jsonrpc":"2.0","method":"notifications/initialized"}')
        return result

    def call(self, tool, **arguments):
        return self.ask("tools/call", {"name": tool, "arguments": arguments})["result"]

    def text(self, tool, **arguments):
        result = self.call(tool, **arguments)
        assert not result["isError"], result
        return result["content"][0]["text"]

    def close(self):
        self.process.stdin.close()
        code = self.process.wait(20)
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@pytest.fixture
def folder(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    git = ["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (work / "a.txt").write_text("one\n")
    subprocess.run([*git, "init", "-q"], check=True)
    for key, value in (("user.name", "t"), ("user.email", "t@example.org")):
        subprocess.run([*git, "config", key, value], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "first words"], check=True)
    return work


@pytest.fixture
def client(folder):
    with contextlib.closing(Client(folder)) as c:
        c.initialize()
        yield c


@pytest.mark.parametrize("asked, agreed", [("2024-11-05", "2024-11-05"), ("2025-11-25", "2025-11-25"),
                                           ("2025-03-26", "2024-11-05"), ("2025-06-18", "2024-11-05"),
                                           ("2026-07-28", "2025-11-25"), ("2030-01-01", "2025-11-25"),
                                           (None, "2024-11-05")])
def test_initialize_agrees_on_a_version(folder, asked, agreed):
    with contextlib.closing(Client(folder)) as c:
        assert c.ask("initialize", {"protocolVersion": asked} if asked else {})["result"]["protocolVersion"] == agreed


def test_all_tools_are_listed_and_read_only_takes_those_away_that_change_things(folder):
    with contextlib.closing(Client(folder)) as c:
        tools = {t["name"]: t for t in c.ask("tools/list")["result"]["tools"]}
    assert set(tools) == ALL
    assert tools["filesystem_write"]["inputSchema"]["required"] == ["path", "content"]
    for flags, env in ((["--read-only"], {}), ([], {"CAGED_MCP_READ_ONLY": "true"})):
        with contextlib.closing(Client(folder, *flags, env=env)) as c:
            assert {t["name"] for t in c.ask("tools/list")["result"]["tools"]} == ALL - CHANGING
            assert c.ask("tools/call", {"name": "filesystem_write", "arguments": {"path": "x", "content": ""}})["error"]["code"] == -32602
    assert not (folder / "x").exists()


def test_structured_content_comes_from_2025_06_18_on(folder):
    with contextlib.closing(Client(folder)) as c:
        c.initialize("2024-11-05")
        assert "structuredContent" not in c.call("filesystem_list")
        assert all("outputSchema" not in t for t in c.ask("tools/list")["result"]["tools"])
    with contextlib.closing(Client(folder)) as c:
        c.initialize("2025-11-25")
        assert {"name": "a.txt", "type": "file", "size": 4} in c.call("filesystem_list")["structuredContent"]["entries"]
        assert [t for t in c.ask("tools/list")["result"]["tools"] if "outputSchema" in t]


def test_the_stateless_version_stands_in_each_request(folder):
    with contextlib.closing(Client(folder)) as c:
        found = c.ask("server/discover", {"_meta": MODERN})["result"]
        assert found["supportedVersions"][0] == "2026-07-28" and found["resultType"] == "complete"
        listed = c.ask("tools/list", {"_meta": MODERN})["result"]
        assert listed["ttlMs"] == 3600000 and listed["cacheScope"] == "public" and listed["resultType"] == "complete"
        result = c.ask("tools/call", {"name": "filesystem_list", "arguments": {}, "_meta": MODERN})["result"]
        assert result["resultType"] == "complete" and result["structuredContent"]["entries"]
        for method in ("initialize", "ping"):
            assert c.ask(method, {"_meta": MODERN})["error"]["code"] == -32601
        wrong = {**MODERN, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}
        error = c.ask("tools/list", {"_meta": wrong})["error"]
        assert error["code"] == -32022 and "2026-07-28" in error["data"]["supported"]
        assert error["data"]["requested"] == "2099-01-01"
        bare = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
        assert c.ask("tools/list", {"_meta": bare})["error"]["code"] == -32602


def test_files_are_written_listed_found_read_and_deleted(client, folder):
    client.text("filesystem_write", path="deep/er/x.py", content="print('ü')\n")
    assert (folder / "deep/er/x.py").read_text() == "print('ü')\n"
    assert (folder / "deep/er/x.py").stat().st_mode & 0o777 == 0o644
    assert client.text("filesystem_read", path="deep/er/x.py") == "print('ü')\n"
    assert client.text("filesystem_read", path=str(folder / "a.txt")) == "one\n"
    lines = client.text("filesystem_list").splitlines()
    assert [line for line in lines if line.startswith("d ") and line.endswith(" deep")]
    assert [line for line in lines if line.startswith("  ") and line.split() == ["4", "a.txt"]]
    assert client.text("filesystem_search", pattern="*.py") == "deep/er/x.py\n"
    assert client.text("filesystem_search", pattern="*.nothing") == "no matches found"
    client.text("filesystem_delete", path="deep")
    assert not (folder / "deep").exists()


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "link/secret", "a/../../secret", "/proc/self/environ"])
def test_nothing_outside_of_the_workspace_is_touched(client, folder, path):
    secret = folder.parent / "secret"
    secret.write_text("do not read")
    (folder / "link").symlink_to(folder.parent)
    assert client.call("filesystem_read", path=path)["isError"]
    assert client.call("filesystem_write", path=path, content="mine")["isError"]
    assert client.call("filesystem_delete", path=path)["isError"]
    assert secret.read_text() == "do not read"


def test_a_deleted_link_leaves_what_it_leads_to(client, folder):
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "f").write_text("kept")
    (folder / "d").mkdir()
    (folder / "d" / "link").symlink_to(outside)
    client.text("filesystem_delete", path="d")
    assert (outside / "f").read_text() == "kept" and not (folder / "d").exists()
    for path in (".", "..", ""):
        answer = client.ask("tools/call", {"name": "filesystem_delete", "arguments": {"path": path}})
        assert "error" in answer or answer["result"]["isError"]
    assert (folder / "a.txt").exists()


def test_commands_answer_with_both_outputs_and_their_failure(client):
    assert client.text("terminal_exec", command="echo out; pwd | wc -l") == "out\n1\n"
    failed = client.call("terminal_exec", command="echo a; echo b >&2; exit 7")
    assert failed["isError"] and failed["content"][0]["text"] == "a\nSTDERR:\nb\n\nexit code 7"


def test_a_command_over_its_time_is_killed_with_its_children(client):
    result = client.call("terminal_exec", command="sleep 1000 & echo $!; wait", timeout=1)
    text = result["content"][0]["text"]
    assert result["isError"] and "killed" in text
    product.wait_for("the child is gone", lambda: not product.alive(int(text.split()[0])), 10)


def test_a_slow_command_holds_up_no_other_request(client):
    client.send('{"jsonrpc":"2.0","id":"slow","method":"tools/call","params":{"name":"terminal_exec",'
                '"arguments":{"command":"until [ -e go ]; do sleep 0.05; done; echo went"}}}')
    assert client.ask("ping")["result"] == {}
    client.send('{"jsonrpc":"2.0","id":"go","method":"tools/call","params":{"name":"filesystem_write",'
                '"arguments":{"path":"go","content":""}}}')
    assert [client.receive()["id"] for _ in range(2)] == ["go", "slow"]


def test_what_came_before_the_end_of_input_is_answered(folder):
    done = subprocess.run([str(SERVER), "--workspace", str(folder)], text=True, capture_output=True, timeout=60,
                          input='{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"terminal_exec",'
                                '"arguments":{"command":"sleep 0.3; echo late"}}}\n')
    assert done.returncode == 0 and "late" in json.loads(done.stdout)["result"]["content"][0]["text"]


def test_git_is_shown_and_committed(client, folder):
    (folder / "a.txt").write_text("two\n")
    status = client.call("git_status")
    assert status["content"][0]["text"] == " M a.txt\n"
    assert status["structuredContent"] == {"entries": [{"status": " M", "path": "a.txt"}]}
    assert "-one\n+two\n" in client.text("git_diff") and client.text("git_diff", staged=True) == ""
    client.text("git_commit", message="second; $(touch pwned)")
    assert not (folder / "pwned").exists()
    log = client.call("git_log", count=1)["structuredContent"]["entries"]
    assert [entry["subject"] for entry in log] == ["second; $(touch pwned)"]


def test_a_look_at_git_runs_no_program_of_the_repository(folder):
    (folder / ".git/config").open("a").write(f'[core]\n fsmonitor = "touch {folder}/ran"\n[diff]\n external = "touch {folder}/ran"\n')
    (folder / "a.txt").write_text("x")
    with contextlib.closing(Client(folder, "--read-only")) as c:
        c.text("git_status")
        c.text("git_diff")
        c.text("git_log")
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("command, fine", [("echo a b", True), ("git status", True), ("ls", False), ("/bin/echo a", False),
                                           ("echo a; ls", False), ("echo $(ls)", False), ("echo `ls`", False),
                                           ("echo a\nls", False), ("echo a && ls", False), ("X=1 echo", False),
                                           ("echo a > f", False), ("echo a | sh", False), ("echo a & ls", False),
                                           ("", False), ("ech", False)])
def test_an_allowlist_permits_plain_commands_only(folder, command, fine):
    with contextlib.closing(Client(folder, "--allowed-commands", "echo,git")) as c:
        answer = c.ask("tools/call", {"name": "terminal_exec", "arguments": {"command": command}})
        assert ("result" in answer and not answer["result"]["isError"]) is fine


@pytest.mark.parametrize("text, code", [("{", -32700), ("[]", -32600), ("17", -32600), ('{"jsonrpc":"2.0","id":1}', -32600),
                                        ('{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
                                        ('{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
                                        ('{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
                                        ('{"jsonrpc":"2.0","id":1,"method":"resources/list"}', -32601),
                                        ('{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', -32602),
                                        ('{"jsonrpc":"2.0","id":1,"method":"tools/call"}', -32602),
                                        ('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"no"}}', -32602),
                                        ('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"git_log","arguments":{"count":"x"}}}', -32602),
                                        ('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"filesystem_read"}}', -32602)])
def test_what_is_wrong_has_its_code(client, text, code):
    client.send(text)
    assert client.receive()["error"]["code"] == code
    assert client.ask("ping")["result"] == {}


def test_notifications_are_not_answered(client):
    client.send('{"jsonrpc":"2.0","method":"no/such"}')
    client.send('{"jsonrpc":"2.0","id":9,"result":{}}')
    assert client.ask("ping")["result"] == {}


def test_the_api_key_is_kept_from_commands(folder):
    with contextlib.closing(Client(folder, env={"CAGED_API_KEY": "caged_sk_hidden"})) as c:
        assert "caged_sk_hidden" not in c.text("terminal_exec", command="env")


def test_wrong_flags_are_told():
    for flags in (["--mode", "pigeon"], ["--port", "x"], ["--nonsense"], ["--log-level", "loud"]):
        done = subprocess.run([str(SERVER), *flags], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 2 and "usage" in done.stderr, flags
    assert subprocess.run([str(SERVER), "--workspace", "/no/such"], capture_output=True, stdin=subprocess.DEVNULL).returncode == 1


def test_websockets_of_this_machine_are_served_and_pages_are_not(folder):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    process = subprocess.Popen([str(SERVER), "--mode", "ws", "--port", str(port), "--workspace", str(folder)],
                               stderr=subprocess.PIPE, text=True)

    async def go():
        url = f"ws://127.0.0.1:{port}/"
        async with websockets.connect(url, subprotocols=["mcp"], max_size=None) as ws:
            big = "x" * (3 << 20)
            await ws.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
                "name": "filesystem_write", "arguments": {"path": "big", "content": big}}}))
            assert not check(json.loads(await ws.recv()), 1)["result"]["isError"]
            await ws.send('{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"filesystem_read","arguments":{"path":"big"}}}')
            assert len(check(json.loads(await ws.recv()), 2)["result"]["content"][0]["text"]) == len(big)
        for headers in ({"Origin": "https://example.org"}, {"Host": "rebound.example.org"}):
            with pytest.raises(websockets.InvalidStatusCode):
                await websockets.connect(url, subprotocols=["mcp"], extra_headers=headers)

    try:
        assert "mcp.listening" in process.stderr.readline()
        asyncio.run(go())
    finally:
        process.terminate()
        process.wait(10)
