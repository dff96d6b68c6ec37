"""The warden: streams to the guest, the record of them, and what happens when either side misbehaves.
The guest end is the real agent as a plain program, or a test that plays a hostile one."""

import json
import os
import signal
import socket
import struct
import threading
import time

import pytest

import link as linklib
import product
import wardens
from wardens import Warden


SANITIZED = b"__asan_init" in wardens.WARDEN.read_bytes() if wardens.WARDEN.exists() else False
counts_memory = pytest.mark.skipif(SANITIZED, reason="sanitizers have memory of their own")


@pytest.fixture
def warden():
    with Warden() as w:
        yield w


def run(link, *argv, stdin=None, **options):
    stream = link.open("exec", argv=list(argv), user="root", stdin=stdin is not None, **options)
    if stdin is not None:
        stream.send(stdin)
        stream.eof()
    result = stream.closed()
    return stream, result


def of_type(lines, kind, **data):
    return [e for e in lines if e["type"] == kind and all(e["data"].get(k) == v for k, v in data.items())]


def go_on(stream, granted=0):
    """Gives back the credit of a stream that has used up all of it."""
    product.wait_for("the window is used up", lambda: len(stream.out[1]) == linklib.WINDOW + granted, 120)
    stream.grant = True
    stream.link.write(stream.number, linklib.CREDIT, struct.pack("<I", linklib.WINDOW))


# --- life ---


def test_start_says_what_came_up_and_may_be_asked_again(warden):
    first = warden.connect()
    assert first.call("status")["state"] == "pending"
    result = first.call("start")
    assert result["kernel"] == os.uname().release and result["boot_ms"] >= 0
    assert warden.connect().call("start") == result
    status = first.call("status")
    assert status["state"] == "running" and status["isolation"] == {"accel": "none"}


def test_everything_but_status_and_events_waits_for_the_start(warden):
    link = warden.connect()
    assert link.call("exec", argv=["true"])["error"]["code"] == "unavailable"
    assert link.call("no-such-kind")["error"]["code"] == "unsupported"
    assert link.call("exec", argv=["true"], surprise=1)["error"]["code"] == "unavailable"


def test_unknown_members_are_refused_by_name(warden):
    link = warden.start()
    error = link.call("exec", argv=["true"], surprise=1)["error"]
    assert error["code"] == "invalid" and "surprise" in error["text"]
    assert link.call("exec", argv=["true"], session="x y")["error"]["code"] == "invalid"
    assert link.call("exec", argv=["true"], origin="moon")["error"]["code"] == "invalid"


def test_stop_finishes_the_record_answers_and_ends(warden):
    link = warden.start()
    assert link.call("stop", reason="enough", grace_ms=0) == {}
    assert warden.wait() == 0
    last = warden.record()[-1]
    assert last["type"] == "lifecycle"
    assert last["data"]["event"] == "destroyed" and last["data"]["reason"] == "enough"


def test_sigterm_is_a_stop(warden):
    warden.start()
    os.kill(warden.pid, signal.SIGTERM)
    assert warden.wait(30) == 0
    assert warden.record()[-1]["data"]["event"] == "destroyed"


def test_stop_before_the_start_ends_too(warden):
    assert warden.connect().call("stop", reason="never mind") == {}
    assert warden.wait() == 0


def test_a_guest_that_never_answers_is_an_error_with_the_consoles_end():
    with Warden(guest="silent", timeouts={"boot_ms": 300}) as w:
        (w.dir / "console.log").write_bytes(b"early\n\x1b[31mpanic: no \x07init\x1b[0m\nlast words\n")
        error = w.connect().call("start")["error"]
        assert error["code"] == "timeout" and "did not answer" in error["text"]
        assert w.wait() == 5
        last = w.record()[-1]
        assert last["type"] == "error"
        assert last["data"]["console"] == ["early", "[31mpanic: no init[0m", "last words"]


