"""caged login, logout, whoami and keys, by the real command against the real server, each person with a home of their own."""

import json
import os
import pathlib
import re
import stat
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import product  # noqa: E402


@pytest.fixture(scope="module")
def server():
    with product.Server(config="accounts:\n  signup: open\n") as s:
        yield s


class Person:
    """A user of another machine: a home, no state directory, the real command."""

    def __init__(self, server):
        self.server = server
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="home-", dir=server.dir))
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "NO_COLOR": "1",
                    "CAGED_STATE_DIR": str(self.home / "none")}

    @property
    def file(self):
        return self.home / ".config" / "caged" / "config.json"

    def run(self, *args, text="", code=0):
        done = subprocess.run([str(product.CAGED), *args], env=self.env, input=text, capture_output=True, text=True, timeout=120)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    def begin(self, *args):
        """A login that waits: the process and its code."""
        process = subprocess.Popen([str(product.CAGED), "login", "--url", self.server.url, *args], env=self.env,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        said = ""
        while "Waiting" not in said:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            said += line
        return process, re.search(r"Code: +(\S+)", said).group(1), said


@pytest.fixture
def person(server):
    return Person(server)


def signup(server, email):
    import httpx

    answer = httpx.post(server.url + "/v1/auth/signup", json={"email": email, "password": "correct horse"}, timeout=60)
    assert answer.status_code == 201, answer.text
    return answer.json()["token"]


# --- by code ---

def test_a_login_by_code_is_approved_by_the_owner_on_the_command_line(server, person):
    process, code, said = person.begin()
    assert f"{server.url}/device?code={code}" in said
    let_in = server.cli("login", "--approve", code.lower())
    assert "caged-cli/" in let_in.stdout and "127.0.0.1" in let_in.stdout
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "owner@localhost" in out
    kept = json.loads(person.file.read_text())
    assert kept["api_url"] == server.url and kept["api_key"].startswith("caged_sk_")
    assert kept["api_key"] not in said + out + err + let_in.stdout, "a key is never printed by a login"
    assert json.loads(person.run("list", "--json").stdout) == []


def test_the_key_is_for_its_user_alone(server, person):
    process, code, _ = person.begin()
    server.cli("login", "--approve", code)
    process.communicate(timeout=60)
    assert stat.S_IMODE(person.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(person.file.parent.stat().st_mode) == 0o700


def test_a_login_that_is_denied_ends_with_that(server, person):
    process, code, _ = person.begin()
    server.cli("login", "--deny", code)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "refused" in err and not person.file.exists()


def test_a_code_that_nobody_waits_with_is_said_to_be_none(server):
    done = server.cli("login", "--approve", "BCDF-GHJK", check=False)
    assert done.returncode == 1 and "BCDF-GHJK" in done.stderr


# --- by password and key ---

def test_a_login_by_password_leaves_a_key_and_no_session(server, person):
    signup(server, "pass@example.org")
    done = person.run("login", "--url", server.url, "--email", "pass@example.org", text="correct horse\n")
    assert "pass@example.org" in done.stdout
    key = json.loads(person.file.read_text())["api_key"]
    assert key.startswith("caged_sk_") and "correct horse" not in person.file.read_text()
    import httpx

    sessions = httpx.get(server.url + "/v1/account/sessions", headers={"Authorization": f"Bearer {key}"}).json()
    assert len(sessions) == 1, "the one of the signup: that of the login is over"


def test_a_wrong_password_and_a_wrong_key_leave_nothing(server, person):
    signup(server, "wrong@example.org")
    done = person.run("login", "--url", server.url, "--email", "wrong@example.org", text="incorrect\n", code=1)
    assert "password is wrong" in done.stderr and not person.file.exists()
    done = person.run("login", "--url", server.url, "--key", text="caged_sk_" + "a" * 32, code=1)
    assert "does not take this key" in done.stderr and not person.file.exists()
    done = person.run("login", "--url", server.url, "--key", text="nonsense", code=1)
    assert "caged_" in done.stderr and not person.file.exists()


def test_other_settings_of_the_file_stay(server, person):
    person.file.parent.mkdir(parents=True)
    person.file.write_text('{"default_template":"node-22","api_url":"http://192.0.2.1:1"}')
    person.run("login", "--url", server.url, "--key", text=server.key)
    assert json.loads(person.file.read_text()) == {"api_url": server.url, "api_key": server.key, "default_template": "node-22"}


@pytest.mark.parametrize("args, word", [
    (["login", "caged_sk_x"], "standard input"),
    (["login", "--email", "a@b.c", "--key"], "one way"),
    (["login", "--url", "ftp://example.org"], "ftp://example.org"),
    (["keys", "create"], "name"),
    (["keys", "create", "x", "--expires", "soon"], "soon"),
    (["keys", "frob"], "frob"),
])
def test_wrong_words_are_named(person, args, word):
    done = subprocess.run([str(product.CAGED), *args], env=person.env, input="", capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2) and word in done.stderr


# --- out again ---

def test_a_logout_ends_the_key_on_the_server_too(server, person):
    process, code, _ = person.begin()
    server.cli("login", "--approve", code)
    process.communicate(timeout=60)
    key = json.loads(person.file.read_text())["api_key"]
    import httpx

    use = lambda: httpx.get(server.url + "/v1/account", headers={"Authorization": f"Bearer {key}"}).status_code  # noqa: E731
    assert use() == 200
    assert "ended" in person.run("logout").stdout
    assert use() == 401 and "api_key" not in person.file.read_text()
    assert "Nobody" in person.run("logout").stdout


def test_a_logout_leaves_keys_alone_that_no_login_made(server, person):
    person.run("login", "--url", server.url, "--key", text=server.key)
    done = person.run("logout")
    assert "forgotten" in done.stdout and "API key" in done.stderr
    assert server.call("GET", "/v1/account").status_code == 200


# --- who, and keys ---

def test_whoami_names_account_server_and_rights(server, person):
    key = server.api("POST", "/v1/account/keys", {"name": "r", "scope": "read"})["key"]
    person.run("login", "--url", server.url, "--key", text=key)
    said = person.run("whoami").stdout
    assert server.url in said and "owner@localhost" in said and "read_only" in said
    assert json.loads(person.run("whoami", "--json").stdout)["tier"] == "owner"


def test_keys_are_made_listed_and_deleted(server):
    made = server.cli("keys", "create", "ci", "--scope", "sandbox", "--expires", "90d")
    key = made.stdout.strip()
    assert re.fullmatch(r"caged_sk_[a-z2-7]{32}", key)
    listed = {k["name"]: k for k in json.loads(server.cli("keys", "list", "--json").stdout)}
    assert listed["ci"]["scope"] == "sandbox" and listed["ci"]["expires_at"] and key not in json.dumps(listed)
    table = server.cli("keys").stdout
    assert "PREFIX" in table and listed["ci"]["id"] in table
    server.cli("keys", "delete", listed["ci"]["id"])
    assert listed["ci"]["id"] not in server.cli("keys", "list").stdout
    assert server.cli("keys", "delete", listed["ci"]["id"], check=False).returncode == 1
