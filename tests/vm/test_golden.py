"""Golden snapshots: the second sandbox of a shape is restored, is nobody's twin, and falls back to a boot when it must."""

import json
import os
import pathlib
import re
import signal

import pytest

import product

SHAPE = {"memory_mb": 256, "cpus": 1}


def golden_dirs(server):
    folder = server.state / "golden"
    found = folder.iterdir() if folder.is_dir() else []  # but for what is half made, or on its way out
    return sorted(p for p in found if p.suffix not in (".tmp", ".broken") and (p / "meta.json").exists())


def shapes(server):
    return {tuple(json.loads((d / "meta.json").read_text())[k] for k in ("cpus", "memory_mb")) for d in golden_dirs(server)}


def wait_golden(server, n=1):
    product.wait_for(f"{n} golden snapshots are made", lambda: len(golden_dirs(server)) >= n, 120)
    product.wait_for("their helpers are gone", lambda: helpers(server) == 0, 60)


def helpers(server):
    """Sandboxes that stand in no list: those that make a golden snapshot."""
    listed = {s["id"] for s in server.api("GET", "/v1/sandboxes")}
    return len([p for p in (server.state / "sandboxes").iterdir() if p.name not in listed and (p / "config.json").exists()])


def spares(server):
    """Those that wait for somebody: they have no configuration yet."""
    return len([p for p in (server.state / "sandboxes").iterdir() if not (p / "config.json").exists()])


def started_from(sandbox):
    how = sandbox.get()["isolation"]["started_from"]
    if how == "boot":  # what a test that expected a restore wants to know
        print([e["data"] for e in sandbox.events("lifecycle")], [line for line in (sandbox.server.state / "server.log").read_text(
            errors="replace").splitlines() if "golden" in line])
    return how


@pytest.fixture(scope="module")
def server():
    with product.Server() as s:
        first = s.create(**SHAPE)
        assert started_from(first) == "boot"
        first.destroy()
        wait_golden(s)
        yield s


def test_the_next_sandbox_of_a_shape_is_restored(server):
    sandbox = server.create(**SHAPE)
    assert started_from(sandbox) == "golden snapshot"
    assert sandbox.run("hostname") == sandbox.id
    assert sandbox.run("nproc") == "1"
    assert abs(int(sandbox.run("date +%s")) - int(os.popen("date +%s").read())) <= 2
    sandbox.destroy()


def test_siblings_differ_in_all_that_must_not_be_shared(server):
    ask = ("cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | od -An -tx1; cat /etc/machine-id; "
           "cat /proc/sys/kernel/random/boot_id; hostname; mktemp -u XXXXXXXXXXXX; "
           "python3 -c 'import uuid; print(uuid.uuid4())' 2>/dev/null || cat /proc/sys/kernel/random/uuid")
    siblings = [server.create(**SHAPE) for _ in range(3)]
    assert {started_from(s) for s in siblings} == {"golden snapshot"}
    answers = [s.run(ask).splitlines() for s in siblings]
    for lines in zip(*answers):
        assert len(set(lines)) == len(siblings), lines
    for s in siblings:
        s.destroy()


def test_what_one_writes_no_other_sees(server):
    a, b = server.create(**SHAPE), server.create(**SHAPE)
    a.run("echo secret > /workspace/x; echo secret > /home/agent/y; dd if=/dev/zero of=/workspace/z bs=1M count=20 2>&1")
    assert b.exec("ls /workspace/x /home/agent/y /workspace/z")["exit_code"] != 0
    c = server.create(**SHAPE)
    assert c.run("ls /workspace") == ""
    for s in (a, b, c):
        s.destroy()


@pytest.mark.parametrize("disk_gb", [1, 3, 20])
def test_the_disk_has_the_size_that_was_asked_for(server, disk_gb):
    sandbox = server.create(disk_gb=disk_gb, **SHAPE)
    assert started_from(sandbox) == "golden snapshot"
    mib = int(sandbox.run("df --output=size -m /workspace | tail -1"))
    assert disk_gb * 1024 * 0.9 < mib <= disk_gb * 1024
    sandbox.destroy()


