"""Who may die, and what is left: restarts, kill -9 of every process, two servers side by side."""

import os
import pathlib
import shutil
import signal
import subprocess

import pytest

import product


def parts(server, sandbox):
    """Pids of keeper, warden and VMM of a sandbox, by what they have to do with each other."""
    warden = [pid for pid, line in product.processes_naming(sandbox.id).items() if "caged-warden" in line]
    assert len(warden) == 1, product.processes_naming(sandbox.id)
    stat = pathlib.Path(f"/proc/{warden[0]}/status").read_text()
    keeper = int(next(line.split()[1] for line in stat.splitlines() if line.startswith("PPid:")))
    children = [int(p) for p in pathlib.Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()]
    vmm = [p for p in children if "qemu" in pathlib.Path(f"/proc/{p}/comm").read_text()]
    assert len(vmm) == 1
    return {"keeper": keeper, "warden": warden[0], "vmm": vmm[0]}


def nothing_left(server, sandbox, pids):
    for name, pid in pids.items():
        product.wait_for(f"{name} is gone", lambda p=pid: not product.alive(p), 30)
    product.wait_for("its directories are gone", lambda: not (server.state / "sandboxes" / sandbox.id).exists()
                     and not (pathlib.Path(server.info["run_dir"]) / sandbox.id).exists(), 30)
    for cgroup in pathlib.Path("/sys/fs/cgroup").rglob(f"*{sandbox.id}*"):
        raise AssertionError(f"left: {cgroup}")


def running(server):
    return [s for s in server.api("GET", "/v1/sandboxes") if s["status"] == "running"]


def test_destroy_leaves_nothing_but_the_record(server):
    s = server.create(memory_mb=256, disk_gb=1)
    s.run("echo something > /workspace/file")
    pids = parts(server, s)
    s.destroy()
    nothing_left(server, s, pids)
    record = s.record()
    assert record[-1]["type"] == "lifecycle" and record[-1]["data"]["event"] == "destroyed"
    assert sum(1 for e in record if e["type"] == "lifecycle" and e["data"]["event"] == "destroyed") == 1
    with pytest.raises(product.Refused) as refused:
        s.exec("true")
    assert refused.value.status == 409


def test_a_restart_and_a_kill_of_the_server_leave_sandboxes_running(server):
    s = server.create(memory_mb=256, disk_gb=1)
    s.run("(sleep 600 >/dev/null 2>&1 &); echo before > /workspace/mark")
    server.stop()
    server.start()
    assert s.get()["status"] == "running"
    assert s.run("cat /workspace/mark; pgrep -c sleep") == "before\n1"
    server.kill(signal.SIGKILL)
    server.start()
    assert s.get()["status"] == "running"
    assert s.run("cat /workspace/mark") == "before"
    pids = parts(server, s)
    s.destroy()
    nothing_left(server, s, pids)
    sequence = [e["seq"] for e in s.record()]
    assert sequence == list(range(1, len(sequence) + 1))


@pytest.mark.parametrize("victim", ["warden", "vmm", "keeper"])
def test_kill_of_a_part_ends_that_sandbox_as_error_and_no_other(server, victim):
    s, other = server.create(memory_mb=256, disk_gb=1), server.create(memory_mb=256, disk_gb=1)
    pids = parts(server, s)
    acknowledged = s.run("echo said")
    os.kill(pids[victim], signal.SIGKILL)
    product.wait_for("it is an error", lambda: s.get()["status"] == "error", 40)
    assert s.get()["error"]["text"]
    nothing_left(server, s, pids)
    assert acknowledged == "said"
    record = s.record()
    assert any(e["type"] == "command" and e["data"].get("phase") == "exit" for e in record), "an acknowledged event is lost"
    assert record[-1]["data"]["event"] == "destroyed"
    assert other.run("echo fine") == "fine"
    other.destroy()
    s.destroy()


def test_kill_of_server_and_warden_together_is_found_at_the_next_start(server):
    s = server.create(memory_mb=256, disk_gb=1)
    pids = parts(server, s)
    server.kill(signal.SIGKILL)
    os.kill(pids["warden"], signal.SIGKILL)
    server.start()
    product.wait_for("it is an error", lambda: s.get()["status"] == "error", 40)
    nothing_left(server, s, pids)


def test_a_create_that_fails_half_way_cleans_up(server):
    # the guest cannot boot in so little memory, or boots and answers: either is fine, leaving things is not
    before = len(server.api("GET", "/v1/sandboxes"))
    bad = server.call("POST", "/v1/sandboxes", json={"template": "minimal", "memory_mb": 256, "disk_gb": 1,
                                                     "repo": "https://no-such-host.invalid/x.git"})
    assert bad.status_code >= 400 and "clone" in bad.json()["detail"]
    failed = [b for b in server.api("GET", "/v1/sandboxes") if b["status"] == "error"]
    assert failed and len(server.api("GET", "/v1/sandboxes")) == before + 1
    sandbox = product.Sandbox(server, failed[-1])
    nothing_left(server, sandbox, {})
    assert not [line for line in product.processes_naming(sandbox.id).values() if "warden" in line]
    sandbox.destroy()


