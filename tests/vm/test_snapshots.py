"""Snapshots and forks of real guests: what is kept, where it comes back, and that copies are nobody's twins."""

import hashlib
import json
import os
import tarfile
import threading
import time

import pytest

import product

SHAPE = {"memory_mb": 256, "cpus": 1}


@pytest.fixture(scope="module")
def server():
    with product.Server() as s:
        yield s


def snapshot(sandbox, **body):
    return sandbox.server.api("POST", sandbox.path + "/snapshots", body)


def restore(snap, sandbox):
    assert sandbox.server.api("POST", f"/v1/snapshots/{snap['id']}/restore",
                              {"target_sandbox_id": sandbox.id}) == {"status": "restored"}


def from_snapshot(server, snap, **body):
    return product.Sandbox(server, server.api("POST", "/v1/sandboxes", {"snapshot_id": snap["id"], **body}))


def fork(sandbox, **body):
    reply = sandbox.server.api("POST", sandbox.path + "/fork", body)
    assert reply["failed"] == 0, reply
    return [product.Sandbox(sandbox.server, s) for s in reply["sandboxes"]], reply


@pytest.mark.parametrize("memory", [False, True])
def test_a_snapshot_comes_back_into_the_same_sandbox(server, memory):
    sandbox = server.create(**SHAPE)
    sandbox.run("echo one > /workspace/f; sync")
    snap = snapshot(sandbox, name="first", description="of a test", memory=memory)
    assert (snap["status"], snap["name"], snap["trigger"], snap["memory"]) == ("completed", "first", "manual", memory)
    assert snap["size_bytes"] > 0 and snap["sandbox_id"] == sandbox.id
    sandbox.run("echo two > /workspace/f; echo new > /workspace/g; sync")
    restore(snap, sandbox)
    assert sandbox.run("cat /workspace/f; ls /workspace") == "one\nf"
    assert sandbox.run("hostname") == sandbox.id
    sandbox.run("echo three > /workspace/f")
    assert [s["id"] for s in server.api("GET", sandbox.path + "/snapshots")] == [snap["id"]]
    assert server.api("GET", f"/v1/snapshots/{snap['id']}")["id"] == snap["id"]
    sandbox.destroy()
    server.api("DELETE", f"/v1/snapshots/{snap['id']}")
    assert server.call("GET", f"/v1/snapshots/{snap['id']}").status_code == 404
    assert not (server.state / "snapshots" / snap["id"]).exists()


def test_the_guest_goes_on_while_it_is_snapshotted(server):
    sandbox = server.create(**SHAPE)
    sandbox.run("touch /workspace/count; (while :; do echo >> /workspace/count; sleep 0.05; done) >/dev/null 2>&1 &")
    before = int(sandbox.run("wc -l < /workspace/count"))
    running = {}
    command = threading.Thread(target=lambda: running.update(sandbox.exec("sleep 3; echo done")))
    command.start()
    time.sleep(0.5)
    snap = snapshot(sandbox, memory=True)
    command.join()
    assert running["output"] == "done\n", "a command in flight does not notice"
    after = int(sandbox.run("wc -l < /workspace/count"))
    product.wait_for("it counts on", lambda: int(sandbox.run("wc -l < /workspace/count")) > after > before, 30)
    assert 0 < snap["stall_ms"] < 20000
    sandbox.destroy()


def test_files_that_nobody_synced_are_in_snapshots_and_in_that_of_a_pause(server):
    """A guest's disk is a file system that has grown a moment ago and was never unmounted: it has to boot all the same."""
    sandbox = server.create(**SHAPE)
    sandbox.run("echo one > /workspace/f")
    snap = snapshot(sandbox)
    sandbox.run("echo two > /workspace/f")
    server.api("POST", sandbox.path + "/pause")
    [auto] = [s for s in server.api("GET", sandbox.path + "/snapshots") if s["trigger"] == "auto-pause"]
    for each, text in ((snap, "one"), (auto, "two")):
        made = from_snapshot(server, each)
        assert made.run("cat /workspace/f") == text
        made.destroy()
    sandbox.destroy()


# Every round writes one more into all of 24 MB, after it has looked that all of it holds the last.
WRITER = r"""
use strict; my ($n, $all) = (0, "\0\0\0\0" x 6_000_000);
while (1) {
    die "torn in round $n" if $all ne pack("N", $n) x 6_000_000;
    $all = pack("N", ++$n) x 6_000_000;
    open(my $f, ">", "/tmp/round.new"); print $f "$n\n"; close $f; rename "/tmp/round.new", "/tmp/round";
}
"""