def test_observation_network_and_terminals_work_in_a_restored_guest(server):
    sandbox = server.create(**SHAPE)
    sandbox.run("true; echo hi > /workspace/seen")
    product.wait_for("the exec is observed", lambda: any(
        e["data"].get("argv", [""])[-1].startswith("true") for e in sandbox.events("process")), 30)
    product.wait_for("the file is observed", lambda: any(
        e["data"].get("path") == "/workspace/seen" for e in sandbox.events("file_op")), 30)
    assert sandbox.exec("timeout 5 bash -c '</dev/tcp/192.0.2.1/80'")["exit_code"] not in (0, 124), "refused, not hung"
    assert sandbox.events("gap") == []
    sandbox.destroy()


def test_twenty_in_a_row(server):
    for _ in range(20):
        sandbox = server.create(**SHAPE)
        assert started_from(sandbox) == "golden snapshot"
        assert sandbox.run("echo $((6*7))") == "42"
        sandbox.destroy()
    assert helpers(server) == 0
    product.wait_for("the pool is full again", lambda: spares(server) == 2, 120)


def test_clones_cannot_write_into_the_memory_they_share(server):
    sandbox = server.create(**SHAPE)
    vmm = next(pid for pid, line in product.processes_naming("qemu-system").items()
               if b"-incoming" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
               and os.stat(f"/proc/{pid}").st_uid != 0 and sandbox.id in uid_owner(server, pid))
    maps = pathlib.Path(f"/proc/{vmm}/maps").read_text().splitlines()
    ram = [line for line in maps if "memfd:caged-ram" in line]
    assert ram and all(line.split()[1].endswith("p") for line in ram), "mapped privately"
    fd = next(f for f in pathlib.Path(f"/proc/{vmm}/fd").iterdir() if "memfd:caged-ram" in os.readlink(f))
    with open(fd, "rb+", buffering=0) as f, pytest.raises(PermissionError):
        f.write(b"x")
    sandbox.destroy()


def uid_owner(server, pid):
    uid = os.stat(f"/proc/{pid}").st_uid
    return [p.name for p in (server.state / "sandboxes").iterdir() if p.stat().st_uid == uid]


def vmm_of(server, sandbox):
    uid = (server.state / "sandboxes" / sandbox.id).stat().st_uid
    [pid] = [pid for pid in product.processes_naming("qemu-system") if os.stat(f"/proc/{pid}").st_uid == uid]
    return pid


def full_pool(server):
    product.wait_for("a spare waits", lambda: [p for p in (server.state / "sandboxes").iterdir()
                                               if (p / "warm").exists() and not (p / "config.json").exists()], 120)


def test_a_clone_has_little_memory_of_its_own(server):
    full_pool(server)
    sandbox = server.create(**SHAPE)
    sandbox.run("true")
    rollup = pathlib.Path(f"/proc/{vmm_of(server, sandbox)}/smaps_rollup").read_text()
    # what the memfd holds counts as private, too, while no other VMM maps the page: anonymous is what it wrote
    private = int(re.search(r"Anonymous:\s+(\d+)", rollup)[1]) * 1024
    assert private < 70_000_000, f"{private / 1e6:.0f} MB: no kernel, no full store of translated code"
    sandbox.destroy()


CAS = "cat /etc/ssl/certs/caged-ca.pem 2>/dev/null; echo; grep -c BEGIN /etc/ssl/certs/ca-certificates.crt"


