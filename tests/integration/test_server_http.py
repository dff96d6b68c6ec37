"""The server's HTTP face without any guest: what it refuses, how it says so, keys, tickets, its start."""

import concurrent.futures
import json
import signal
import socket
import sqlite3
import stat
import subprocess

import httpx
import pytest

import product


def raw(server, data, more=b"", close=True):
    """Sends bytes as they are; everything that comes until the server closes (or answers, close=False)."""
    host, port = server.info["listen"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as s:
        s.sendall(data)
        if more:
            s.sendall(more)
        got = b""
        while True:
            part = s.recv(65536)
            if not part:
                return got
            got += part
            if not close and b"\r\n\r\n" in got:
                return got


def head(server, extra="", path="/health", method="GET", version="1.1", host=True):
    at = f"Host: {server.info['listen']}\r\n" if host else ""
    return f"{method} {path} HTTP/{version}\r\n{at}{extra}\r\n".encode()


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


def problem(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["type"].startswith("https://caged.dev/errors/")
    assert body["detail"] == body["error"] and body["title"]
    assert body["reason"]["code"] == code and body["reason"]["message"]
    assert response.headers["x-request-id"]
    return body


# --- shape of answers ---


def test_health_needs_no_key(server):
    answer = httpx.get(server.url + "/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


def test_every_problem_has_the_same_shape(server):
    problem(server.call("GET", "/v1/no/such/thing"), 404, "not_found")
    problem(server.call("GET", "/v1/sandboxes/cage-doesnotexist"), 404, "not_found")
    problem(server.call("POST", "/v1/sandboxes", content=b"{not json"), 400, "invalid")
    problem(httpx.get(server.url + "/v1/sandboxes"), 401, "unauthorized")
    problem(httpx.get(server.url + "/v1/sandboxes", headers={"Authorization": "Bearer caged_sk_" + "a" * 32}),
            401, "unauthorized")


def test_a_wrong_method_is_told_which_ones_there_are(server):
    answer = server.call("PUT", "/v1/sandboxes")
    problem(answer, 405, "method_not_allowed")
    assert sorted(answer.headers["allow"].split(", ")) == ["GET", "POST"]


def test_rate_limit_headers_stand_on_answers_and_problems(server):
    for path in ("/v1/sandboxes", "/v1/sandboxes/cage-doesnotexist"):
        headers = server.call("GET", path).headers
        assert int(headers["x-ratelimit-limit"]) > 0
        assert 0 <= int(headers["x-ratelimit-remaining"]) < int(headers["x-ratelimit-limit"])
        assert int(headers["x-ratelimit-reset"]) > 1_600_000_000


def test_head_answers_like_get_without_a_body_and_the_connection_goes_on(server):
    answer = raw(server, head(server, method="HEAD") + head(server, "Connection: close\r\n"))
    first, rest = answer.split(b"\r\n\r\n", 1)
    assert status_of(first) == 200 and b"Content-Length:" in first
    assert rest.startswith(b"HTTP/1.1 200") and b'"status":"ok"' in rest


def test_path_segments_are_decoded(server):
    answer = server.call("GET", "/v1/sandboxes/cage%2Ddoesnotexist")
    assert "cage-doesnotexist" in answer.json()["detail"]
    problem(server.call("GET", "/%761/account%2fkeys"), 404, "not_found")


def test_two_hundred_requests_in_a_pipeline_come_back_in_order(server):
    one = head(server, f"Authorization: Bearer {server.key}\r\n", "/v1/sandboxes/cage-n%d")
    data = b"".join(one.replace(b"%d", str(i).encode()) for i in range(200))
    got = raw(server, data + head(server, "Connection: close\r\n"))
    told = [int(part.split('"', 1)[0].split("cage-n")[1]) for part in got.decode().split('"detail":"there is no sandbox ')[1:]]
    assert told == list(range(200))


# --- what smugglers use ---

SMUGGLED = {
    "both lengths": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "two lengths": "Content-Length: 5\r\nContent-Length: 6\r\n",
    "same length twice": "Content-Length: 5\r\nContent-Length: 5\r\n",
    "negative length": "Content-Length: -1\r\n",
    "length with a sign": "Content-Length: +5\r\n",
    "unknown coding": "Transfer-Encoding: gzip\r\n",
    "chunked not last": "Transfer-Encoding: chunked, gzip\r\n",
    "space before the colon": "X-Thing : 1\r\n",
    "folded header": "X-Thing: 1\r\n  and more\r\n",
    "second host": "Host: evil.example\r\n",
    "nul": "X-Thing: a\0b\r\n",
    "bare cr": "X-Thing: a\rb\r\n",
    "no name": ": nothing\r\n",
}


@pytest.mark.parametrize("what", SMUGGLED)
def test_smuggling_forms_are_refused_and_close_the_connection(server, what):
    answer = raw(server, head(server, SMUGGLED[what], "/v1/sandboxes", "POST"), b"0\r\n\r\n" + head(server))
    assert status_of(answer) == 400
    assert answer.count(b"\r\nContent-Length: ") == 1


@pytest.mark.parametrize("data,status", [
    (b"GET /health HTTP/1.1\nHost: x\n\n", 400),
    (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\n\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\n\r\n", 400),
    (b"GET http://127.0.0.1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    (b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    (b"GET /health HTTP/2.0\r\nHost: 127.0.0.1\r\n\r\n", 400),
    (b"GET /health HTTP/0.9\r\nHost: 127.0.0.1\r\n\r\n", 400),
    (b"GET /%zz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    (b"GET /a%00b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    (b"GET /" + b"a/" * 40 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    (b"\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 17000, 431),
    (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"".join(b"X%d: 1\r\n" % i for i in range(80)) + b"\r\n", 400),
], ids=lambda v: repr(v)[:40])
def test_malformed_heads_are_refused(server, data, status):
    answer = raw(server, data)
    assert status_of(answer) in (status, 505 if status == 400 else status)
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]


def test_a_malformed_chunk_ends_the_connection(server):
    key = f"Authorization: Bearer {server.key}\r\nTransfer-Encoding: chunked\r\n"
    answer = raw(server, head(server, key, "/v1/sandboxes", "POST"), b"zz\r\nhello\r\n0\r\n\r\n" + head(server))
    assert answer.count(b"HTTP/1.1 200") == 0


def test_chunked_bodies_are_understood(server):
    answer = server.call("POST", "/v1/sandboxes", content=iter([b'{"temp', b'late": "no-such-', b'template"}']))
    assert "no-such-template" in problem(answer, 400, "invalid")["detail"]


def test_a_body_over_the_limit_is_refused_and_the_answer_arrives(server):
    answer = server.call("POST", "/v1/sandboxes", content=b'{"template": "' + b"a" * (8 << 20) + b'"}')
    assert answer.status_code == 413
    assert answer.json()["reason"]["code"] == "too_large"


def test_the_refusal_of_an_upload_is_not_lost_to_a_reset(server):
    answer = httpx.put(server.url + "/v1/sandboxes/cage-doesnotexist/files/raw?path=/x", content=b"x" * (50 << 20))
    problem(answer, 401, "unauthorized")


# --- browsers ---


def test_a_foreign_host_name_on_loopback_is_refused(server):
    port = server.info["listen"].rsplit(":", 1)[1]
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example"):
        problem(server.call("GET", "/v1/sandboxes", headers={"Host": host}), 421, "wrong_host")
    for host in ("localhost", f"localhost:{port}", "127.0.0.1", "[::1]:1"):
        assert server.call("GET", "/health", headers={"Host": host}).status_code == 200


def test_no_cors_header_is_ever_sent(server):
    answer = server.call("GET", "/v1/sandboxes", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert server.call("OPTIONS", "/v1/sandboxes").status_code == 405


# --- keys and tickets ---


def with_key(server, key, method, path, body=None):
    return httpx.request(method, server.url + path, headers={"Authorization": f"Bearer {key}"}, json=body)


def make_key(server, scope):
    made = server.api("POST", "/v1/account/keys", {"name": f"for {scope}", "scope": scope})
    assert made["key"].startswith("caged_sk_") and len(made["key"]) == 9 + 32
    assert made["info"]["prefix"] == made["key"][:11]
    return made


def test_a_read_only_key_reads_and_changes_nothing(server):
    for scope in ("read", "read_only"):
        key = make_key(server, scope)["key"]
        assert with_key(server, key, "GET", "/v1/sandboxes").status_code == 200
        refused = with_key(server, key, "POST", "/v1/sandboxes", {"template": "minimal"})
        assert problem(refused, 403, "policy_denied")["detail"] == "this key is read-only"
        problem(with_key(server, key, "POST", "/v1/account/keys", {"name": "x"}), 403, "policy_denied")


def test_a_sandbox_key_cannot_make_itself_a_better_one(server):
    key = make_key(server, "sandbox")["key"]
    assert with_key(server, key, "GET", "/v1/sandboxes").status_code == 200
    problem(with_key(server, key, "POST", "/v1/sandboxes", {"template": "nope"}), 400, "invalid")
    for method, path in (("GET", "/v1/account/keys"), ("POST", "/v1/account/keys"), ("DELETE", "/v1/account/keys/key-x")):
        problem(with_key(server, key, method, path, {"name": "x", "scope": "full"} if method == "POST" else None),
                403, "policy_denied")


def test_a_deleted_key_is_no_key(server):
    made = make_key(server, "full")
    assert made["info"]["id"] in [k["id"] for k in server.api("GET", "/v1/account/keys")]
    assert server.call("DELETE", f"/v1/account/keys/{made['info']['id']}").status_code == 204
    problem(with_key(server, made["key"], "GET", "/v1/account"), 401, "unauthorized")
    problem(server.call("DELETE", f"/v1/account/keys/{made['info']['id']}"), 404, "not_found")


def test_wrong_key_requests_name_the_field(server):
    for body, word in (({}, "name"), ({"name": 7}, "name"), ({"name": "x", "scope": "god"}, "scope"),
                       ({"name": "x" * 300}, "name")):
        assert word in problem(server.call("POST", "/v1/account/keys", json=body), 400, "invalid")["detail"]


def test_key_texts_stand_nowhere_in_the_database(server):
    key = make_key(server, "full")["key"]
    for path in server.state.glob("server.db*"):
        data = path.read_bytes()
        assert key.encode() not in data and server.key.encode() not in data
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_ticket_is_good_once_and_only_for_a_socket(server):
    ticket = server.api("POST", "/v1/auth/socket-ticket")
    assert ticket["expires_in"] == 60 and ticket["ticket"].startswith("caged_wst_")
    path = "/v1/sandboxes/cage-doesnotexist/terminal"
    problem(httpx.get(f"{server.url}/v1/sandboxes?token={ticket['ticket']}"), 401, "unauthorized")
    problem(httpx.get(f"{server.url}{path}?token={ticket['ticket']}"), 404, "not_found")
    problem(httpx.get(f"{server.url}{path}?token={ticket['ticket']}"), 401, "unauthorized")
    problem(httpx.get(f"{server.url}{path}?token={ticket['ticket']}",
                      headers={"Origin": "https://evil.example"}), 403, "policy_denied")


def test_the_account_is_the_owner(server):
    account = server.api("GET", "/v1/account")
    assert account["tier"] == "owner" and account["id"].startswith("acc-")
    assert set(account) >= {"id", "email", "name", "tier", "email_verified", "created_at"}


# --- create: what is wrong, by name ---


@pytest.mark.parametrize("body,words", [
    ({}, ["template"]),
    ({"template": 7}, ["template", "7"]),
    ({"template": "no-such"}, ["no-such", "minimal"]),
    ({"cpus": 9}, ["cpus", "0 to 8", "9"]),
    ({"cpus": "two"}, ["cpus", '"two"']),
    ({"cpus": 1.5}, ["cpus", "1.5"]),
    ({"cpus": True}, ["cpus", "boolean"]),
    ({"memory_mb": 64}, ["memory_mb", "128"]),
    ({"memory_mb": 8193}, ["memory_mb", "8192"]),
    ({"disk_gb": -1}, ["disk_gb", "-1"]),
    ({"disk_gb": 51}, ["disk_gb", "50"]),
    ({"env": ["a"]}, ["env"]),
    ({"env": {"A=B": "x"}}, ["env", "A=B"]),
    ({"env": {"A": 1}}, ["env.A"]),
    ({"env": {"": "x"}}, ["env"]),
    ({"network_mode": "some"}, ["mode", "full, allowlist or none"]),
    ({"network_mode": 1}, ["network_mode"]),
    ({"network_mode": "allowlist"}, ["allowlist"]),
    ({"network_mode": "none", "allowlist": ["a.example"]}, ["allowlist", "none"]),
    ({"allowlist": ["http://a.example"]}, ["http://a.example", "rule"]),
    ({"allowlist": "a.example"}, ["allowlist"]),
    ({"denylist": ["10.0.0.1/8"]}, ["10.0.0.1/8"]),
    ({"network": 1}, ["network"]),
    ({"network": {"mode": 1}}, ["network.mode"]),
    ({"network": {"allow": "a.example"}}, ["network.allow"]),
    ({"network": {"mode": "none", "hosts": []}}, ["network", "hosts"]),
    ({"network": {"mode": "allowlist"}}, ["allowlist"]),
    ({"network": "some"}, ["mode", "full, allowlist or none"]),
    ({"network": "none", "network_mode": "none"}, ["network", "network_mode"]),
    ({"network": {"mode": "none"}, "denylist": []}, ["network", "denylist"]),
    ({"network_policy": "none"}, ["network_policy", "did you mean network"]),
    ({"allowed_hosts": ["a.example"]}, ["allowed_hosts"]),
    ({"wish": 0}, ["wish"]),
    ({"repo": "not a url"}, ["repo"]),
    ({"repo": "--upload-pack=x://y"}, ["repo", "-"]),
    ({"repo": "https://h/x", "repo_branch": "-b"}, ["-b"]),
    ({"repo": "https://h/x", "repo_subdir": "../x"}, ["repo_subdir"]),
    ({"init_script": 1}, ["init_script"]),
    ({"timeout": -1}, ["timeout"]),
    ({"budget": "much"}, ["budget"]),
    ({"config": "x"}, ["config"]),
    ({"agents": ["nobody"]}, ["agents", "nobody", "/v1/agents"]),
    ({"agents": "claude-code"}, ["agents", "list"]),
    ({"agents": ["gemini"]}, ["gemini", "node", "minimal"]),
    ({"packages": ["-g"]}, ["packages", "-g"]),
    ({"packages": ["https://h/x.tgz"]}, ["packages", "https"]),
    ({"template": "minimal+claude-code"}, ["template", "minimal+claude-code"]),
], ids=lambda v: json.dumps(v)[:50] if isinstance(v, dict) else "")
def test_a_wrong_field_is_named_with_its_value_and_what_is_allowed(server, body, words):
    if "template" not in body and body:
        body = {"template": "minimal", **body}
    detail = problem(server.call("POST", "/v1/sandboxes", json=body), 400, "invalid")["detail"]
    for word in words:
        assert word in detail


@pytest.mark.parametrize("field,value", [
    ("persona_id", "p"), ("harness_id", "h"),
])
def test_what_is_not_built_yet_is_refused_by_name_and_never_ignored(server, field, value):
    answer = server.call("POST", "/v1/sandboxes", json={"template": "minimal", field: value})
    body = problem(answer, 501, "not_available_yet")
    assert field in body["detail"]
    assert body["reason"]["action"]


@pytest.mark.parametrize("body", [
    b"[1]", b"7", b'"x"', b"null", b'{"template":"minimal","template":"x"}', b"{" * 100, b"\xff\xfe", b'{"a":1} x',
    b'{"template":"a\\u0000b"}', b"[" * 100000,
], ids=lambda v: repr(v)[:40])
def test_bodies_that_are_no_object_are_refused(server, body):
    problem(server.call("POST", "/v1/sandboxes", content=body), 400, "invalid")


def test_templates_are_listed_with_their_state(server):
    listed = {t["name"]: t for t in server.api("GET", "/v1/templates")}
    assert listed["minimal"]["state"] == "ready" and listed["minimal"]["size_bytes"] > 0
    for t in listed.values():
        assert t["state"] in ("absent", "ready", "building", "unavailable", "failed")


# --- load ---


def test_five_hundred_connections_are_served_and_the_server_stays_small(server):
    def one(_):
        with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.key}"}) as c:
            return [c.get("/v1/sandboxes").status_code for _ in range(3)]

    host, port = server.info["listen"].rsplit(":", 1)
    idle = [socket.create_connection((host, int(port))) for _ in range(500)]
    try:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            assert all(codes == [200] * 3 for codes in pool.map(one, range(100)))
    finally:
        for s in idle:
            s.close()
    if "asan" not in str(product.STAGE):
        with open(f"/proc/{server.pid}/status") as f:
            rss_kib = int(next(line for line in f if line.startswith("VmRSS")).split()[1])
        assert rss_kib < 20 * 1024


# --- start, stop, configuration ---


def test_a_second_server_on_the_same_state_directory_is_refused(server):
    done = server.cli("server", "start", "--state-dir", server.state, "--listen", "127.0.0.1:0", check=False)
    assert done.returncode != 0
    assert "another server runs" in done.stderr
    assert server.call("GET", "/health").status_code == 200


def test_a_taken_port_is_told_by_the_process_in_front(server, tmp_path):
    done = subprocess.run([product.LIBEXEC / "caged-server", "--state-dir", tmp_path / "s", "--listen",
                           server.info["listen"]], capture_output=True, text=True, timeout=60, env=server.env)
    assert done.returncode == 1
    assert "listen" in done.stderr and server.info["listen"] in done.stderr


@pytest.mark.parametrize("text,words", [
    ("network: [1]", ["server.yaml:1"]),
    ("limits:\n  sandboxs: 3\n", ["server.yaml:2", "limits.sandboxes"]),
    ("limits:\n  sandboxes: many\n", ["server.yaml:2", "number"]),
    ("network:\n  allow:\n    - 10.0.0.0/99\n", ["server.yaml:3"]),
    ("network: {allow: [", ["server.yaml"]),
])
def test_a_wrong_configuration_is_told_with_its_line(tmp_path, text, words):
    config = tmp_path / "server.yaml"
    config.write_text(text)
    done = subprocess.run([product.LIBEXEC / "caged-server", "--state-dir", tmp_path / "s", "--config", config],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    for word in words:
        assert word in done.stderr


def test_the_rate_limit_of_the_configuration_holds():
    with product.Server(config="limits:\n  requests_per_minute: 5\n") as server:
        codes = [server.call("GET", "/v1/account").status_code for _ in range(8)]
        assert codes[:5] == [200] * 5 and set(codes[5:]) <= {200, 429} and 429 in codes
        refused = server.call("GET", "/v1/account")
        problem(refused, 429, "rate_limited")
        assert refused.headers["x-ratelimit-remaining"] == "0" and refused.headers["retry-after"]


def test_keys_outlive_a_stop_and_a_kill_of_the_server():
    with product.Server() as server:
        made = make_key(server, "full")
        owner = server.key
        for way in (signal.SIGTERM, signal.SIGKILL):
            server.kill(way)
            server.start()
            assert server.key == owner
            assert with_key(server, made["key"], "GET", "/v1/account").status_code == 200
        assert stat.S_IMODE((server.state / "owner.key").stat().st_mode) == 0o600


def test_a_lost_owner_key_is_replaced_at_the_next_start():
    with product.Server() as server:
        old = server.key
        server.stop()
        (server.state / "owner.key").write_text("not a key\n")
        server.start()
        assert server.key != old and server.call("GET", "/v1/account").status_code == 200
        assert len(server.api("GET", "/v1/account/keys")) == 2


def test_a_database_of_a_newer_version_is_not_touched():
    with product.Server() as server:
        server.stop()
        with sqlite3.connect(server.state / "server.db") as db:
            db.execute("PRAGMA user_version = 99")
        done = server.cli("server", "start", "--state-dir", server.state, "--listen", "127.0.0.1:0", check=False)
        assert done.returncode != 0 and "newer version" in done.stderr


def test_the_servers_log_stays_small():
    with product.Server() as server:
        with open(server.state / "server.log", "ab") as log:
            log.write(b"x" * (17 << 20))
        product.wait_for("the log is cut", lambda: (server.state / "server.log").stat().st_size < (1 << 20), 120)
        assert (server.state / "server.log.1").stat().st_size >= 17 << 20