def rounds(sandbox):
    return int(sandbox.run("cat /tmp/round"))


def test_memory_that_changes_while_it_is_written_is_of_one_moment(server):
    source = server.create(**SHAPE)
    source.run(f"cat > /tmp/w.pl <<'END'\n{WRITER}\nEND\nsetsid perl /tmp/w.pl > /tmp/said 2>&1 < /dev/null & "
               "while [ ! -s /tmp/round ]; do sleep 0.1; done", timeout_ms=300000)
    children, reply = fork(source, count=2)
    assert reply["stall_ms"] > 0
    for sandbox in [source, *children]:
        then = rounds(sandbox)
        product.wait_for("its program went on", lambda s=sandbox, n=then: rounds(s) > n + 1, 120)
        assert sandbox.run("cat /tmp/said") == ""
        sandbox.destroy()


def test_a_new_sandbox_is_made_of_a_snapshot(server):
    source = server.create(**SHAPE)
    source.run("echo kept > /workspace/f; echo mine > /home/agent/h; sync")
    disk, memory = snapshot(source), snapshot(source, memory=True)
    source.destroy()
    for snap, how in ((disk, "snapshot"), (memory, "snapshot with memory")):
        sandbox = from_snapshot(server, snap)
        assert sandbox.get()["isolation"]["started_from"] == how
        assert sandbox.run("cat /workspace/f /home/agent/h; hostname") == f"kept\nmine\n{sandbox.id}"
        sandbox.destroy()
    bigger = from_snapshot(server, memory, disk_gb=7)
    assert int(bigger.run("df --output=size -m /workspace | tail -1")) > 6 * 1024
    bigger.destroy()
    other = from_snapshot(server, memory, memory_mb=512)
    assert other.get()["isolation"]["started_from"] == "snapshot" and other.run("cat /workspace/f") == "kept"
    other.destroy()


def test_forks_live_on_by_themselves_and_are_nobodys_twins(server):
    source = server.create(env={"COLOUR": "blue"}, **SHAPE)
    source.run("touch /workspace/count; (while :; do echo >> /workspace/count; sleep 0.1; done) >/dev/null 2>&1 & echo kept > /workspace/f")
    source.run("for t in ed25519 ecdsa; do ssh-keygen -q -N '' -t $t -f /etc/ssh/ssh_host_${t}_key; done", user="root")
    children, reply = fork(source, count=3, name="child")
    assert [c.get()["name"] for c in children] == ["child-1", "child-2", "child-3"]
    ask = ("cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | od -An -tx1; cat /etc/machine-id; "
           "cat /proc/sys/kernel/random/boot_id; hostname; mktemp -u XXXXXXXXXXXX; "
           "awk '{print $2}' /etc/ssh/ssh_host_ed25519_key.pub /etc/ssh/ssh_host_ecdsa_key.pub; "
           "ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key; stat -c '%a %U' /etc/ssh/ssh_host_*_key >&2")
    answers = [c.run(ask, user="root").splitlines() for c in [source, *children]]
    assert all(lines[-2:] == ["600 root"] * 2 for lines in answers)
    answers = [lines[:-2] for lines in answers]
    assert all(len(lines) == 9 for lines in answers)
    for lines in zip(*answers):
        assert len(set(lines)) == 4, lines
    for c in children:
        assert c.run("cat /workspace/f; echo $COLOUR") == "kept\nblue"
        count = int(c.run("wc -l < /workspace/count"))
        product.wait_for("its processes go on", lambda c=c, count=count: int(c.run("wc -l < /workspace/count")) > count, 30)
        c.run(f"echo {c.id} > /workspace/own")
        assert c.events("lifecycle")[0]["data"]["id"] == c.id, "a record of its own"
    assert len({c.run("cat /workspace/own") for c in children}) == 3
    assert source.exec("ls /workspace/own")["exit_code"] != 0
    rams = [line for c in children for line in ram_of(server, c)]
    assert len(rams) == 3 and all(line.split()[1].endswith("p") for line in rams), "shared, copy-on-write"
    assert server.api("GET", source.path + "/snapshots") == []
    left = {p.name for p in (server.state / "snapshots").iterdir()}
    assert left == {s["id"] for s in server.api("GET", "/v1/snapshots")}, "nothing is left of the fork"
    for s in [source, *children]:
        s.destroy()