def test_a_guest_that_goes_away_is_an_error_and_running_commands_get_their_end(warden):
    link = warden.start()
    stream = link.open("exec", argv=["sleep", "100"], user="root")
    assert stream.accepted()["pid"] > 0
    warden.pump.kill()
    assert stream.closed()["error"]["code"] == "closed"
    assert warden.wait() == 3
    lines = warden.record()
    assert of_type(lines, "command", phase="exit")[-1]["data"]["error"]["code"] == "closed"
    assert lines[-1]["type"] == "error" and "the guest ended" in lines[-1]["data"]["text"]


def test_a_server_comes_and_goes_without_effect_on_the_sandbox(warden):
    link = warden.start()
    stream = link.open("exec", argv=["sleep", "100"], user="root")
    stream.accepted()
    for _ in range(50):
        warden.connect().close()
    os.kill(warden.pid, signal.SIGSTOP)  # a busy machine at its worst: all of them wait at once
    for _ in range(50):
        warden.connect().close()
    link.close()
    link = warden.connect()
    os.kill(warden.pid, signal.SIGCONT)
    product.wait_for("the orphaned command is gone", lambda: link.call("status")["execs"] == 0, 20)
    assert link.call("status")["state"] == "running"
    assert run(link, "true")[1]["exit_code"] == 0


# --- streams ---


def test_exec_brings_output_exit_code_and_its_events(warden):
    link = warden.start()
    events = link.open("events", after_seq=0)
    stream, result = run(link, "sh", "-c", "cat; echo err >&2; echo $A$SECRET; exit 7", stdin=b"in\n",
                         env={"A": "plain"}, secret_env={"SECRET": "hush"}, origin="cli", session="sess-abc")
    assert result["exit_code"] == 7
    assert (stream.text(1), stream.text(2)) == ("in\nplainhush\n", "err\n")
    on_disk = of_type(warden.record(), "command")
    start, end = on_disk
    assert start["data"]["argv"][0] == "sh" and start["data"]["origin"] == "cli"
    assert start["session"] == end["session"] == "sess-abc"
    assert start["data"]["env"] == {"A": "plain"} and start["data"]["secret_env"] == ["SECRET"]
    assert end["data"]["exit_code"] == 7 and end["data"]["bytes_out"] == len("in\nplainhush\n")
    assert not any(b"hush" in p.read_bytes() for p in (warden.dir / "record").iterdir())
    product.wait_for("the live tail has both", lambda: len(of_type(wardens.lines(events), "command")) == 2, 10)
    told = wardens.lines(events)
    assert [e["seq"] for e in told] == list(range(1, len(told) + 1))


def test_a_quiet_exec_leaves_no_trace(warden):
    link = warden.start()
    assert run(link, "true", quiet=True)[1]["exit_code"] == 0
    assert of_type(warden.record(), "command") == []


def test_an_answered_exec_is_on_disk(warden):
    link = warden.start()
    for i in range(50):
        _, result = run(link, "true", exec_id=f"e{i}")
        assert result["exit_code"] == 0
        assert of_type(warden.record(), "command", phase="exit", exec_id=f"e{i}"), i


def test_large_bytes_pass_both_ways_unchanged(warden):
    link = warden.start()
    blob = os.urandom(1 << 20) * 24
    stream = link.open("exec", argv=["cat"], user="root", stdin=True)
    sender = threading.Thread(target=lambda: (stream.send(blob), stream.eof()))
    sender.start()
    assert stream.closed(120)["exit_code"] == 0
    sender.join()
    assert bytes(stream.out[1]) == blob


