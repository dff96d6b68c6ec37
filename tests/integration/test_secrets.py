"""Secrets on the server: what goes in never comes out, on any way, and lies sealed."""

import os
import sqlite3
import stat

import product
import pytest

VALUE = "s3cret-Value-0123456789"


def test_a_secret_is_listed_without_its_value_and_lies_sealed(server):
    made = server.api("POST", "/v1/secrets", {"name": "GITHUB_TOKEN", "value": VALUE})
    assert made["name"] == "GITHUB_TOKEN" and "api.github.com" in made["hosts"] and made["last_used"] is None
    assert "value" not in made
    listed = server.call("GET", "/v1/secrets").text
    assert "GITHUB_TOKEN" in listed and VALUE not in listed
    key = server.state / "secrets.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and key.stat().st_size == 32
    for path in server.state.rglob("*"):
        if path.is_file():
            assert VALUE.encode() not in path.read_bytes(), path


def test_values_survive_a_restart_and_a_box_opens_only_where_it_was_sealed():
    with product.Server() as s:
        s.api("PUT", "/v1/secrets/A", {"value": VALUE, "hosts": ["a.example"]})
        s.api("PUT", "/v1/secrets/B", {"value": VALUE, "hosts": ["b.example"]})
        s.stop()
        with sqlite3.connect(s.state / "server.db") as db:
            tables = [t for (t,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
            rows = [(t, r) for t in tables for r in db.execute(f"SELECT * FROM {t}") if "sealed" in repr(r)]
            boxes = [r[1] for r in rows]
            assert len(boxes) == 2 and VALUE not in repr(boxes)
        s.start()
        assert [x["name"] for x in s.api("GET", "/v1/secrets")] == ["A", "B"]


def test_a_key_that_others_can_read_is_refused():
    with product.Server() as s:
        s.stop()
        os.chmod(s.state / "secrets.key", 0o644)
        with pytest.raises(AssertionError, match="secrets.key must be"):
            s.start()
        os.chmod(s.state / "secrets.key", 0o600)
        s.start()


@pytest.mark.parametrize("body, word", [
    ({"name": "A", "value": "short"}, "8 to 8192"),
    ({"name": "A", "value": VALUE + "\r\nX: y"}, "control"),
    ({"name": "1A", "value": VALUE}, "name"),
    ({"name": "A-B", "value": VALUE}, "name"),
    ({"name": "A", "value": VALUE, "hosts": ["*"]}, "host"),
    ({"name": "A", "value": VALUE, "hosts": ["*.com"]}, "host"),
    ({"name": "A", "value": VALUE, "hosts": "a.example"}, "list"),
    ({"name": "A", "value": 12345678901}, "value"),
    ({"value": VALUE}, "name"),
])
def test_bad_secrets_are_refused_without_quoting_them(server, body, word):
    response = server.call("POST", "/v1/secrets", json=body)
    assert response.status_code == 400 and word in response.text, response.text
    assert VALUE not in response.text
    assert VALUE not in server.log()


def test_a_sandbox_may_name_only_secrets_that_exist_and_have_a_host(server):
    server.api("PUT", "/v1/secrets/HOMELESS", {"value": VALUE})
    for names, word in ((["NONE_SUCH"], "NONE_SUCH"), (["HOMELESS"], "--host"), ("HOMELESS", "list"), ([1], "secret")):
        with pytest.raises(product.Refused) as refused:
            server.create(secrets=names)
        assert refused.value.status == 400 and word in str(refused.value)


def test_the_command_line_takes_a_value_from_stdin_or_the_environment_only(server):
    out = server.cli("secrets", "set", "API_KEY", "--host", "api.example.com", "--host", "*.eu.example.com", input=VALUE + "\n").stdout
    assert "api.example.com, *.eu.example.com" in out and VALUE not in out
    server.env["MY_VALUE"] = VALUE
    server.cli("secrets", "set", "OPENAI_API_KEY", "--from-env", "MY_VALUE")
    listed = server.cli("secrets", "list").stdout
    assert "API_KEY" in listed and "api.openai.com" in listed and VALUE not in listed
    done = server.cli("secrets", "set", "API_KEY", VALUE, check=False)
    assert done.returncode == 2 and VALUE not in done.stderr + done.stdout
    server.cli("secrets", "delete", "API_KEY")
    assert server.cli("secrets", "delete", "API_KEY", check=False).returncode == 1
    assert "API_KEY " not in server.cli("secrets", "list").stdout.replace("OPENAI_API_KEY", "")


def test_secrets_are_their_accounts_alone():
    with product.Server("accounts:\n  signup: open\n") as s:
        s.api("PUT", "/v1/secrets/MINE", {"value": VALUE, "hosts": ["a.example"]})
        other = s.api("POST", "/v1/auth/signup", {"email": "a@b.example", "password": "long enough 4 all", "name": "a"})
        token = other.get("token") or other["session"]["token"]
        head = {"Authorization": f"Bearer {token}"}
        assert s.call("GET", "/v1/secrets", headers=head).json() == []
        assert s.call("DELETE", "/v1/secrets/MINE", headers=head).status_code == 404
        assert s.call("POST", "/v1/sandboxes", headers=head, json={"template": "minimal", "secrets": ["MINE"]}).status_code == 400
