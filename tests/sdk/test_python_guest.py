"""The Python client against a real server and a real guest."""

import asyncio
import io
import os
import re
import subprocess
import sys
import tarfile
import threading

import pytest

import caged as sdk
from conftest import ROOT


def test_commands_run_and_their_outcome_is_told(client, box):
    done = client.sandboxes.exec(box, "echo out; echo err >&2; exit 3")
    assert (done.exit_code, done.ok, done.stdout, done.stderr) == (3, False, "out\n", "err\n")
    done = client.sandboxes.exec(box, argv=["sh", "-c", "cat; echo $A; pwd"], env={"A": "b"}, cwd="/tmp", stdin="in\n")
    assert done.ok and done.output == "in\nb\n/tmp\n"
    late = client.sandboxes.exec(box, "sleep 60", timeout_ms=300)
    assert late.timed_out and not late.ok
    with pytest.raises(sdk.CagedTimeoutError):
        client.sandboxes.exec(box, "sleep 61", timeout=1)


def test_sandboxes_are_listed_and_refusals_are_typed(client, box):
    assert box in [s.id for s in client.sandboxes.list()]
    got = client.sandboxes.get(box)
    assert got.status == "running" and got.template == "minimal" and got.memory_mb == 256
    with pytest.raises(sdk.NotFoundError) as e:
        client.sandboxes.get("cage-zzzzzzzz")
    assert e.value.code == "not_found" and "cage-zzzzzzzz" in e.value.detail and e.value.request_id
    with pytest.raises(sdk.ValidationError) as e:
        client.sandboxes.create("no-such-template")
    assert "minimal" in e.value.detail
    with pytest.raises(sdk.AuthError):
        sdk.Caged("caged_sk_wrong", client.base_url).sandboxes.list()


def test_files_go_up_and_down_byte_by_byte(client, box):
    client.files.write(box, "a/b.txt", "grüße\n")
    assert client.files.read(box, "/workspace/a/b.txt") == "grüße\n"
    blob = os.urandom(3_000_000)
    client.files.upload(box, "/tmp/blob", blob)
    assert client.files.download(box, "/tmp/blob") == blob
    client.files.upload(box, "/tmp/blob", (blob[i:i + 70_000] for i in range(0, len(blob), 70_000)))
    assert b"".join(client.files.iter_download(box, "/tmp/blob")) == blob
    client.files.mkdir(box, "c/d")
    client.files.rename(box, "a/b.txt", "c/d/e.txt")
    entries = client.files.list(box, "c/d")
    assert [(e.name, e.path, e.size, e.is_directory) for e in entries] == [
        ("e.txt", "/workspace/c/d/e.txt", len("grüße\n".encode()), False)]
    with tarfile.open(fileobj=io.BytesIO(b"".join(client.files.archive(box, "c")))) as tar:
        assert any(name.endswith("e.txt") for name in tar.getnames())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo("new/f")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    client.files.unpack(box, packed.getvalue())
    assert client.files.read(box, "new/f") == "abc"
    client.files.delete(box, "c", recursive=True)
    with pytest.raises(sdk.NotFoundError):
        client.files.read(box, "c/d/e.txt")


def test_git_says_what_changed(client, box):
    client.sandboxes.exec(box, "git init -q g && cd g && git config user.email a@b && git config user.name n"
                               " && echo 1 >f && git add f && git commit -qm m && echo 2 >f && echo 3 >n")
    diff = client.files.git_diff(box, "/workspace/g")
    assert sorted((f.path, f.status) for f in diff.files) == [("f", "modified"), ("n", "untracked")]
    assert "+2" in diff.diff and diff.staged_diff == ""


def test_output_streams_as_it_is_written_and_a_command_can_be_ended(client, box):
    async def go():
        stream = await client.sandboxes.exec_stream(box, "echo one; read x; echo $x >&2; exit 4", stdin=True)
        async with stream:
            parts = stream.channels()
            assert await parts.__anext__() == (1, "one\n")  # before the command has ended
            assert stream.exit_code is None
            await stream.send("two\n")
            assert await parts.__anext__() == (2, "two\n")
            assert [part async for part in parts] == [] and stream.exit_code == 4
        stream = await client.sandboxes.exec_stream(box, "printf 'gr\\303'; sleep 0.3; printf '\\274n'")
        assert await stream.text() == "grün" and stream.exit_code == 0 and stream.stdout == "grün"
        stream = await client.sandboxes.exec_stream(box, "echo begun; exec sleep 1000")
        async for _ in stream:
            await stream.kill()
        assert stream.exit_code != 0 and stream.signal
        with pytest.raises(sdk.NotFoundError):
            await client.sandboxes.exec_stream("cage-zzzzzzzz", "true")

    asyncio.run(asyncio.wait_for(go(), 60))