@counts_memory
def test_a_reader_that_stops_holds_the_command_back_and_costs_no_memory(warden):
    link = warden.start()
    before = warden.rss_kib()
    streams = []
    for _ in range(8):
        stream = link.open("exec", argv=["sh", "-c", "yes | head -c 50000000; echo done >&2"], user="root")
        stream.grant = False
        streams.append(stream)
    other = warden.connect()
    time.sleep(1)
    assert run(other, "echo", "alive")[0].text() == "alive\n"
    assert all(len(s.out[1]) <= linklib.WINDOW and s.result is None for s in streams)
    assert warden.rss_kib() - before < 8 * 700 + 2000
    for stream in streams:
        go_on(stream)
    for stream in streams:
        assert stream.closed(120)["exit_code"] == 0
        assert len(stream.out[1]) == 50000000


def test_two_hundred_execs_at_once_all_get_their_own_output(warden):
    link = warden.start()
    streams = [link.open("exec", argv=["echo", f"answer-{i}"], user="root") for i in range(200)]
    for i, stream in enumerate(streams):
        assert stream.closed()["exit_code"] == 0
        assert stream.text() == f"answer-{i}\n"
    exits = of_type(warden.record(), "command", phase="exit")
    assert len(exits) == 200


def test_cancel_kills_the_command_and_its_end_is_recorded(warden):
    link = warden.start()
    stream = link.open("exec", argv=["sleep", "100"], user="root", exec_id="victim")
    stream.accepted()
    stream.cancel()
    assert "exit_code" not in stream.closed()
    assert of_type(warden.record(), "command", phase="exit", exec_id="victim")[0]["data"]["cancelled"] is True
    product.wait_for("it is gone", lambda: link.call("execs")["execs"] == [], 20)


def test_files_go_in_and_out_and_stand_in_the_record(warden):
    link = warden.start()
    path = str(warden.dir / "workspace" / "x.bin")
    put = link.open("fs.write", path=path, user="root", mode=420)
    put.send(b"abc" * 1000)
    put.eof()
    assert put.closed() == {"bytes": 3000}
    get = link.open("fs.read", path=path, user="root")
    assert get.closed() == {"bytes": 3000}
    assert bytes(get.out[1]) == b"abc" * 1000
    assert link.call("fs.stat", path=path, user="root")["entry"]["size"] == 3000
    assert link.call("fs.delete", path=path, user="root") == {}
    assert link.call("fs.delete", path=path, user="root")["error"]["code"] == "not_found"
    ops = [e["data"] for e in of_type(warden.record(), "file_op", origin="api")]
    assert [(o["op"], o["path"], o.get("bytes")) for o in ops] == [
        ("write", path, 3000), ("read", path, 3000), ("delete", path, None), ("delete", path, None)]
    assert ops[3]["error"]["code"] == "not_found"


def test_a_terminal_is_recorded_both_ways_with_its_sizes(warden):
    link = warden.start()
    stream = link.open("exec", argv=["sh"], user="root", pty={"rows": 24, "cols": 80}, stdin=True, exec_id="tty")
    stream.accepted()
    stream.control(resize={"rows": 40, "cols": 100})
    stream.send("stty size; printf 'gr\\303\\274n\\n'; printf '\\377\\376'; exit\n".encode())
    assert stream.closed()["exit_code"] == 0
    lines = of_type(warden.record(), "terminal", exec_id="tty")
    assert of_type(lines, "terminal", dir="resize")[0]["data"]["rows"] == 40
    import base64
    for way, whole in (("out", bytes(stream.out[1])), ("in", None)):
        got = b""
        for e in of_type(lines, "terminal", dir=way):
            data = e["data"]
            got += data["text"].encode() if "text" in data else base64.b64decode(data["base64"])
        if whole is not None:
            assert got == whole and b"40 100" in got and "grün".encode() in got and b"\xff\xfe" in got
        else:
            assert got.startswith(b"stty size")


def test_a_flooded_terminal_passes_whole_and_every_byte_is_recorded_or_counted(warden):
    link = warden.start()
    stream = link.open("exec", argv=["sh", "-c", "yes 0123456789 | head -c 3000000"], user="root",
                       pty={"rows": 24, "cols": 80}, exec_id="flood")
    assert stream.closed(60)["exit_code"] == 0
    recorded = sum(len(e["data"].get("text", "")) for e in of_type(warden.record(), "terminal", dir="out"))
    assert recorded == len(stream.out[1]) > 3000000


