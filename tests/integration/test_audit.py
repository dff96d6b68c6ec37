"""The audit log: what changes something by the API is noted, durably, before it is acknowledged; the log is verified like
a record, and each account reads its own part."""

import json
import subprocess

import httpx
import pytest

import product


@pytest.fixture(scope="module")
def server():
    with product.Server(config="accounts: {signup: open}\n") as s:
        yield s


def entries(server, token=None, query=""):
    answer = httpx.get(server.url + "/v1/audit" + query, headers={"Authorization": f"Bearer {token or server.key}"})
    assert answer.status_code == 200, answer.text
    return answer.json()["entries"]


def verify(server):
    return subprocess.run([product.CAGED, "verify", server.state / "audit", "--state-dir", server.state],
                          env=server.env, capture_output=True, text=True, timeout=60)


def test_what_changes_something_is_noted_before_it_is_acknowledged(server):
    answer = server.call("POST", "/v1/account/keys", json={"name": "k"})
    made = answer.json()["info"]["id"]
    server.kill()  # at once: what was acknowledged is there
    server.start()
    newest = entries(server)[0]
    assert (newest["action"], newest["target"], newest["status"]) == ("POST /v1/account/keys", "/v1/account/keys", 201)
    assert newest["request_id"] == answer.headers["x-request-id"] and newest["ip"] == "127.0.0.1"
    assert newest["key_id"] == server.api("GET", "/v1/account")["key_id"]
    server.api("DELETE", f"/v1/account/keys/{made}")
    with pytest.raises(product.Refused):
        server.api("DELETE", f"/v1/account/keys/{made}")
    server.api("PUT", "/v1/secrets/NAME", {"value": "not-in-any-log", "hosts": ["a.example.com"]})
    server.api("GET", "/v1/account/keys")
    told = [(e["action"], e["target"], e["status"]) for e in entries(server)[:3]]
    assert told == [("PUT /v1/secrets/{name}", "/v1/secrets/NAME", 200),
                    ("DELETE /v1/account/keys/{key}", f"/v1/account/keys/{made}", 404),
                    ("DELETE /v1/account/keys/{key}", f"/v1/account/keys/{made}", 204)]
    numbers = [e["seq"] for e in entries(server)]
    assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) == len(numbers)
    assert [e["seq"] for e in entries(server, query=f"?limit=1&before={numbers[0]}")] == [numbers[1]]
    on_disk = b"".join(p.read_bytes() for p in (server.state / "audit").glob("*.jsonl"))
    assert b"not-in-any-log" not in on_disk and server.key.encode() not in on_disk


def test_accounts_read_their_own_acts_only(server):
    answer = httpx.post(server.url + "/v1/auth/signup", json={"email": "a@example.org", "password": "correct horse"}, timeout=60)
    token = answer.json()["token"]
    assert [(e["action"], e["key_id"]) for e in entries(server, token)] == [("POST /v1/auth/signup", None)]
    httpx.post(server.url + "/v1/account/keys", json={"name": "mine", "scope": "read"}, headers={"Authorization": f"Bearer {token}"})
    assert [e["action"] for e in entries(server, token)] == ["POST /v1/account/keys", "POST /v1/auth/signup"]
    assert not [e for e in entries(server) if "signup" in e["action"]]
    reader = server.api("POST", "/v1/account/keys", {"name": "r", "scope": "sandbox"})["key"]
    assert httpx.get(server.url + "/v1/audit", headers={"Authorization": f"Bearer {reader}"}).status_code == 403


def test_the_log_is_verified_like_a_record(server):
    server.api("POST", "/v1/account/keys", {"name": "one more"})
    server.stop()
    fine = verify(server)
    assert fine.returncode == 0, fine.stdout + fine.stderr
    segment = sorted((server.state / "audit").glob("*.jsonl"))[-1]
    lines = segment.read_bytes().split(b"\n")
    at = next(i for i, line in enumerate(lines) if b"/v1/secrets/NAME" in line)
    assert json.loads(lines[at])["data"]["status"] == 200
    kept = segment.read_bytes()
    segment.write_bytes(kept.replace(b"/v1/secrets/NAME", b"/v1/secrets/NONE"))
    changed = verify(server)
    assert changed.returncode != 0, changed.stdout
    segment.write_bytes(b"\n".join(lines[:at] + lines[at + 1:]))
    assert verify(server).returncode != 0
    segment.write_bytes(kept)
    assert verify(server).returncode == 0
    server.start()


def test_the_owner_has_the_server_in_numbers(server):
    answer = server.call("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    numbers = {}
    for line in answer.text.splitlines():
        if line.startswith("#"):
            assert line.split()[1] in ("HELP", "TYPE")
        else:
            name, value = line.rsplit(" ", 1)
            numbers[name] = float(value)
    assert numbers['caged_sandboxes{status="running"}'] == 0 and numbers["caged_http_connections"] >= 1
    assert numbers["caged_resident_memory_bytes"] > 1 << 20
    again = server.call("GET", "/metrics").text
    assert f"caged_http_requests_total {numbers['caged_http_requests_total'] + 1:.9g}\n" in again
    answer = httpx.post(server.url + "/v1/auth/signup", json={"email": "m@example.org", "password": "correct horse"}, timeout=60)
    member = httpx.get(server.url + "/metrics", headers={"Authorization": f"Bearer {answer.json()['token']}"})
    assert member.status_code == 403 and httpx.get(server.url + "/metrics").status_code == 401