def test_a_terminal_takes_keys_a_size_and_tells_its_end(client, box):
    async def go():
        closed = []
        async with await client.sandboxes.terminal(box, rows=30, cols=90) as shell:
            shell.on_close(lambda: closed.append(True))
            await shell.send("stty size; echo a''b\n")
            seen = ""
            async for text in shell:
                seen += text
                if "ab\r\n" in seen or "ab\n" in seen:
                    break
            assert "30 90" in seen
            await shell.resize(41, 101)
            later = []
            shell.on_output(later.append)
            await shell.send("stty size; exit 7\n")
            assert await shell.wait() == 7
            assert "41 101" in "".join(later) and shell.closed and closed == [True]

    asyncio.run(asyncio.wait_for(go(), 60))


def test_events_come_live_and_end_with_the_sandbox(client):
    made = client.sandboxes.create("minimal", memory_mb=256, disk_gb=1)
    seen, live = [], threading.Event()

    def read():
        for event in client.events.stream(made.id):
            seen.append(event)
            if event.type == "command" or "marker-17" in str(event.data):
                live.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    client.sandboxes.exec(made.id, "echo marker-17")
    assert live.wait(60), [e.type for e in seen]
    assert [t.message for t in client.sandboxes.logs(made.id, tail=5)]
    client.sandboxes.destroy(made.id)
    reader.join(60)
    assert not reader.is_alive() and seen[-1].data["status"] == "destroyed"
    numbers = [e.sequence for e in seen if e.id]
    assert numbers == sorted(set(numbers)) and numbers[0] == 1
    middle = next(e for e in seen if e.sequence == 5)
    rest = [e.sequence for e in client.events.stream(made.id, last_event_id=middle.id) if e.id]
    assert rest == [n for n in numbers if n > 5]


def test_the_same_with_asyncio_side_by_side(server, box):
    async def go():
        async with sdk.AsyncCaged(server.key, server.url) as caged:
            done = await asyncio.gather(*(caged.sandboxes.exec(box, f"echo {n}") for n in range(8)))
            assert [d.output for d in done] == [f"{n}\n" for n in range(8)]
            stream = await caged.sandboxes.exec_stream(box, "echo x")
            assert await stream.text() == "x\n"
            await caged.files.upload(box, "/tmp/u", b"123")
            assert b"".join([c async for c in caged.files.iter_download(box, "/tmp/u")]) == b"123"
            async for event in caged.events.stream(box):
                assert event.sandbox_id == box
                break
            with pytest.raises(sdk.NotFoundError):
                await caged.sandboxes.get("cage-zzzzzzzz")

    asyncio.run(asyncio.wait_for(go(), 60))


def test_the_readme_runs_as_one_program(server, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "sdk" / "python" / "README.md").read_text(), re.M | re.S)
    assert len(blocks) >= 8
    (tmp_path / "readme.py").write_text("\n".join(blocks))
    env = {**os.environ, "PYTHONPATH": str(ROOT / "sdk" / "python" / "src"), "CAGED_API_KEY": server.key, "CAGED_API_URL": server.url}
    done = subprocess.run([sys.executable, "-W", "error", tmp_path / "readme.py"], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("running", "hello\n 3 False", "1\n2\n3\n0", "30 100", "a text", "3\n", "notes", "filesystem_read", "['owner']", "404 there is no sandbox"):
        assert word in done.stdout, (word, done.stdout)


def test_ports_and_the_network_are_asked_and_changed(client, box):
    assert client.sandboxes.network(box)["mode"] == "full"
    assert client.sandboxes.protect_port(box, 3000, "a password").protected
    share = client.sandboxes.share_port(box, 3000, expires_in=60)
    assert "3000" in share.url and share.expires_at
    client.sandboxes.unprotect_port(box, 3000)
    assert [p for p in client.sandboxes.ports(box) if p.protected] == []
    assert {row["sandbox_id"] for row in client.billing.export_usage("sandbox")} >= {box}
    month = client.billing.list_invoices()[0]["month"]
    assert box in [b["sandbox_id"] for b in client.billing.get_invoice(month)["sandboxes"]]