def test_a_spares_authority_is_its_sandboxes_or_nobodys(server):
    full_pool(server)
    both = [server.create(**SHAPE) for _ in range(2)]
    pems = [s.run(CAS) for s in both]
    assert all("BEGIN CERTIFICATE" in p for p in pems) and pems[0] != pems[1]
    for s in both:
        there = "tail -c $(stat -c %s caged-ca.pem) ca-certificates.crt | cmp - caged-ca.pem && echo same"
        assert s.run(f"cd /etc/ssl/certs && {there}") == "same"
        s.destroy()
    plain = int(pems[0].splitlines()[-1]) - pems[0].count("BEGIN CERTIFICATE")  # what the template brings
    with product.Server(config="llm:\n  intercept: off\nnetwork:\n  guest_ca: none\n") as other:
        other.create(**SHAPE).destroy()
        wait_golden(other)
        other.create(**SHAPE).destroy()
        full_pool(other)
        sandbox = other.create(**SHAPE)
        assert started_from(sandbox) == "golden snapshot"
        assert sandbox.run(CAS).split() == [str(plain)]
        sandbox.destroy()


def test_a_golden_snapshot_survives_the_server(server):
    server.kill()
    server.start()
    sandbox = server.create(**SHAPE)
    assert started_from(sandbox) == "golden snapshot"
    sandbox.destroy()


def damage(path, at, bytes_):
    path.chmod(0o600)
    with path.open("r+b") as f:
        f.seek(at)
        f.write(bytes_)


def test_a_broken_one_falls_back_to_a_boot_and_is_made_anew():
    with product.Server() as s:
        s.create(**SHAPE).destroy()
        wait_golden(s)
        key = golden_dirs(s)[0]
        s.stop()
        damage(key / "vm.state", 0, b"\0" * 4096)
        s.start()
        sandbox = s.create(**SHAPE)
        assert started_from(sandbox) == "boot"
        assert sandbox.run("echo works") == "works"
        assert "golden.restore_failed" in s.log()
        opened = next(e for e in sandbox.events("lifecycle") if e["data"]["event"] == "opened")
        assert opened["data"]["isolation"]["restore_failed"], "and the record says so"
        sandbox.destroy()
        wait_golden(s)
        again = s.create(**SHAPE)
        assert started_from(again) == "golden snapshot"
        again.destroy()


def test_a_short_memory_file_is_noticed_before_anything_is_restored():
    with product.Server() as s:
        s.create(**SHAPE).destroy()
        wait_golden(s)
        ram = golden_dirs(s)[0] / "ram"
        s.stop()
        os.truncate(ram, 4096)
        s.start()
        sandbox = s.create(**SHAPE)
        assert started_from(sandbox) == "boot" and "golden.unusable" in s.log()
        sandbox.destroy()


def test_a_server_killed_while_one_is_made_leaves_nothing_half():
    with product.Server() as s:
        s.create(**SHAPE).destroy()
        product.wait_for("the helper is there", lambda: helpers(s) == 1, 60)
        s.kill(signal.SIGKILL)
        s.start()
        folder = s.state / "golden"
        assert all((p / "meta.json").exists() for p in folder.iterdir())
        s.create(**SHAPE).destroy()
        wait_golden(s)
        product.wait_for("the first helper is swept", lambda: helpers(s) == 0, 120)


def test_other_shapes_have_their_own(server):
    other = {"memory_mb": 384, "cpus": 2}
    first = server.create(**other)
    assert started_from(first) == "boot"
    first.destroy()
    product.wait_for("its own is made", lambda: (2, 384) in shapes(server), 120)  # a copied snapshot leaves one, too
    wait_golden(server)
    second = server.create(**other)
    assert started_from(second) == "golden snapshot" and second.run("nproc") == "2"
    second.destroy()
    assert shapes(server) == {(1, 256), (2, 384)}


def test_with_golden_snapshots_off_every_sandbox_boots():
    with product.Server(config="golden:\n  snapshots: off\n") as s:
        for _ in range(2):
            sandbox = s.create(**SHAPE)
            assert started_from(sandbox) == "boot"
            sandbox.destroy()
        assert golden_dirs(s) == []