def test_append_is_durable_when_it_is_answered(warden):
    link = warden.start()
    seq = link.call("append", type="lifecycle", data={"event": "init_started"})["seq"]
    line = next(e for e in warden.record() if e["seq"] == seq)
    assert line["src"] == "server" and line["data"] == {"event": "init_started"}
    assert link.call("append", type="claim", session="sess-1", data={"x": [1, {"y": None}]})["seq"] > seq
    assert of_type(warden.record(), "claim")[-1]["src"] == "claim"
    assert link.call("append", type="nonsense", data={})["error"]["code"] == "invalid"
    assert link.call("append", type="claim", data=7)["error"]["code"] == "invalid"


def test_a_slow_reader_of_events_gets_every_line_in_the_end(warden):
    link = warden.start()
    slow = warden.connect().open("events", after_seq=0)
    slow.grant = False
    granted = len(slow.out[1])  # what came before
    for i in range(0, 3000, 500):
        batch = [link.open("append", type="claim", data={"n": i + k, "pad": "x" * 200}) for k in range(500)]
        assert all("seq" in stream.closed() for stream in batch)
    product.wait_for("all appended", lambda: link.call("status")["durable_seq"] > 3000, 30)
    assert len(slow.out[1]) <= linklib.WINDOW + granted
    go_on(slow, granted)
    last = link.call("status")["durable_seq"]
    product.wait_for("the slow reader has all", lambda: bytes(slow.out[1]).count(b"\n") >= last, 30)
    seqs = [e["seq"] for e in wardens.lines(slow)]
    assert seqs == list(range(1, len(seqs) + 1))
    later = link.open("events", after_seq=last - 5)
    product.wait_for("five lines", lambda: bytes(later.out[1]).count(b"\n") >= 5, 10)
    assert wardens.lines(later)[0]["seq"] == last - 4


# --- a hostile guest ---


class Guest:
    """The acceptor's side, played by a test."""

    def __init__(self, warden):
        self.sock = warden.guest
        self.sock.settimeout(20)
        self.streams = {}

    def send(self, stream, kind, payload=b"", flags=0):
        if isinstance(payload, dict):
            payload = json.dumps(payload).encode()
        self.sock.sendall(struct.pack("<IHBB", len(payload), stream, kind, flags) + payload)

    def frame(self):
        data = b""
        while len(data) < 8:
            part = self.sock.recv(8 - len(data))
            if not part:
                raise EOFError
            data += part
        length, stream, kind, flags = struct.unpack("<IHBB", data)
        payload = b""
        while len(payload) < length:
            payload += self.sock.recv(length - len(payload))
        return stream, kind, flags, payload

    def until(self, wanted):
        """The next OPEN of that kind; pings are answered on the way."""
        while True:
            stream, kind, _, payload = self.frame()
            if kind == linklib.PING:
                self.send(0, linklib.PONG, payload + struct.pack("<q", time.monotonic_ns() + 10**12))
            if kind == linklib.OPEN:
                request = json.loads(payload)
                self.streams[request["kind"]] = stream
                if request["kind"] == wanted:
                    return stream, request

    def told(self, lines):
        """How many lines the observer has told, with these."""
        self.lines = getattr(self, "lines", 0) + len(lines)
        return self.lines

    def boot(self, observe=True):
        self.send(0, linklib.HELLO, {"v": 1})
        stream, setup = self.until("setup")
        self.send(stream, linklib.CLOSE, {"agent": "x", "kernel": "k\n\x1b[2J", "boot_ns": 1,
                                          "observe": {"exec": observe, "file": observe, "evil": "x"}})
        self.until("metrics")
        return setup


@pytest.fixture
def hostile():
    with Warden(guest="played") as w:
        starting = w.connect()
        stream = starting.open("start")
        guest = Guest(w)
        guest.warden, guest.link, guest.starting = w, starting, stream
        yield guest


