"""The guest agent as a plain program, through the link protocol on a unix socket."""

import io
import os
import pathlib
import signal
import socket
import subprocess
import tarfile
import threading
import time

import pytest

import link as linklib
import product

AGENT = pathlib.Path(os.environ.get("CAGED_AGENT", product.LIBEXEC / "caged-agent"))


@pytest.fixture
def agent(tmp_path):
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    workspace.chmod(0o777)
    tmp_path.chmod(0o755)
    path = tmp_path / "link.sock"
    process = subprocess.Popen([str(AGENT), "--link-socket", str(path), "--workspace", str(workspace)])
    product.wait_for("the agent listens", path.exists, 60)
    link = linklib.Link.connect(path)
    assert "agent" in link.call("setup", sandbox_id="t", env={"FROM_SETUP": "yes"})
    # pytest's folders are closed to other users: files are handled as root, too
    plain_open = link.open
    link.open = lambda kind, **m: plain_open(kind, **({"user": "root"} if kind[:3] in ("fs.", "tar") else {}), **m)
    link.workspace = workspace
    link.process = process
    yield link
    link.close()
    assert process.wait(10) >= 0, "no signal has ended it: in a guest it is PID 1"


def run(link, *argv, stdin=None, **options):
    stream = link.open("exec", argv=list(argv), user="root", stdin=stdin is not None, **options)
    if stdin is not None:
        stream.send(stdin)
        stream.eof()
    return stream, stream.closed(60)


def test_nothing_but_metrics_is_served_before_setup(tmp_path):
    path = tmp_path / "link.sock"
    process = subprocess.Popen([str(AGENT), "--link-socket", str(path), "--workspace", str(tmp_path)])
    product.wait_for("the agent listens", path.exists, 60)
    link = linklib.Link.connect(path)
    assert link.call("exec", argv=["true"])["error"]["code"] == "unavailable"
    assert link.call("metrics")["memory_total_mb"] > 0
    link.close()
    assert process.wait(10) >= 0, "no signal has ended it: in a guest it is PID 1"