def ram_of(server, sandbox):
    uid = (server.state / "sandboxes" / sandbox.id).stat().st_uid
    lines = []
    for pid, command in product.processes_naming("qemu-system").items():
        if os.stat(f"/proc/{pid}").st_uid == uid:
            with open(f"/proc/{pid}/maps") as f:
                lines += [line for line in f if "memfd:caged-ram" in line]
    return lines[:1]


def test_a_paused_sandbox_can_be_snapshotted_forked_and_restored(server):
    sandbox = server.create(**SHAPE)
    sandbox.run("echo one > /workspace/f")
    server.api("POST", sandbox.path + "/pause")
    snap = snapshot(sandbox, memory=True)
    [child], _ = fork(sandbox)
    assert child.run("cat /workspace/f") == "one"
    child.destroy()
    server.api("POST", sandbox.path + "/resume")
    sandbox.run("echo two > /workspace/f")
    server.api("POST", sandbox.path + "/pause")
    restore(snap, sandbox)
    assert sandbox.run("cat /workspace/f") == "one"
    sandbox.destroy()


def test_limits_and_wrong_requests_are_told(server):
    sandbox = server.create(**SHAPE)
    assert server.call("POST", sandbox.path + "/snapshots", json={"name": "x" * 65}).status_code == 400
    assert server.call("POST", sandbox.path + "/fork", json={"count": 65}).status_code == 400
    assert server.call("POST", "/v1/snapshots/snap-aaaaaaaaaa/restore", json={"target_sandbox_id": sandbox.id}).status_code == 404
    assert server.call("POST", "/v1/sandboxes", json={"snapshot_id": "snap-aaaaaaaaaa"}).status_code == 404
    snap = snapshot(sandbox)
    assert server.call("POST", f"/v1/snapshots/{snap['id']}/restore", json={}).status_code == 400
    for _ in range(19):
        snapshot(sandbox)
    refused = server.call("POST", sandbox.path + "/snapshots", json={})
    assert refused.status_code == 403 and "20" in refused.json()["detail"]
    assert "limits.snapshots" in refused.json()["detail"]
    sandbox.destroy()
    for s in server.api("GET", "/v1/snapshots"):
        server.api("DELETE", f"/v1/snapshots/{s['id']}")


def test_the_operator_bounds_snapshots_in_number_and_bytes():
    with product.Server(config="limits: {snapshots: 2, snapshot_mb: 30, snapshots_mb: 50}\ngolden: {snapshots: off}\n") as s:
        sandbox = s.create(**SHAPE)
        sandbox.run("head -c 40000000 /dev/urandom > /workspace/big; sync")
        asked = s.call("POST", sandbox.path + "/snapshots", json={})
        assert asked.status_code == 413 and "at most 30" in asked.json()["detail"], asked.text
        sandbox.run("rm /workspace/big; fstrim -v /workspace", user="root")
        sandbox.run("head -c 15000000 /dev/urandom > /workspace/big; sync")
        assert snapshot(sandbox)["status"] == "completed"
        sandbox.run("head -c 4000000 /dev/urandom > /workspace/more; sync")
        assert snapshot(sandbox)["status"] == "completed"
        refused = s.call("POST", sandbox.path + "/snapshots", json={})
        assert refused.status_code == 403 and "the limit is 2 " in refused.json()["detail"], refused.text
        one = next(x for x in s.api("GET", "/v1/snapshots") if x["status"] == "completed")
        s.api("DELETE", f"/v1/snapshots/{one['id']}")
        sandbox.run("head -c 20000000 /dev/urandom > /workspace/third; sync")
        full = s.call("POST", sandbox.path + "/snapshots", json={})
        assert full.status_code == 413 and "are left" in full.json()["detail"], full.text
        left = {p.name for p in (s.state / "snapshots").iterdir()}
        assert left == {x["id"] for x in s.api("GET", "/v1/snapshots") if x["status"] == "completed"}, "a failed one leaves no files"
        sandbox.destroy()


def test_snapshots_survive_the_server(server):
    sandbox = server.create(**SHAPE)
    sandbox.run("echo kept > /workspace/f; sync")
    snap = snapshot(sandbox, memory=True)
    server.kill()
    server.start()
    assert server.api("GET", f"/v1/snapshots/{snap['id']}")["size_bytes"] == snap["size_bytes"]
    sandbox.run("rm /workspace/f")
    restore(snap, sandbox)
    assert sandbox.run("cat /workspace/f") == "kept"
    sandbox.destroy()


