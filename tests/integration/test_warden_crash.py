"""A warden may be killed at any moment: what it had acknowledged is in the record, the record is whole
again after the next opening, and a disk that fills up neither kills it nor is kept quiet."""

import os
import random
import signal
import subprocess
import threading
import time

import pytest

import link as linklib
import product
import wardens
from wardens import Warden


def check_order(lines):
    assert [e["seq"] for e in lines] == list(range(1, len(lines) + 1))
    assert all(a["t"] <= b["t"] for a, b in zip(lines, lines[1:]))


class Worker(threading.Thread):
    """Runs execs and appends until the warden is gone; keeps what was acknowledged."""

    def __init__(self, warden, number):
        super().__init__(daemon=True)
        self.link, self.number = warden.connect(), number
        self.exits, self.seqs = [], []

    def run(self):
        try:
            for i in range(100000):
                name = f"x{self.number}-{i}"
                result = self.link.call("exec", argv=["true"], user="root", exec_id=name)
                if result.get("exit_code") != 0:
                    return
                self.exits.append(name)
                result = self.link.call("append", type="claim", data={"name": name})
                if "seq" not in result:
                    return
                self.seqs.append((result["seq"], name))
        except (linklib.Closed, OSError, TimeoutError):
            pass


@pytest.mark.parametrize("seed", range(6))
def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(seed):
    rng = random.Random(seed)
    with Warden(record={"segment_bytes": 20000}) as w:
        w.start()
        tail = w.connect().open("events", after_seq=0)
        workers = [Worker(w, n) for n in range(4)]
        for worker in workers:
            worker.start()
        product.wait_for("something is acknowledged", lambda: any(worker.exits for worker in workers))
        time.sleep(rng.uniform(0, 1.0))
        w.kill(signal.SIGKILL)
        for worker in workers:
            worker.join(30)
        lines = w.record()
        check_order(lines)
        exits = {e["data"]["exec_id"] for e in lines if e["type"] == "command" and e["data"]["phase"] == "exit"}
        claims = {(e["seq"], e["data"]["name"]) for e in lines if e["type"] == "claim"}
        assert sum(len(worker.exits) for worker in workers) > 0
        for worker in workers:
            assert exits.issuperset(worker.exits)
            assert claims.issuperset(worker.seqs)
        by_seq = {e["seq"]: e for e in lines}
        for told in wardens.lines(tail):
            assert by_seq[told["seq"]] == told
        # the next writer finds it usable, and goes on where it ended
        with Warden(guest="none", directory=w.dir) as second:
            product.wait_for("it has opened the record", lambda: len(second.record()) > len(lines) - 1 and
                             second.record()[-1]["data"].get("event") == "reopened", 10)
            after = second.record()
            check_order(after)
            assert after[:len(lines)] == lines


def test_a_torn_line_is_cut_and_told_by_the_next_writer():
    with Warden() as w:
        w.start()
        w.kill(signal.SIGKILL)
        lines = w.record()
        segment = sorted((w.dir / "record").iterdir())[-1]
        torn = b'{"seq":%d,"t":1,"ts":"2026' % (len(lines) + 1)
        with open(segment, "ab") as f:
            f.write(torn)
        with Warden(guest="none", directory=w.dir) as second:
            product.wait_for("reopened", lambda: second.record()[-1]["data"].get("event") == "reopened", 10)
            after = second.record()
        check_order(after)
        gap = after[len(lines)]
        assert gap["type"] == "gap" and gap["data"]["reason"] == "torn_tail" and gap["data"]["bytes"] == len(torn)


@pytest.fixture
def small_disk(tmp_path):
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    tmp_path.chmod(0o755)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", tmp_path], check=False).returncode != 0:
        pytest.skip("no mount here")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_full_disk_is_said_and_survived_and_the_loss_is_counted(small_disk):
    with Warden(directory=small_disk) as w:
        link = w.start()
        filler = small_disk / "filler"
        link.call("append", type="claim", data={"before": 1})
        with open(filler, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"x" * 4096)
            except OSError:
                pass
        lost = 0
        for i in range(200):
            lost += "error" in link.call("append", type="claim", data={"pad": "x" * 500})
        assert lost > 100
        stream = link.open("exec", argv=["echo", "still here"], user="root")
        assert stream.closed()["exit_code"] == 0 and stream.text() == "still here\n"
        assert link.call("status")["record"]["degraded"] is True
        filler.unlink()
        product.wait_for("it writes again", lambda: link.call("status")["record"]["degraded"] is False, 20)
        assert "seq" in link.call("append", type="claim", data={"after": 1})
        lines = w.record()
        check_order(lines)
        gaps = [e["data"] for e in lines if e["type"] == "gap" and e["data"]["reason"] == "disk"]
        assert sum(g["lost"].get("claim", 0) for g in gaps) == lost
        assert sum(g["lost"].get("command", 0) for g in gaps) == 2
        assert all("No space left" in g["text"] for g in gaps)


def test_past_the_quota_the_record_says_what_is_missing_and_commands_go_on():
    with Warden(record={"quota_bytes": 200000}) as w:
        link = w.start()
        stream = link.open("exec", argv=["sh", "-c", "yes | head -c 2000000"], user="root",
                           pty={"rows": 24, "cols": 80}, exec_id="flood")
        assert stream.closed()["exit_code"] == 0
        product.wait_for("the gap is told", lambda: [e for e in w.record() if e["type"] == "gap" and
                                                     e["data"]["reason"] == "quota"], 20)
        assert link.call("status")["record"]["lost"]["terminal"] > 0
        assert link.call("exec", argv=["true"], user="root", exec_id="after")["exit_code"] == 0
        assert any(e["data"].get("exec_id") == "after" for e in w.record())
        size = sum(p.stat().st_size for p in (w.dir / "record").iterdir())
        assert size < 200000


def test_a_flood_of_terminals_at_once_is_told_or_counted_line_by_line():
    with Warden() as w:
        link = w.start()
        streams = [link.open("exec", argv=["sh", "-c", "yes 0123456789 | head -c 1000000"], user="root",
                             pty={"rows": 24, "cols": 80}, exec_id=f"f{i}") for i in range(8)]
        for stream in streams:
            assert stream.closed(120)["exit_code"] == 0
        link.call("stop", grace_ms=0)
        w.wait(20)
        lines = w.record()
        lost = sum(e["data"].get("lost", {}).get("terminal", 0) for e in lines if e["type"] == "gap")
        recorded = sum(len(e["data"].get("text", "")) for e in lines if e["type"] == "terminal")
        whole = sum(len(s.out[1]) for s in streams)
        assert recorded == whole if lost == 0 else whole - lost * 16384 <= recorded < whole
        assert lines[-1]["data"]["event"] == "destroyed"