def test_two_servers_side_by_side_do_not_touch_each_other():
    with product.Server() as one, product.Server() as two:
        a, b = one.create(memory_mb=256, disk_gb=1), two.create(memory_mb=256, disk_gb=1)
        assert [x["id"] for x in one.api("GET", "/v1/sandboxes")] == [a.id]
        assert one.call("GET", f"/v1/sandboxes/{b.id}").status_code == 404
        assert two.call("GET", "/v1/sandboxes", headers={"Authorization": f"Bearer {one.key}"}).status_code == 401
        pids = parts(one, a)
        one.close()
        assert b.run("echo untouched") == "untouched"
        for pid in pids.values():  # a server's end leaves its sandboxes; close() destroyed this one
            product.wait_for("gone", lambda p=pid: not product.alive(p), 30)


def test_the_jail_holds_for_every_part(server, sandbox):
    pids = parts(server, sandbox)
    for name in ("warden", "vmm"):
        status = dict(line.split(":\t", 1) for line in
                      pathlib.Path(f"/proc/{pids[name]}/status").read_text().splitlines() if ":\t" in line)
        assert int(status["CapEff"], 16) == 0, name
        assert status["NoNewPrivs"].strip() == "1", name
        assert status["Seccomp"].strip() == "2", name
        assert "0" not in status["Uid"].split(), name
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts"):
        assert os.readlink(f"/proc/{pids['vmm']}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    server_uid = pathlib.Path(f"/proc/{server.pid}").stat().st_uid
    assert server_uid != 0 and pathlib.Path(f"/proc/{pids['warden']}").stat().st_uid != server_uid


def test_the_cli_walks_a_whole_life(server, tmp_path):
    made = server.cli("run", "--memory", 256, "--disk", 1, "--cpus", 1)
    assert "Sandbox created: cage-" in made.stdout
    id_ = made.stdout.split("Sandbox created: ")[1].split()[0]
    assert id_ in server.cli("list").stdout
    assert server.cli("status", id_).returncode == 0
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "f").write_text("deep")
    server.cli("cp", tmp_path / "tree", f"{id_}:/workspace/tree")
    assert server.cli("exec", id_, "--", "cat", "/workspace/tree/sub/f").stdout == "deep"
    server.cli("cp", f"{id_}:/workspace/tree", tmp_path / "back")
    assert (tmp_path / "back" / "sub" / "f").read_text() == "deep"
    assert server.cli("cp", "-", f"{id_}:/workspace/in", input="piped").returncode == 0
    assert server.cli("cp", f"{id_}:/workspace/in", "-").stdout == "piped"
    assert "started" in server.cli("logs", id_).stdout
    assert "cat /workspace/tree/sub/f" in server.cli("events", id_).stdout
    server.cli("destroy", id_)
    assert id_ not in server.cli("list").stdout
    gone = server.cli("exec", id_, "--", "true", check=False)
    assert gone.returncode == 1 and "destroyed" in gone.stderr


def test_run_rm_makes_runs_and_destroys(server):
    done = server.cli("run", "--rm", "--memory", 256, "--disk", 1, "--", "sh", "-c", "echo in; exit 9", check=False)
    assert (done.returncode, done.stdout) == (9, "in\n")
    assert running(server) == []


def test_up_with_a_failing_init_keeps_the_sandbox_unless_rm(server, tmp_path):
    (tmp_path / ".caged.yaml").write_text("template: minimal\nmemory: 256\ndisk: 1\ninit_script: |\n  echo broken here\n  exit 4\n")
    (tmp_path / "file").write_text("x")
    failed = server.cli("up", cwd=tmp_path, check=False)
    assert failed.returncode == 1 and "broken here" in failed.stderr and "exit code 4" in failed.stderr
    kept = running(server)
    assert len(kept) == 1 and kept[0]["id"] in failed.stderr
    server.cli("destroy", kept[0]["id"])
    failed = server.cli("up", "--rm", cwd=tmp_path, check=False)
    assert failed.returncode == 1
    assert running(server) == []


def test_git_worktrees_and_ignored_files_stay_home(server, tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("secret.env\n")
    (tmp_path / "secret.env").write_text("KEY=1\n")
    (tmp_path / "name with space\nand newline").write_text("odd")
    made = server.cli("up", "--memory", 256, "--disk", 1, "--json", cwd=tmp_path)
    import json
    s = product.Sandbox(server, json.loads(made.stdout))
    assert s.exec("test -e secret.env")["exit_code"] == 1
    assert s.run("cat name*") == "odd"
    s.destroy()


def test_an_installation_below_a_closed_folder_works(tmp_path, monkeypatch):
    """Root's home is closed to the server's uid and to every sandbox's: what is installed there runs."""
    closed = tmp_path / "closed"
    shutil.copytree(product.STAGE, closed / "stage", symlinks=True)
    closed.chmod(0o700)
    monkeypatch.setattr(product, "CAGED", closed / "stage" / "bin" / "caged")
    with product.Server() as s:
        sandbox = s.create(template="minimal", memory_mb=256, disk_gb=1)
        assert sandbox.run("echo reached") == "reached"
        sandbox.destroy()
        page = s.call("GET", "/")
        assert page.status_code == 200 or not (product.STAGE / "share" / "caged" / "dashboard").exists()


def test_a_state_directory_that_the_server_cannot_reach_is_refused_with_the_way_out(tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    done = subprocess.run([product.CAGED, "server", "start", "--state-dir", closed / "state", "--listen", "127.0.0.1:0"],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "cannot be reached" in done.stderr and "chmod o+x" in done.stderr, done.stderr
