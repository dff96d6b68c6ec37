"""The command line by itself: what it says, what it exits with, whom it gives a key to. No guest runs here."""

import contextlib
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import product  # noqa: E402


@pytest.fixture(scope="module")
def server():
    with product.Server() as s:
        yield s


@contextlib.contextmanager
def peer(answer):
    """Another machine's server: answer(handler) -> (status, body, headers). Yields its URL and the requests it got."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append((self.command, self.path, dict(self.headers), body))
            status, text, headers = answer(self)
            data = text.encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = respond

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}", seen
    finally:
        httpd.shutdown()
        httpd.server_close()


def problem(status, detail, **headers):
    body = json.dumps({"type": "about:blank", "title": "x", "status": status, "detail": detail, "error": detail})
    return status, body, {"Content-Type": "application/problem+json", **headers}


def run(server, *args, env=None, **kw):
    return subprocess.run([str(product.CAGED), *args], env={**server.env, **(env or {})}, capture_output=True,
                          text=True, stdin=subprocess.DEVNULL, timeout=120, **kw)


# --- help and usage ---

def test_without_arguments_it_says_where_to_begin(server):
    done = run(server)
    assert done.returncode == 0
    for word in ("caged demo", "caged up", "caged doctor", "destroy"):
        assert word in done.stdout


def test_every_verb_of_the_overview_has_help_with_an_example(server):
    verbs = [line.split()[0] for line in run(server).stdout.splitlines() if line.startswith("  ") and line[2] != " "]
    assert len(verbs) > 15
    for verb in verbs:
        done = run(server, verb, "--help")
        assert done.returncode == 0 and f"caged {verb}" in done.stdout and "examples:" in done.stdout, verb


def test_a_wrong_verb_is_named_with_the_nearest_one(server):
    done = run(server, "destory", "x")
    assert done.returncode == 2
    assert '"destory"' in done.stderr and "destroy?" in done.stderr


def test_a_wrong_flag_is_named(server):
    done = run(server, "list", "--al")
    assert done.returncode == 2
    assert "--al" in done.stderr


@pytest.mark.parametrize("shell, check", [("bash", ["bash", "-n"]), ("zsh", None), ("fish", None)])
def test_completion_knows_every_verb(server, shell, check):
    done = run(server, "completion", shell)
    assert done.returncode == 0
    assert "destroy" in done.stdout and "exec" in done.stdout
    if check:
        assert subprocess.run(check, input=done.stdout, text=True, capture_output=True).returncode == 0


# --- output ---

def test_an_empty_list_is_an_empty_json_array_and_says_so_in_words(server):
    assert json.loads(run(server, "list", "--json").stdout) == []
    assert run(server, "list", "--format", "yaml").stdout.strip() == "[]"
    assert "caged up" in run(server, "list").stdout + run(server, "list").stderr


def test_an_unknown_format_is_refused_with_the_allowed_ones(server):
    done = run(server, "list", "--format", "xml")
    assert done.returncode == 2 and "xml" in done.stderr and "yaml" in done.stderr


def test_a_sandbox_that_is_not_there_is_an_error_that_names_it(server):
    for verb in (["status"], ["logs"], ["events"], ["destroy"], ["exec"]):
        done = run(server, *verb, "cage-aaaaaaaaaa", *(["true"] if verb == ["exec"] else []))
        assert done.returncode == 1, verb
        assert "cage-aaaaaaaaaa" in done.stderr, verb


def test_the_words_of_a_server_reach_the_terminal_escaped(server):
    evil = "no \x1b]0;owned\x07\x1b[2J\r\nerror: forged \u202e"
    with peer(lambda h: problem(404, evil)) as (url, _):
        done = run(server, "status", "cage-aaaaaaaaaa", env={"CAGED_API_URL": url, "CAGED_API_KEY": "k"})
    assert done.returncode == 1
    assert "\x1b" not in done.stderr and "\x07" not in done.stderr and "\r" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "owned" in done.stderr


# --- the key ---

def test_the_owners_key_goes_to_no_other_server(server):
    with peer(lambda h: (200, "[]", {})) as (url, seen):
        done = run(server, "list", env={"CAGED_API_URL": url})
    assert done.returncode == 1
    assert url in done.stderr and "CAGED_API_KEY" in done.stderr
    assert seen == []


def test_the_owners_key_goes_to_the_own_server_by_any_of_its_names(server):
    port = server.url.rsplit(":", 1)[1]
    for url in (server.url, server.url + "/", f"http://localhost:{port}"):
        assert run(server, "list", "--json", env={"CAGED_API_URL": url}).returncode == 0, url


def test_a_key_of_the_environment_goes_where_the_environment_says(server):
    with peer(lambda h: (200, "[]", {})) as (url, seen):
        done = run(server, "list", "--json", env={"CAGED_API_URL": url, "CAGED_API_KEY": "caged_sk_other"})
    assert done.returncode == 0
    assert [r[2]["Authorization"] for r in seen] == ["Bearer caged_sk_other"]
    assert server.key not in str(seen)


def test_a_wrong_key_is_an_error_that_says_so(server):
    done = run(server, "list", env={"CAGED_API_URL": server.url, "CAGED_API_KEY": "caged_sk_" + "x" * 32})
    assert done.returncode == 1 and "key" in done.stderr


# --- rate limits ---

def test_a_request_that_came_too_often_is_made_again_when_the_server_says(server):
    answers = [problem(429, "too many requests", **{"Retry-After": "1"}), (200, "[]", {})]
    with peer(lambda h: answers.pop(0)) as (url, seen):
        done = run(server, "list", "--json", env={"CAGED_API_URL": url, "CAGED_API_KEY": "k"})
    assert done.returncode == 0 and json.loads(done.stdout) == []
    assert len(seen) == 2


def test_a_wait_of_many_minutes_is_told_instead_of_waited_for(server):
    with peer(lambda h: problem(429, "too many requests", **{"Retry-After": "900"})) as (url, seen):
        done = run(server, "list", env={"CAGED_API_URL": url, "CAGED_API_KEY": "k"})
    # bounded: at most one more try within the limit
    assert done.returncode == 1 and "too many requests" in done.stderr
    assert len(seen) <= 2


# --- uploads ---

@pytest.fixture
def big_folder(tmp_path):
    folder = tmp_path / "big"
    folder.mkdir()
    for i in range(8):
        (folder / f"{i}.bin").write_bytes(os.urandom(4 << 20))
    return folder


def test_an_upload_that_the_server_refuses_ends_with_its_words(server, big_folder):
    done = run(server, "cp", str(big_folder), "cage-aaaaaaaaaa:/workspace/x")
    assert done.returncode == 1, f"ended by signal {-done.returncode}"
    assert "cage-aaaaaaaaaa" in done.stderr


def test_a_file_that_cannot_be_read_is_named_and_nothing_is_sent_as_whole(server, tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "a.txt").write_text("fine")
    (folder / "secret.txt").write_text("no")
    (folder / "secret.txt").chmod(0)
    for parent in (tmp_path, *tmp_path.parents):
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
    env = {**server.env, "HOME": str(tmp_path), "CAGED_API_URL": server.url, "CAGED_API_KEY": server.key}
    done = subprocess.run([*prefix, str(product.CAGED), "cp", str(folder), "cage-aaaaaaaaaa:/workspace/x"], env=env,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "secret.txt" in done.stderr or "cage-aaaaaaaaaa" in done.stderr


# --- the reader of our output goes away ---

def test_following_goes_on_when_the_server_is_started_anew(server):
    errors = server.dir / "follow.err"
    with errors.open("w") as err:
        p = subprocess.Popen([str(product.CAGED), "events", "-f", "--json"], env=server.env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=err)
    try:
        for sig in (signal.SIGTERM, signal.SIGKILL):
            product.wait_for("the stream is open", lambda: server.info["listen"] in open_peers(p.pid))
            server.kill(sig)
            server.start()
        product.wait_for("the stream is open again", lambda: server.info["listen"] in open_peers(p.pid))
        assert p.poll() is None, errors.read_text()
    finally:
        p.kill()
        p.wait()


def open_peers(pid):
    """The addresses that a process is connected to."""
    inodes = set()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(fd).removeprefix("socket:[").removesuffix("]"))
    peers = set()
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        field = line.split()
        if field[9] in inodes and field[3] == "01":
            address, port = field[2].split(":")
            peers.add(".".join(str(b) for b in reversed(bytes.fromhex(address))) + f":{int(port, 16)}")
    return peers