def test_setup_brings_entropy_identity_and_environment(hostile):
    setup = hostile.boot()
    assert len(bytes.fromhex(setup["entropy"])) == 32
    assert setup["sandbox_id"] == wardens.ID and setup["hostname"] == "box"
    assert setup["env"] == {"FROM_CONFIG": "yes"} and setup["resize_disk"] is True
    assert abs(setup["wall_ns"] - time.time_ns()) < 60e9
    result = hostile.starting.closed()
    assert result["kernel"] == "k\n\x1b[2J" and "evil" not in result["observe"]


def observe(guest, *lines):
    data = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    guest.send(guest.streams["observe"], linklib.DATA, data, 1)


def test_observed_lines_are_written_again_by_type_with_time_mapped(hostile):
    hostile.boot()
    hostile.starting.closed()
    time.sleep(0.1)
    now = time.monotonic_ns() + 10**12
    evil = "a\n{\"seq\":1}\x1b]0;x\x07\u202e"
    observe(hostile,
            {"e": "exec", "t": now, "pid": 7, "ppid": 1, "uid": 0, "comm": evil, "exe": "/bin/x", "argv": ["x", evil, 7],
             "type": "lifecycle", "seq": 99, "src": "host", "surprise": {"a": 1}},
            {"e": "file", "op": "write", "path": evil, "pid": "seven", "t": -5},
            {"e": "file", "op": "explode", "path": "/x"},
            {"e": "nonsense"}, b"not json", b"[1]", b"{\"e\":\"exec\",\"e\":\"file\"}", b"\xff\xfe",
            {"e": "gap", "lost": {"file": 17, "A B": 3}, "reason": "ring_full"},
            {"e": "beat", "exec": 3},
            {"e": "conn", "pid": 3, "address": "1.2.3.4", "port": 443, "family": "ipv4", "protocol": "tcp"})
    product.wait_for("lines", lambda: of_type(hostile.warden.record(), "network", event="connect"), 10)
    lines = [e for e in hostile.warden.record() if e["src"] == "guest"]
    assert [e["type"] for e in lines] == ["process", "file_op", "gap", "network"]
    exec_line, file_line, gap, _ = lines
    assert exec_line["data"]["comm"] == evil and exec_line["data"]["argv"] == ["x", evil]
    assert set(exec_line["data"]) == {"event", "pid", "ppid", "uid", "comm", "exe", "argv", "at"}
    assert abs(exec_line["data"]["at"] - exec_line["t"]) < 5e9
    assert "pid" not in file_line["data"] and file_line["data"]["at"] == 0
    assert gap["data"]["lost"] == {"file": 17}
    raw = b"".join(p.read_bytes() for p in (hostile.warden.dir / "record").iterdir())
    assert b"\x1b" not in raw and b"\xe2\x80\xae" not in raw
    product.wait_for("malformed told", lambda: of_type(hostile.warden.record(), "gap", reason="malformed"), 10)
    assert of_type(hostile.warden.record(), "gap", reason="malformed")[0]["data"]["lines"] == 6
    status = hostile.link.call("status")
    assert status["observed"] == {"told": 11, "beats": 1, "lost": 17}


def test_the_events_of_a_command_come_before_its_exit_even_when_the_close_overtakes_them(hostile):
    hostile.boot()
    hostile.starting.closed()
    stream = hostile.link.open("exec", argv=["true"], exec_id="one")
    number, _ = hostile.until("exec")
    hostile.send(number, linklib.ACCEPT, {"pid": 9})
    hostile.send(number, linklib.CLOSE, {"exit_code": 0, "signal": None, "timed_out": False, "duration_ns": 1, "observed": 2})
    time.sleep(0.2)
    assert stream.result is None
    observe(hostile, {"e": "exec", "t": 1, "pid": 9, "argv": ["true"]})
    observe(hostile, {"e": "exit", "t": 2, "pid": 9, "code": 0})
    assert stream.closed(5)["exit_code"] == 0
    kinds = [(e["type"], e["data"].get("event") or e["data"].get("phase")) for e in hostile.warden.record()[3:]]
    assert kinds == [("command", "start"), ("process", "exec"), ("process", "exit"), ("command", "exit")]


