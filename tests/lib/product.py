"""Starts the staged product for tests: a real server with a state directory of its own, the real CLI.

Images are shared (CAGED_IMAGE_DIR, else the default of this user), everything else is thrown away.
Nothing here waits for a fixed time: conditions are polled until a generous deadline.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import httpx

ROOT = pathlib.Path(__file__).resolve().parents[2]
STAGE = pathlib.Path(os.environ.get("CAGED_STAGE", ROOT / "stage"))
CAGED = STAGE / "bin" / "caged"
LIBEXEC = STAGE / "libexec" / "caged"


def default_images():
    if "CAGED_IMAGE_DIR" in os.environ:
        return os.environ["CAGED_IMAGE_DIR"]
    if os.getuid() == 0:
        return "/var/lib/caged/images"
    state = os.environ.get("XDG_STATE_HOME", os.path.expanduser("~/.local/state"))
    return os.path.join(state, "caged", "images")


def wait_for(what, condition, timeout=60.0, every=0.05):
    """Polls until condition() is true and returns its value; fails naming what was awaited.

    The timeout is what a quiet machine never needs; a busy one gets a minute at least.
    """
    timeout = max(2 * timeout, 60)
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"still not so after {timeout:.0f} s: {what}")
        time.sleep(every)


class Refused(AssertionError):
    """An API call that answered with an error; .status, .problem."""

    def __init__(self, response):
        self.status = response.status_code
        try:
            self.problem = response.json()
        except ValueError:
            self.problem = {"detail": response.text}
        super().__init__(f"{response.request.method} {response.request.url}: {self.status} {self.problem}")


class Server:
    """One caged-server with its own state directory. Use as a context manager."""

    def __init__(self, config=None, env=None, wrap=()):
        """wrap: a command that runs server and CLI, as another user for instance."""
        self.wrap = [*map(str, wrap)]
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="caged-t-"))
        self.dir.chmod(0o755)
        self.state = self.dir / "state"
        self.config = config
        self.env = dict(os.environ)
        for name in ("CAGED_API_URL", "CAGED_API_KEY"):
            self.env.pop(name, None)
        self.env.update({"CAGED_STATE_DIR": str(self.state), "CAGED_IMAGE_DIR": default_images(), "NO_COLOR": "1", **(env or {})})

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        command = [*self.wrap, str(CAGED), "server", "start", "--state-dir", str(self.state), "--listen", "127.0.0.1:0"]
        if self.config is not None:
            path = self.dir / "server.yaml"
            path.write_text(self.config)
            command += ["--config", str(path)]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"server start: {done.stdout}{done.stderr}{self.log()}"
        self.info = json.loads((self.state / "server.json").read_text())
        self.pid = self.info["pid"]
        self.url = "http://" + self.info["listen"]
        self.key = (self.state / "owner.key").read_text().strip()
        self.http = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=1000)

    def log(self):
        path = self.state / "server.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def kill(self, sig=signal.SIGKILL):
        os.kill(self.pid, sig)
        wait_for("the server is gone", lambda: not alive(self.pid))

    def stop(self):
        self.cli("server", "stop", check=False)
        wait_for("the server is gone", lambda: not alive(self.pid))

    def close(self):
        with contextlib.suppress(Exception):
            for sandbox in self.api("GET", "/v1/sandboxes"):
                with contextlib.suppress(Exception):
                    self.api("DELETE", f"/v1/sandboxes/{sandbox['id']}")
        with contextlib.suppress(Exception):
            self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    # --- REST ---

    def call(self, method, path, **kw):
        return self.http.request(method, path, **kw)

    def api(self, method, path, body=None, **kw):
        """JSON in, JSON out; Refused on anything but 2xx."""
        if body is not None:
            kw["json"] = body
        response = self.call(method, path, **kw)
        if response.status_code // 100 != 2:
            raise Refused(response)
        return response.json() if response.content else None

    def create(self, **body):
        body.setdefault("template", "minimal")
        return Sandbox(self, self.api("POST", "/v1/sandboxes", body))

    # --- CLI ---

    def cli(self, *args, check=True, **kw):
        kw.setdefault("timeout", 400)
        if "input" not in kw and "stdin" not in kw:
            kw["stdin"] = subprocess.DEVNULL
        kw.setdefault("text", True)
        done = subprocess.run([*self.wrap, str(CAGED), *map(str, args)], env=self.env, capture_output=True, **kw)
        if check:
            assert done.returncode == 0, f"caged {args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    # --- live events ---

    @contextlib.contextmanager
    def events(self, **params):
        """A list that fills with events of records ({id, event, data}) while the block runs."""
        seen, stop = [], threading.Event()

        def read():
            with contextlib.suppress(httpx.HTTPError), httpx.stream(
                "GET", self.url + "/v1/events/stream", params=params,
                headers={"Authorization": f"Bearer {self.key}"}, timeout=httpx.Timeout(10, read=2),
            ) as response:
                seen_field = {}
                for line in response.iter_lines():
                    if stop.is_set():
                        return
                    line = line.rstrip("\r\n")
                    if not line and "data" in seen_field:
                        seen_field["data"] = json.loads(seen_field["data"])
                        if "id" in seen_field:  # a sandbox's state comes without
                            seen.append(seen_field)
                        seen_field = {}
                    elif line and not line.startswith(":"):
                        name, _, value = line.partition(":")
                        seen_field[name] = value.lstrip()

        def keep_reading():
            while not stop.is_set():
                read()

        thread = threading.Thread(target=keep_reading, daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            stop.set()


class Sandbox:
    def __init__(self, server, info):
        self.server = server
        self.info = info
        self.id = info["id"]
        self.path = f"/v1/sandboxes/{self.id}"

    def get(self):
        return self.server.api("GET", self.path)

    def exec(self, command, **options):
        return self.server.api("POST", self.path + "/exec", {"command": command, **options})

    def run(self, command, **options):
        """exec that must succeed; its output without the last line end."""
        done = self.exec(command, **options)
        assert done["exit_code"] == 0, done
        return done["output"].rstrip("\n")

    def destroy(self):
        self.server.api("DELETE", self.path)

    def record(self):
        """All lines of its record on disk, living or archived, parsed."""
        lines = []
        for place in ("sandboxes", "archive"):
            folder = self.server.state / place / self.id / "record"
            for segment in segments(folder):
                for line in map(json.loads, segment.split(b"\n")[:-1]):
                    if "seq" in line:  # not a segment's header
                        lines.append(line)
        return lines

    def events(self, kind):
        return [line for line in self.record() if line.get("type") == kind]


def segments(folder):
    """The bytes of a record's segments in their order, unpacked."""
    for path in sorted(folder.glob("*.jsonl*")) if folder.is_dir() else []:
        if path.suffix == ".jsonl":
            yield path.read_bytes()
        elif path.suffix == ".zst" and not path.with_suffix("").exists():
            yield subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True).stdout


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def processes_naming(text):
    """Pids and command lines of living processes whose command line, or open unix sockets' path, has text."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if text in line:
                found[int(entry.name)] = line
    return found
