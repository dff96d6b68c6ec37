"""The end of a server: `caged server stop` waits for the process's end, and nothing keeps a server for good."""

import fcntl
import os
import subprocess
import sys

import pytest

import product

# Whatever starts it may have SIGTERM blocked, as threads of some programs have.
BLOCKING = [sys.executable, "-c", "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); os.execv(sys.argv[1], sys.argv[1:])"]


@pytest.fixture
def server():
    with product.Server(wrap=BLOCKING) as s:
        yield s


def stop(server):
    return subprocess.Popen([product.CAGED, "server", "stop"], env=server.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def hold_the_seal(server):
    """The lock that the server takes at its end to seal its audit log."""
    path = server.state / "seals" / "cage-auditlog.seal.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    owner = path.parent.stat()
    os.fchown(fd, owner.st_uid, owner.st_gid)
    product.wait_for("the lock is ours", lambda: not fcntl.flock(fd, fcntl.LOCK_EX))
    return fd


def test_stop_waits_for_the_end_of_a_server_that_something_holds(server):
    server.api("POST", "/v1/account/keys", {"name": "noted"})
    held = hold_the_seal(server)
    stops = [stop(server)]
    product.wait_for("it has the signal", lambda: "server.stopping" in server.log())
    stops.append(stop(server))
    for s in reversed(stops):
        out, err = s.communicate(timeout=120)
        assert not product.alive(server.pid), out + err
        assert s.returncode == 0, out + err
    assert "server.cut_off" in server.log()
    os.close(held)
    server.start()
    noted = server.api("GET", "/v1/audit?limit=1")["entries"][0]
    assert (noted["action"], noted["status"]) == ("POST /v1/account/keys", 201)


def test_stop_is_quick_to_say_that_there_is_no_server(server):
    assert "Server stopped" in server.cli("server", "stop").stdout
    assert not product.alive(server.pid)
    assert "server.stopped" in server.log() and "server.cut_off" not in server.log()
    assert "No server runs" in server.cli("server", "stop").stdout
    server.start()
