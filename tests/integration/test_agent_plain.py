"""The guest agent as a plain program: newline-delimited JSON on a unix socket (docs/guest-agent.md)."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import time

import pytest

import product

AGENT = pathlib.Path(os.environ.get("CAGED_AGENT", product.LIBEXEC / "caged-agent"))


class Client:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(path))
        self.sock.settimeout(20)
        self.rest = b""

    def send(self, type_, **payload):
        self.sock.sendall(json.dumps({"type": type_, "payload": payload}).encode() + b"\n")

    def frame(self, timeout=20.0):
        self.sock.settimeout(timeout)
        while b"\n" not in self.rest:
            part = self.sock.recv(65536)
            if not part:
                raise EOFError
            self.rest += part
        line, _, self.rest = self.rest.partition(b"\n")
        return json.loads(line)

    def ask(self, type_, **payload):
        self.send(type_, **payload)
        return self.frame()

    def subscribe(self):
        started = self.ask("watch_files")
        assert started["type"] == "watch_started" and started["payload"]["enabled"] is True, started
        return started["payload"]

    def ops_until(self, wanted):
        """(operation, name) of the file_op frames up to the first that is wanted."""
        seen = []
        while not seen or seen[-1] != wanted:
            frame = self.frame()
            assert frame["type"] == "file_op"
            seen.append((frame["payload"]["operation"], os.path.basename(frame["payload"]["path"])))
        return seen


def listens(path):
    """The file is there a moment before it can be connected to."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@pytest.fixture
def run(tmp_path):
    """Starts an agent; .client() connects."""
    agents = []

    def start(*flags, **env):
        workspace = tmp_path / "workspace"
        workspace.mkdir(exist_ok=True)
        path = tmp_path / "sub" / "agent.sock"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CAGED_")}
        process = subprocess.Popen(
            [str(AGENT), "--workspace", str(workspace), f"--socket={path}", *flags],
            env={**clean, "CAGED_WATCH_DEBOUNCE": "50ms", **env}, stderr=subprocess.PIPE, text=True)
        agents.append(process)
        process.workspace, process.path = workspace, path
        process.client = lambda: Client(path)
        product.wait_for("the agent listens", lambda: listens(path) or process.poll() is not None, 10)
        return process

    yield start
    for process in agents:
        process.kill()
        process.communicate()