def test_a_guest_that_promises_events_and_never_tells_them_leaves_a_gap(hostile):
    hostile.boot()
    hostile.starting.closed()
    stream = hostile.link.open("exec", argv=["true"], exec_id="one")
    number, _ = hostile.until("exec")
    hostile.send(number, linklib.CLOSE, {"exit_code": 0, "observed": 10**15})
    assert stream.closed(10)["exit_code"] == 0
    gap, end = hostile.warden.record()[-2:]
    assert gap["data"]["reason"] == "late" and gap["data"]["lines"] == 10**15 and end["data"]["phase"] == "exit"


def play_exec(guest, exec_id, pid, code, *told):
    """A command that the agent says ended with `code`; the observer tells the lines, in its own time before that."""
    stream = guest.link.open("exec", argv=["true"], exec_id=exec_id)
    number, _ = guest.until("exec")
    guest.send(number, linklib.ACCEPT, {"pid": pid})
    stream.accepted()
    if told:
        observe(guest, *told)
    guest.send(number, linklib.CLOSE, {"exit_code": code, "observed": guest.told(told)})
    assert stream.closed(10)["exit_code"] == code


def test_exits_that_the_agent_and_the_observer_tell_differently_are_told(hostile):
    hostile.boot()
    hostile.starting.closed()
    beat = {"e": "beat"}

    def run(pid, code, observed):
        begin = {"e": "exec", "pid": pid, "argv": ["true"]}
        play_exec(hostile, f"e{pid}", pid, code, begin, *([{"e": "exit", "pid": pid, "code": observed}] if observed is not None else []))

    run(7, 3, 3)
    play_exec(hostile, "e8", 8, 0)  # its start was not seen: nothing can be concluded from its end
    run(9, 0, 137)
    run(10, 0, None)
    run(11, 5, None)
    observe(hostile, beat, beat, {"e": "exit", "pid": 11, "code": 5}, beat)  # late, and the same
    run(12, 0, None)
    observe(hostile, {"e": "gap", "reason": "ring_full", "lost": {"exit": 1}}, beat, beat, beat)  # lost, and said so
    product.wait_for("both are told", lambda: len(of_type(hostile.warden.record(), "gap", reason="mismatch")) >= 2, 10)
    observe(hostile, beat, beat, beat, {"e": "exec", "pid": 99, "argv": ["the end"]})
    product.wait_for("all is taken", lambda: [e for e in hostile.warden.record() if e["data"].get("pid") == 99], 10)
    told = [e["data"] for e in of_type(hostile.warden.record(), "gap", reason="mismatch")]
    assert [(d["fact"], d["seen_by"], d["exec_id"], d["exit_code"], d["observed"]) for d in told] == [
        ("exit", "agent", "e9", 0, 137), ("exit", "agent", "e10", 0, None)]


def test_results_of_the_guest_carry_only_known_members(hostile):
    hostile.boot()
    stream = hostile.link.open("exec", argv=["true"])
    number, _ = hostile.until("exec")
    hostile.send(number, linklib.ACCEPT, {"pid": 9, "x": 1, "exec_id": "forged"})
    hostile.send(number, linklib.CLOSE, {"exit_code": "zero", "signal": {"a": 1}, "duration_ns": 5, "error": None, "x": [1]})
    result = stream.closed()
    assert stream.info["pid"] == 9 and stream.info["exec_id"] != "forged" and "x" not in stream.info
    assert set(result) == {"exec_id", "duration_ns"}


