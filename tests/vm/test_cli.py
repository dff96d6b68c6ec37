"""The command line with a real sandbox: full disks, a server behind TLS, streams that end when they should."""

import contextlib
import hashlib
import os
import pathlib
import socket
import ssl
import subprocess
import threading

import pytest

import product


@pytest.fixture(scope="module")
def server():
    with product.Server() as s:
        yield s


@pytest.fixture(scope="module")
def sandbox(server):
    return server.create()


# --- cp ---

def test_a_copy_onto_a_full_disk_fails_and_says_so(server, sandbox):
    sandbox.run("head -c 3000000 /dev/zero > /workspace/big")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(product.CAGED), "cp", f"{sandbox.id}:/workspace/big", "-"], env=server.env,
                              stdout=full, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=120)
    assert done.returncode == 1
    assert "No space left" in done.stderr


def test_a_copy_onto_a_full_file_system_leaves_no_half_file(server, sandbox, tmp_path):
    if os.getuid() != 0:
        pytest.skip("a file system of its own takes root")
    sandbox.run("head -c 3000000 /dev/zero > /workspace/big")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=True)
    try:
        done = server.cli("cp", f"{sandbox.id}:/workspace/big", tmp_path / "out", check=False)
        assert done.returncode == 1 and "No space left" in done.stderr
        assert os.listdir(tmp_path) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_folders_go_in_and_out_whole(server, sandbox, tmp_path):
    folder = tmp_path / "in"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file with space").write_bytes(os.urandom(100_000))
    (folder / "empty").write_bytes(b"")
    (folder / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("deep/er")
    server.cli("cp", folder, f"{sandbox.id}:/workspace/there")
    assert sandbox.run("/workspace/there/run.sh") == "ran"
    server.cli("cp", f"{sandbox.id}:/workspace/there", tmp_path / "out")
    for name in ("deep/er/file with space", "empty", "run.sh"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes(), name
    assert os.readlink(tmp_path / "out" / "link") == "deep/er"
    assert (tmp_path / "out" / "run.sh").stat().st_mode & 0o111


def test_an_archive_of_a_guest_cannot_write_beside_its_folder(server, sandbox, tmp_path):
    sandbox.run("mkdir -p /workspace/evil && ln -sfn /tmp /workspace/evil/out && ln -sfn ../../.. /workspace/evil/up")
    server.cli("cp", f"{sandbox.id}:/workspace/evil", tmp_path / "evil")
    assert sorted(os.listdir(tmp_path / "evil")) == ["out", "up"]
    server.cli("cp", f"{sandbox.id}:/workspace/evil", tmp_path / "evil")  # again, over the links
    assert all(p.is_symlink() for p in (tmp_path / "evil").iterdir())


def test_standard_input_and_output_are_files_too(server, sandbox):
    data = os.urandom(1 << 20)
    subprocess.run([str(product.CAGED), "cp", "-", f"{sandbox.id}:/workspace/piped"], env=server.env, input=data,
                   check=True, timeout=120)
    done = subprocess.run([str(product.CAGED), "cp", f"{sandbox.id}:/workspace/piped", "-"], env=server.env,
                          capture_output=True, check=True, timeout=120)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


# --- TLS ---

@contextlib.contextmanager
def behind_tls(server, folder):
    """The server behind a terminator of TLS, as an operator would put one: its URL and the authority's file."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    host, port = server.info["listen"].split(":")
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        for s in (a, b):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def serve():
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                outside = context.wrap_socket(raw, server_side=True)
                inside = socket.create_connection((host, int(port)))
                for pair in ((outside, inside), (inside, outside)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"https://localhost:{listener.getsockname()[1]}", cert
    finally:
        listener.close()


def test_commands_and_their_streams_go_over_tls(server, sandbox, tmp_path):
    with behind_tls(server, tmp_path) as (url, cert):
        env = {**server.env, "CAGED_API_URL": url, "CAGED_API_KEY": server.key, "SSL_CERT_FILE": str(cert)}
        data = os.urandom(300_000)
        done = subprocess.run([str(product.CAGED), "exec", sandbox.id, "--", "sh", "-c", "cat; echo bad >&2; exit 7"],
                              env=env, input=data, capture_output=True, timeout=120)
        assert (done.returncode, done.stdout, done.stderr) == (7, data, b"bad\n")


def test_a_certificate_that_nobody_vouches_for_is_refused(server, sandbox, tmp_path):
    with behind_tls(server, tmp_path) as (url, _):
        env = {**server.env, "CAGED_API_URL": url, "CAGED_API_KEY": server.key}
        done = subprocess.run([str(product.CAGED), "exec", sandbox.id, "true"], env=env, capture_output=True,
                              text=True, timeout=120, stdin=subprocess.DEVNULL)
        assert done.returncode == 1 and "certificate" in done.stderr.lower()


# --- follow ---

def test_following_a_sandbox_ends_with_it_and_not_with_the_server(server, tmp_path):
    sandbox = server.create()
    out = tmp_path / "events"
    with out.open("w") as f:
        p = subprocess.Popen([str(product.CAGED), "events", "-f", "--json", sandbox.id], env=server.env, stdout=f,
                             stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        sandbox.run("echo before")
        product.wait_for("the first command is told", lambda: "echo before" in out.read_text())
        server.kill()
        server.start()
        sandbox.run("echo after")
        product.wait_for("the second is told, too", lambda: "echo after" in out.read_text())
        sandbox.destroy()
        assert p.wait(timeout=120) == 0, p.stderr.read()
    finally:
        p.kill()
        p.wait()
    seqs = [int(line.split('"seq":', 1)[1].split(",", 1)[0]) for line in out.read_text().splitlines()]
    assert seqs == sorted(set(seqs)), "no event twice, none out of order"
