"""Without root: a whole life of sandboxes that belong to an unprivileged user, as far as this machine lets one."""

import os
import pathlib
import signal

import product
import pytest
import rootless

SHAPE = {"memory_mb": 256, "cpus": 1}

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="all tests run without root then")


@pytest.fixture(scope="module")
def server():
    with rootless.server() as s:
        yield s


def test_a_sandbox_of_an_unprivileged_user_lives_and_goes(server):
    sandbox = server.create(**SHAPE)
    assert sandbox.run("id -un; hostname") == f"agent\n{sandbox.id}"
    assert sandbox.run("id -u", user="root") == "0"
    names = rootless.processes()
    assert any("qemu" in n for n in names.values()) and "caged-warden" in names.values(), names
    vmm = next(pid for pid, name in names.items() if "qemu" in name)
    status = pathlib.Path(f"/proc/{vmm}/status").read_text()
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    assert os.readlink(f"/proc/{vmm}/ns/net") != os.readlink("/proc/self/ns/net")
    assert sandbox.exec("timeout 20 bash -c '</dev/tcp/192.0.2.1/80'")["exit_code"] not in (0, 124), "refused, not hung"
    assert server.cli("exec", sandbox.id, "--", "sh", "-c", "echo over the line; exit 3", check=False).returncode == 3
    sandbox.destroy()
    assert not (server.state / "sandboxes" / sandbox.id).exists()
    assert server.cli("verify", sandbox.id).returncode == 0


def test_the_second_one_is_restored_pauses_resumes_and_is_copied(server):
    product.wait_for("a golden snapshot is made", lambda: list((server.state / "golden").glob("*/meta.json")), 240)
    sandbox = server.create(**SHAPE)
    assert sandbox.get()["isolation"]["started_from"] == "golden snapshot"
    sandbox.run("echo kept > /workspace/f; (sleep 1000 >/dev/null 2>&1 &)")
    server.api("POST", sandbox.path + "/pause")
    server.kill(signal.SIGKILL)
    server.start()
    assert sandbox.get()["status"] == "paused"
    server.api("POST", sandbox.path + "/resume")
    assert sandbox.run("cat /workspace/f; pgrep -c sleep") == "kept\n1"
    snap = server.api("POST", sandbox.path + "/snapshots", {"memory": True})
    reply = server.api("POST", sandbox.path + "/fork", {"count": 2})
    assert reply["failed"] == 0, reply
    copies = [product.Sandbox(server, s) for s in reply["sandboxes"]]
    assert {c.run("cat /workspace/f; pgrep -c sleep") for c in copies} == {"kept\n1"}
    assert len({s.run("cat /etc/machine-id") for s in [sandbox, *copies]}) == 3
    sandbox.run("echo new > /workspace/f")
    server.api("POST", f"/v1/snapshots/{snap['id']}/restore", {"target_sandbox_id": sandbox.id})
    assert sandbox.run("cat /workspace/f") == "kept"
    for s in [sandbox, *copies]:
        s.destroy()


def test_nothing_of_the_user_is_left_after_the_server(server):
    sandbox = server.create(**SHAPE)
    sandbox.destroy()
    server.stop()
    product.wait_for("all processes of the user are gone", lambda: not rootless.processes(), 120)
    server.start()