def bad_frames():
    def header(length, stream, kind, flags=0):
        return struct.pack("<IHBB", length, stream, kind, flags)

    return {
        "garbage": os.urandom(4096) + b"\xff" * 64,
        "too long": header(1 << 31, 1, linklib.DATA),
        "unknown type": header(0, 1, 77),
        "second hello": header(7, 0, linklib.HELLO) + b'{"v":1}',
        "data for nobody": header(1, 999, linklib.DATA, 1) + b"x",
        "open from the acceptor": header(15, 5, linklib.OPEN) + b'{"kind":"exec"}',
        "close with no json": header(3, 1, linklib.CLOSE) + b"{{{",
        "close deeply nested": header(200, 2, linklib.CLOSE) + b"[" * 200,
        "credit over the window": header(4, 2, linklib.CREDIT) + struct.pack("<I", 262144),
        "line without end": b"".join(header(32768, 2, linklib.DATA, 1) + b"x" * 32768 for _ in range(4)),
    }


@pytest.mark.parametrize("name", bad_frames())
def test_a_guest_that_breaks_the_links_rules_ends_as_error(hostile, name):
    hostile.boot()
    hostile.starting.closed()
    assert hostile.streams["observe"] == 2
    try:
        hostile.sock.sendall(bad_frames()[name])
    except OSError:
        pass
    assert hostile.warden.wait() == 4
    last = hostile.warden.record()[-1]
    assert last["type"] == "error" and last["data"]["code"] in ("protocol", "invalid", "too_large")
    assert last["data"]["text"]


@counts_memory
def test_a_flood_of_observed_lines_is_held_by_credit_and_no_line_is_lost(hostile):
    hostile.boot()
    hostile.starting.closed()
    before = hostile.warden.rss_kib()
    credit = linklib.WINDOW
    sent = 0
    stream = hostile.streams["observe"]
    chunk = b"".join(json.dumps({"e": "file", "op": "create", "path": f"/workspace/f{i}", "pid": 1, "t": i}).encode() + b"\n"
                     for i in range(300))
    chunk = chunk[:32768][: chunk[:32768].rfind(b"\n") + 1]
    per = chunk.count(b"\n")
    while sent < 200 * per:
        while credit < len(chunk):
            number, kind, _, payload = hostile.frame()
            if kind == linklib.CREDIT and number == stream:
                credit += struct.unpack("<I", payload)[0]
        hostile.send(stream, linklib.DATA, chunk, 1)
        credit -= len(chunk)
        sent += per
    product.wait_for("all recorded", lambda: hostile.link.call("status")["observed"]["told"] == sent, 30)
    assert hostile.warden.rss_kib() - before < 6000
    assert len(of_type(hostile.warden.record(), "file_op")) == sent


def test_ports_are_listed_and_bounded(hostile):
    hostile.boot()
    stream = hostile.streams["ports"]
    lines = [{"op": "open", "port": p, "address": "0.0.0.0", "family": 4, "pid": p, "process": "x\x1b"} for p in range(1, 301)]
    lines += [{"op": "close", "port": 1}, {"op": "open", "port": 70000}, {"op": "open", "port": "80"}, {"op": "x", "port": 5}]
    hostile.send(stream, linklib.DATA, b"".join(json.dumps(x).encode() + b"\n" for x in lines)[:32768], 1)
    product.wait_for("closed", lambda: of_type(hostile.warden.record(), "port", event="close"), 10)
    assert len(hostile.link.call("status")["ports"]) == 63


# --- the record under it ---


def test_a_second_warden_on_the_same_record_does_not_start(warden):
    warden.start()
    with Warden(guest="none", directory=warden.dir) as second:
        second.dir = warden.dir
        assert second.wait() == 1
        second.dir = second.dir / "nothing"


@counts_memory
def test_memory_stays_small(warden):
    link = warden.start()
    for _ in range(200):
        run(link, "true")
    assert warden.rss_kib() < 12 * 1024  # 3 MiB of it are the pages of libcurl and what that links
