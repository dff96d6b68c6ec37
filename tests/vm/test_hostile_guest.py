"""What a guest does to itself must stay there: full disks, floods, fork bombs, killing everything."""

import json

import product


def still_serves(server):
    assert server.call("GET", "/health").status_code == 200
    s = server.create(memory_mb=256, disk_gb=1)
    assert s.run("echo fine") == "fine"
    s.destroy()


def test_guest_that_fills_its_disk_still_answers_and_harms_nobody(server, sandbox):
    done = sandbox.exec("dd if=/dev/zero of=/workspace/full bs=1M 2>&1; echo rc=$?", timeout_ms=300000)
    assert "No space left" in done["output"]
    done = sandbox.exec("dd if=/dev/zero of=/var/tmp/full bs=1M 2>&1", user="root", timeout_ms=300000)
    assert sandbox.run("echo alive") == "alive"
    image = server.state / "sandboxes" / sandbox.id / "disk.img"
    assert image.stat().st_blocks * 512 <= (1 << 30) + (16 << 20)
    sandbox.run("rm -f /workspace/full")
    sandbox.run("echo room again > /workspace/note")
    still_serves(server)


def test_guest_root_that_floods_the_link_with_garbage_ends_only_itself(server):
    s = server.create(memory_mb=256, disk_gb=1)
    port = "p=$(grep -l caged.link /sys/class/virtio-ports/*/name); p=/dev/$(basename $(dirname $p))"
    s.exec(f"{port}; (head -c 50000000 /dev/urandom > $p) 2>&1; echo rc=$?", user="root", timeout_ms=20000)
    status = s.get()["status"]
    assert status in ("running", "error")
    if status == "error":
        assert s.get()["error"]["text"]
    still_serves(server)
    s.destroy()


def test_fork_bomb_as_agent_leaves_the_sandbox_usable_or_destroyable(server, sandbox):
    sandbox.exec("bomb() { bomb | bomb & }; bomb; sleep 5", timeout_ms=8000)
    product.wait_for("it answers again", lambda: answers(sandbox), 120, 1)
    still_serves(server)


def answers(sandbox):
    try:
        return sandbox.exec("echo here", user="root", timeout_ms=15000)["output"].strip() == "here"
    except (product.Refused, Exception):  # noqa: B014 - any failure means: not yet
        return False


def test_guest_root_that_kills_everything_does_not_end_the_agent(server, sandbox):
    sandbox.exec("kill -9 -1", user="root", timeout_ms=10000)
    sandbox.exec("kill -TERM 1; kill -9 1; kill -INT 1", user="root", timeout_ms=10000)
    assert sandbox.run("echo survived") == "survived"


def test_guest_that_panics_its_kernel_is_an_error_with_the_console(server):
    s = server.create(memory_mb=256, disk_gb=1)
    try:
        s.exec("echo c > /proc/sysrq-trigger", user="root", timeout_ms=5000)
    except (product.Refused, Exception):  # noqa: B014 - the guest is gone while it answers
        pass
    product.wait_for("it is an error", lambda: s.get()["status"] == "error", 60)
    assert s.get()["error"]["text"]
    s.destroy()
    still_serves(server)


def test_output_flood_is_bounded_and_said(server, sandbox):
    done = sandbox.exec("head -c 60000000 /dev/zero | tr '\\0' x", timeout_ms=120000)
    assert done["truncated"] is True
    assert len(done["output"]) <= 9 << 20
    assert sandbox.run("echo after") == "after"


def test_names_with_escapes_reach_the_record_as_data(sandbox):
    sandbox.run("/bin/true $'a\\nb\\e]0;owned\\a\\u202e' ; touch $'/workspace/x\\ny\\e[31m'")
    for line in sandbox.record():
        text = json.dumps(line, ensure_ascii=False)
        assert "\x1b" not in text and "\u202e" not in text or json.loads(text) == line
    raw = b"".join((p.read_bytes() for p in (sandbox.server.state / "sandboxes" / sandbox.id / "record").glob("*.jsonl")))
    assert b"\x1b" not in raw and "\u202e".encode() not in raw


def test_console_flood_does_not_fill_the_host(server, sandbox):
    sandbox.exec("head -c 3000000 /dev/zero | tr '\\0' y > /dev/console", user="root", timeout_ms=120000)
    log = server.state / "sandboxes" / sandbox.id / "console.log"
    assert log.stat().st_size <= 2 << 20
    assert sandbox.run("echo ok") == "ok"