def test_exec_gives_output_apart_and_the_exit_code(agent):
    stream, result = run(agent, "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (stream.text(1), stream.text(2), result["exit_code"]) == ("out\n", "err\n", 5)
    assert result["signal"] is None and result["timed_out"] is False


def test_exec_passes_stdin_env_and_cwd(agent):
    stream, _ = run(agent, "sh", "-c", "cat; echo $FROM_SETUP $MINE; pwd", stdin=b"in\n", env={"MINE": "m"}, cwd="/")
    assert stream.text() == "in\nyes m\n/\n"


def test_large_output_arrives_whole_under_credit(agent):
    stream, _ = run(agent, "sh", "-c", "head -c 20000000 /dev/zero")
    assert len(stream.out[1]) == 20000000


def test_large_stdin_arrives_whole(agent):
    stream, _ = run(agent, "wc", "-c", stdin=b"x" * 5000000)
    assert stream.text().strip() == "5000000"


def test_a_reader_that_gives_no_credit_stops_the_process_not_the_agent(agent):
    stream = agent.open("exec", argv=["sh", "-c", "yes"], user="root")
    stream.grant = False
    product.wait_for("one window came", lambda: len(stream.out[1]) == linklib.WINDOW, 20)
    assert run(agent, "echo", "other")[0].text() == "other\n"
    assert len(stream.out[1]) == linklib.WINDOW
    stream.cancel()
    stream.closed()


def test_missing_program_is_not_found(agent):
    assert run(agent, "no-such-program")[1]["error"]["code"] == "not_found"
    assert run(agent, "/etc/passwd")[1]["error"]["code"] == "forbidden"


def test_timeout_ends_the_whole_group(agent):
    _, result = run(agent, "sh", "-c", "sleep 77777 & sleep 77777; true", timeout_ms=300)
    assert result["timed_out"] is True and result["exit_code"] != 0
    product.wait_for("the sleeps are gone", lambda: not product.processes_naming("sleep 77777"), 10)


def test_signals_reach_the_process(agent):
    stream = agent.open("exec", argv=["sh", "-c", "trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.05; done"],
                        user="root")
    product.wait_for("ready", lambda: "ready" in stream.text(), 10)
    stream.control(signal="USR1")
    assert stream.closed()["exit_code"] == 3
    assert "got" in stream.text()


def test_death_by_signal_is_128_plus_its_number(agent):
    _, result = run(agent, "sh", "-c", "kill -KILL $$")
    assert (result["exit_code"], result["signal"]) == (128 + signal.SIGKILL, "KILL")


def test_a_background_grandchild_does_not_hold_the_answer(agent):
    began = time.monotonic()
    stream, result = run(agent, "sh", "-c", "sleep 20 & echo done")
    assert result["exit_code"] == 0 and stream.text() == "done\n"
    assert time.monotonic() - began < 15


def test_cancel_kills_and_detach_lets_live(agent):
    stream = agent.open("exec", argv=["sleep", "66661"], user="root")
    stream.accepted()
    stream.cancel()
    stream.closed()
    product.wait_for("it is gone", lambda: not product.processes_naming("sleep 66661"), 10)

    stream = agent.open("exec", exec_id="long", argv=["sh", "-c", "echo one; read x; echo two-$x"], user="root",
                        detach=True, stdin=True)
    product.wait_for("its first line", lambda: "one" in stream.text(), 10)
    stream.cancel()
    stream.closed()
    assert [x for x in agent.call("execs")["execs"] if x["exec_id"] == "long"][0]["running"] is True
    again = agent.open("attach", exec_id="long")
    again.accepted()
    again.send(b"hi\n")
    assert again.closed()["exit_code"] == 0
    assert again.text() == "two-hi\n"


def test_output_while_detached_is_kept(agent, tmp_path):
    gate = tmp_path / "gate"  # opened only when nobody listens any more
    waiting = f"until [ -e {gate} ]; do sleep 0.02; done; echo late; sleep 0.2; echo end"
    stream = agent.open("exec", exec_id="kept", argv=["sh", "-c", waiting], user="root", detach=True)
    stream.accepted()
    stream.cancel()
    stream.closed()
    gate.touch()
    product.wait_for("it ended", lambda: not agent.call("execs")["execs"][0]["running"], 10)
    again = agent.open("attach", exec_id="kept")
    assert again.closed()["exit_code"] == 0
    assert again.text() == "late\nend\n"


def test_pty_has_the_size_asked_for_and_resizes(agent):
    stream = agent.open("exec", argv=["sh", "-c", "stty size; read x; stty size; tty >/dev/null && echo tty"],
                        user="root", pty={"rows": 33, "cols": 111})
    product.wait_for("the size", lambda: "33 111" in stream.text(), 10)
    stream.control(resize={"rows": 44, "cols": 122})
    stream.send(b"\n")
    assert stream.closed()["exit_code"] == 0
    assert "44 122" in stream.text() and "tty" in stream.text()


def test_pty_starts_without_echo(agent):
    stream = agent.open("exec", argv=["sh", "-c", "read x; echo got-$x"], user="root", pty={"rows": 24, "cols": 80})
    stream.accepted()
    stream.send(b"marker\n")
    stream.closed()
    assert stream.text().replace("\r", "") == "got-marker\n"


def test_two_hundred_execs_at_once(agent):
    streams = [agent.open("exec", argv=["sh", "-c", f"echo {i}"], user="root") for i in range(200)]
    assert [s.closed()["exit_code"] for s in streams] == [0] * 200
    assert [s.text() for s in streams] == [f"{i}\n" for i in range(200)]


def test_files_are_written_whole_read_in_parts_and_removed(agent):
    stream = agent.open("fs.write", path="a/b/file.bin", mode=0o600)
    data = os.urandom(3_000_000)
    stream.send(data)
    assert not (agent.workspace / "a/b/file.bin").exists()
    stream.eof()
    assert stream.closed() == {"bytes": len(data)}
    assert (agent.workspace / "a/b/file.bin").read_bytes() == data
    assert [p.name for p in (agent.workspace / "a/b").iterdir()] == ["file.bin"]
    stream = agent.open("fs.read", path="a/b/file.bin", offset=10, limit=1000)
    stream.closed()
    assert bytes(stream.out[1]) == data[10:1010]
    entry = agent.call("fs.stat", path="a/b/file.bin")["entry"]
    assert (entry["type"], entry["size"], entry["mode"]) == ("file", len(data), 0o600)
    assert agent.call("fs.delete", path="a")["error"]["code"] == "conflict"
    assert agent.call("fs.delete", path="a", recursive=True) == {}
    assert agent.call("fs.stat", path="a")["error"]["code"] == "not_found"


def test_an_aborted_write_leaves_nothing(agent):
    stream = agent.open("fs.write", path="half")
    stream.send(b"abc")
    stream.cancel()
    stream.closed()
    assert list(agent.workspace.iterdir()) == []


def test_listing_is_sorted_and_typed(agent):
    (agent.workspace / "b").write_text("x")
    (agent.workspace / "a").mkdir()
    (agent.workspace / "c").symlink_to("b")
    stream = agent.open("fs.list", path="/" + str(agent.workspace).lstrip("/"))
    assert stream.closed()["count"] == 3
    import json
    entries = [json.loads(line) for line in stream.text().splitlines()]
    assert [(e["name"], e["type"]) for e in entries] == [("a", "directory"), ("b", "file"), ("c", "symlink")]
    assert entries[2]["target"] == "b"


def test_a_fifo_and_magic_links_are_refused(agent):
    os.mkfifo(agent.workspace / "fifo")
    assert agent.call("fs.read", path="fifo")["error"]["code"] == "invalid"
    assert "error" in agent.call("fs.read", path=f"/proc/{agent.process.pid}/root/etc/passwd")


def make_tar(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, value in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.mode = 0o755
            info.mtime = 1000000000
            if kind == tarfile.REGTYPE:
                info.size = len(value)
                tar.addfile(info, io.BytesIO(value))
            else:
                info.linkname = value or ""
                tar.addfile(info)
    return out.getvalue()


def unpack(agent, archive, path="in"):
    stream = agent.open("tar.in", path=path)
    for i in range(0, len(archive), 777):
        stream.send(archive[i:i + 777])
    stream.eof()
    return stream.closed()


def test_tar_goes_in_and_comes_out_the_same(agent):
    long_name = "d/" + "n" * 180
    archive = make_tar(("d", tarfile.DIRTYPE, None), ("d/f", tarfile.REGTYPE, b"hello" * 1000),
                       (long_name, tarfile.REGTYPE, b"long"), ("empty", tarfile.REGTYPE, b""),
                       ("link", tarfile.SYMTYPE, "d/f"), ("hard", tarfile.LNKTYPE, "d/f"))
    assert unpack(agent, archive)["entries"] == 6
    assert (agent.workspace / "in/d/f").read_bytes() == b"hello" * 1000
    assert (agent.workspace / "in/d/f").stat().st_mtime == 1000000000
    assert os.readlink(agent.workspace / "in/link") == "d/f"
    assert (agent.workspace / "in/hard").stat().st_ino == (agent.workspace / "in/d/f").stat().st_ino
    stream = agent.open("tar.out", path="in")
    assert stream.closed()["entries"] == 6 + 0
    with tarfile.open(fileobj=io.BytesIO(bytes(stream.out[1]))) as tar:
        names = {m.name: m for m in tar.getmembers()}
        assert tar.extractfile(long_name).read() == b"long"
        assert tar.extractfile("d/f").read() == b"hello" * 1000
    assert set(names) == {"d", "d/f", long_name, "empty", "link", "hard"}


@pytest.mark.parametrize("entries", [
    [("../escape", tarfile.REGTYPE, b"x")],
    [("a/../../escape", tarfile.REGTYPE, b"x")],
    [("out", tarfile.SYMTYPE, ".."), ("out/escape", tarfile.REGTYPE, b"x")],
    [("abs", tarfile.SYMTYPE, "/tmp"), ("abs/caged-escape-test", tarfile.REGTYPE, b"x")],
    [("dev", tarfile.CHRTYPE, None)],
    [("fifo", tarfile.FIFOTYPE, None)],
    [("hard", tarfile.LNKTYPE, "../victim")],
])
def test_hostile_archives_stay_below_their_folder(agent, entries):
    (agent.workspace / "victim").write_text("untouched")
    assert "error" in unpack(agent, make_tar(*entries))
    assert not (agent.workspace / "escape").exists()
    assert not pathlib.Path("/tmp/caged-escape-test").exists()
    assert (agent.workspace / "victim").read_text() == "untouched"


def test_an_absolute_name_lands_below_the_folder(agent):
    archive = make_tar(("plain", tarfile.REGTYPE, b"x")).replace(b"plain", b"/abso", 1)
    header = bytearray(archive[:512])
    header[148:156] = b"        "
    header[148:155] = b"%06o\0" % sum(header)
    assert "error" not in unpack(agent, bytes(header) + archive[512:])
    assert (agent.workspace / "in/abso").read_bytes() == b"x"


def test_a_cut_archive_is_an_error(agent):
    archive = make_tar(("f", tarfile.REGTYPE, b"x" * 5000))
    assert unpack(agent, archive[:2000])["error"]["code"] == "protocol"


def test_dial_reaches_a_port_on_loopback_both_ways(agent):
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        conn, _ = server.accept()
        data = b""
        while part := conn.recv(65536):
            data += part
        conn.sendall(b"%d bytes" % len(data))
        conn.close()

    threading.Thread(target=serve, daemon=True).start()
    stream = agent.open("dial", port=server.getsockname()[1])
    assert stream.accepted() == {}
    stream.send(b"z" * 1000000)
    stream.eof()
    assert "error" not in stream.closed()
    assert stream.text() == "1000000 bytes"
    port = server.getsockname()[1]
    server.close()
    assert "error" in agent.call("dial", port=port)


def test_listening_ports_are_told(agent):
    stream = agent.open("ports")
    stream.accepted()
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    product.wait_for("the port is told", lambda: f'"port":{port},' in stream.text(), 15)
    server.close()
    product.wait_for("its end too", lambda: f'"op":"close","port":{port}' in stream.text(), 15)
    stream.cancel()


@pytest.mark.parametrize("request_", [
    {"kind": "nonsense"}, {"kind": "exec"}, {"kind": "exec", "argv": []}, {"kind": "exec", "argv": [1]},
    {"kind": "exec", "argv": ["true"], "surprise": 1}, {"kind": "exec", "argv": ["true"], "user": "daemon"},
    {"kind": "exec", "argv": ["true"], "env": {"A=B": "x"}}, {"kind": "exec", "argv": ["tr\0ue"]},
    {"kind": "fs.read"}, {"kind": "fs.read", "path": "x\0y"}, {"kind": "dial", "port": 0}, {"kind": "setup"},
])
def test_bad_requests_are_refused_and_named(agent, request_):
    kind = request_.pop("kind")
    error = agent.call(kind, **request_)["error"]
    assert error["code"] in ("invalid", "conflict") and error["text"]


def test_garbage_on_the_link_ends_it_cleanly(tmp_path):
    path = tmp_path / "link.sock"
    process = subprocess.Popen([str(AGENT), "--link-socket", str(path), "--workspace", str(tmp_path)])
    product.wait_for("the agent listens", path.exists, 60)
    sock = socket.socket(socket.AF_UNIX)
    product.wait_for("it listens", lambda: sock.connect_ex(str(path)) == 0, 30)
    sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
    assert process.wait(10) == 0