def test_version_and_wrong_flags(tmp_path):
    done = subprocess.run([AGENT, "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("caged-agent ")
    assert subprocess.run([AGENT, "-version"], capture_output=True).returncode == 0
    for wrong in (["--nonsense"], ["--socket"], ["--heartbeat-interval", "soon"], ["--log-level=loud"], ["word"]):
        done = subprocess.run([AGENT, *wrong], capture_output=True, text=True, timeout=10)
        assert done.returncode == 2 and "usage" in done.stderr, wrong


def test_it_answers_ping_and_metrics(run):
    client = run().client()
    assert client.ask("ping")["type"] == "pong"
    answer = client.ask("metrics")
    assert answer["type"] == "metrics"
    m = answer["payload"]
    assert 0 <= m["cpu_percent"] <= 100 and 0 < m["memory_used_mb"] < m["memory_total_mb"]
    assert 0 < m["disk_used_mb"] < m["disk_total_mb"] and m["num_processes"] > 1
    assert abs(m["timestamp"] - time.time()) < 60


def test_unknown_types_and_garbage_are_logged_and_ignored(run):
    agent = run()
    client = agent.client()
    client.send("make_coffee")
    client.sock.sendall(b"not json\n[]\n\n{\"type\":7}\n")
    assert client.ask("ping")["type"] == "pong"
    agent.terminate()
    assert agent.stderr.read().count("agent.unknown_request") == 4


def test_a_line_without_end_costs_its_sender_the_connection(run):
    agent = run()
    client = agent.client()
    with contextlib.suppress(OSError):
        client.sock.sendall(b"x" * 200000)
    with pytest.raises((EOFError, ConnectionResetError)):
        client.frame()
    assert agent.client().ask("ping")["type"] == "pong"


def test_shutdown_is_acknowledged_and_then_it_exits(run):
    agent = run()
    assert agent.client().ask("shutdown")["type"] == "ack"
    assert agent.wait(10) == 0
    assert not agent.path.exists()


def test_wrong_values_in_the_environment_count_as_absent(run):
    agent = run(CAGED_HEARTBEAT_INTERVAL="never", CAGED_WATCH_RATE_LIMIT="-3", CAGED_LOG_LEVEL="?", CAGED_WATCH_FILES="maybe")
    assert agent.client().subscribe()["root"] == str(agent.workspace)


@pytest.mark.parametrize("off", ["0", "false", "no", "off"])
def test_watching_can_be_switched_off(run, off):
    started = run(CAGED_WATCH_FILES=off).client().ask("watch_files")["payload"]
    assert started["enabled"] is False and "CAGED_WATCH_FILES" in started["reason"]


def test_changes_are_told_by_kind_with_size_and_time(run):
    agent = run()
    (agent.workspace / "old").write_text("before")
    (agent.workspace / "moved").write_text("before")
    client = agent.client()
    client.subscribe()
    (agent.workspace / "new.txt").write_text("hello")
    frame = client.frame()["payload"]
    assert (frame["operation"], frame["path"], frame["size"]) == ("create", str(agent.workspace / "new.txt"), 5)
    assert abs(frame["ts_unix_ms"] / 1000 - time.time()) < 60 and frame["dropped_since_last"] == 0
    with open(agent.workspace / "old", "a") as f:
        f.write("more")
    frame = client.frame()["payload"]
    assert (frame["operation"], frame["size"]) == ("write", 10)
    (agent.workspace / "old").unlink()
    frame = client.frame()["payload"]
    assert frame["operation"] == "delete" and "size" not in frame
    (agent.workspace / "moved").rename(agent.workspace / "there")
    assert sorted(client.ops_until(("create", "there")) + []) == [("create", "there"), ("rename", "moved")]


def test_new_folders_are_watched_with_what_was_put_in_at_once(run):
    agent = run()
    client = agent.client()
    client.subscribe()
    deep = agent.workspace / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "first").write_text("x")
    assert ("create", "first") in client.ops_until(("create", "first"))
    (deep / "second").write_text("x")
    client.ops_until(("create", "second"))
    (agent.workspace / "a").rename(agent.workspace / "z")
    seen = client.ops_until(("create", "second"))
    assert ("rename", "a") in seen
    (agent.workspace / "z/b/c/third").write_text("x")
    client.ops_until(("create", "third"))


def test_caches_and_temporary_files_are_left_out_but_dotfiles_are_not(run):
    agent = run()
    (agent.workspace / "node_modules").mkdir()
    client = agent.client()
    client.subscribe()
    (agent.workspace / "node_modules/x").write_text("x")
    (agent.workspace / ".git").mkdir()
    (agent.workspace / ".git/index").write_text("x")
    for name in ("file~", "a.swp", "b.tmp", "4913", ".DS_Store"):
        (agent.workspace / name).write_text("x")
    (agent.workspace / ".env").write_text("x")
    assert client.ops_until(("create", ".env")) == [("create", ".env")]


def test_many_writes_to_one_file_are_one_event(run):
    agent = run(CAGED_WATCH_DEBOUNCE="400ms")
    client = agent.client()
    client.subscribe()
    for i in range(20):
        (agent.workspace / "busy").write_text("x" * i)
    (agent.workspace / "last").write_text("x")
    assert client.ops_until(("create", "last")) == [("create", "busy"), ("create", "last")]


def test_more_than_the_rate_is_counted_as_dropped(run):
    agent = run(CAGED_WATCH_RATE_LIMIT="10", CAGED_WATCH_DEBOUNCE="1s")
    client = agent.client()
    client.subscribe()
    for i in range(100):
        (agent.workspace / f"f{i}").write_text("x")
    told = dropped = 0
    (agent.workspace / "marker").touch()
    while told + dropped < 101:
        with contextlib.suppress(TimeoutError):
            frame = client.frame(1.0)["payload"]
            told, dropped = told + 1, dropped + frame["dropped_since_last"]
            continue
        (agent.workspace / "marker").write_text("x")  # lost ones are told with the next event
        assert told <= 80
    assert dropped > 0 and told >= 20


def test_a_subscriber_that_does_not_read_loses_events_and_harms_nobody(run):
    agent = run(CAGED_WATCH_RATE_LIMIT="100000", CAGED_WATCH_DEBOUNCE="10ms")
    slow, quick = agent.client(), agent.client()
    slow.subscribe()
    name = "n" * 200
    for i in range(3000):
        (agent.workspace / f"{name}{i}").touch()
        if i % 500 == 0:
            assert quick.ask("ping")["type"] == "pong"
    assert quick.ask("ping")["type"] == "pong"


def test_subscribe_copies_frames_to_standard_output(run):
    agent = run()
    copy = subprocess.Popen([AGENT, "-subscribe", "--socket", agent.path], stdout=subprocess.PIPE, text=True)
    assert json.loads(copy.stdout.readline())["type"] == "watch_started"
    (agent.workspace / "seen").write_text("x")
    assert json.loads(copy.stdout.readline())["payload"]["path"].endswith("/seen")
    agent.client().ask("shutdown")
    assert copy.wait(10) == 0