def test_the_command_line(server):
    sandbox = server.create(**SHAPE)
    sandbox.run("echo one > /workspace/f; sync")
    made = server.cli("snapshot", "create", sandbox.id, "--name", "mine")
    assert "Snapshot snap-" in made.stdout
    snap = json.loads(server.cli("snapshot", "list", sandbox.id, "--json").stdout)[0]
    assert "mine" in server.cli("snapshot", "list").stdout
    sandbox.run("echo two > /workspace/f; sync")
    server.cli("snapshot", "restore", snap["id"])
    assert sandbox.run("cat /workspace/f") == "one"
    child = server.cli("fork", sandbox.id).stdout.strip()
    assert server.cli("exec", child, "--", "cat", "/workspace/f").stdout == "one\n"
    third = json.loads(server.cli("up", "--from-snapshot", snap["id"], "--name", "third", "--json").stdout)
    assert server.cli("exec", third["id"], "--", "cat", "/workspace/f").stdout == "one\n"
    server.cli("destroy", sandbox.id, child, third["id"])
    assert "Deleted" in server.cli("snapshot", "delete", snap["id"]).stdout


def test_an_idle_sandbox_pauses_by_itself_and_a_busy_one_does_not(server):
    idle, busy = server.create(timeout=3, **SHAPE), server.create(timeout=3, **SHAPE)
    work = threading.Thread(target=lambda: busy.exec("sleep 8"))
    work.start()
    product.wait_for("it is paused", lambda: idle.get()["status"] == "paused", 30)
    assert idle.get()["pause_reason"] == "idle"
    time.sleep(2)
    assert busy.get()["status"] == "running"
    work.join()
    product.wait_for("it is paused when its command has ended", lambda: busy.get()["status"] == "paused", 30)
    server.api("POST", idle.path + "/resume")
    assert idle.run("echo back") == "back"
    idle.destroy()
    busy.destroy()


def test_a_snapshot_downloads_as_an_archive(server, tmp_path):
    sandbox = server.create(**SHAPE)
    sandbox.run("mkdir -p /workspace/a/b && echo deep > /workspace/a/b/c && head -c 3000000 /dev/urandom > /workspace/big; sync")
    sums = sandbox.run("cd /workspace && sha256sum a/b/c big")
    snap = snapshot(sandbox)
    sandbox.destroy()
    others = {s["id"] for s in server.api("GET", "/v1/sandboxes") if s["status"] != "destroyed"}
    where = server.api("GET", f"/v1/snapshots/{snap['id']}/download")
    assert where["expires_in_seconds"] == 3600 and where["url"].endswith("/download/content")
    server.cli("snapshot", "download", snap["id"], "--output", str(tmp_path / "x.tar.gz"))
    with tarfile.open(tmp_path / "x.tar.gz") as t:
        got = [f"{hashlib.sha256(t.extractfile('workspace/' + n).read()).hexdigest()}  {n}" for n in ("a/b/c", "big")]
    assert got == sums.splitlines()
    product.wait_for("the reader is gone", lambda: not {s["id"] for s in server.api("GET", "/v1/sandboxes")
                                                        if s["status"] != "destroyed"} - others, 60)
    refused = server.cli("snapshot", "download", "snap-aaaaaaaaaa", check=False)
    assert refused.returncode != 0 and "no snapshot" in refused.stderr


def test_what_belongs_to_nothing_is_found_and_removed(server):
    sandbox = server.create(**SHAPE)
    left = [server.state / "sandboxes" / "cage-zzzzzzzzzz", server.state / "snapshots" / "snap-zzzzzzzzzz",
            server.state / "golden" / "x.tmp"]
    young = server.state / "sandboxes" / "cage-yyyyyyyyyy"
    for path in (*left, young):
        path.mkdir()
        (path / "disk.img").write_bytes(b"x" * 100000)
        owner = (server.state / "sandboxes").stat()
        os.chown(path, owner.st_uid, owner.st_gid)
    for path in left:
        os.utime(path, (1, 1))
    assert "Would free" in server.cli("gc", "--dry-run").stdout and all(p.exists() for p in left)
    found = json.loads(server.cli("gc", "--json").stdout)
    assert {i["path"] for i in found["items"] if i["removed"]} == {str(p) for p in left} and found["bytes"] >= 300000
    assert not any(p.exists() for p in left) and young.exists()
    assert "Nothing" in server.cli("gc").stdout
    assert sandbox.run("echo alive") == "alive"
    sandbox.destroy()
