"""Accounts: signup, login, sessions, passwords, the device flow, keys with an end; and that nobody reaches another's things."""

import datetime
import pathlib
import sys
import time

import httpx
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import product  # noqa: E402

OPEN = "accounts:\n  signup: open\n"


@pytest.fixture(scope="module")
def server():
    with product.Server(config=OPEN) as s:
        yield s


def anonymous(server):
    return httpx.Client(base_url=server.url, timeout=120)


def with_token(server, token):
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=120)


def signup(server, email, password="correct horse"):
    answer = anonymous(server).post("/v1/auth/signup", json={"email": email, "password": password, "name": "A Person"})
    assert answer.status_code == 201, answer.text
    return answer.json()


# --- signup ---

def test_signup_is_closed_unless_the_operator_opened_it():
    with product.Server() as closed:
        answer = anonymous(closed).post("/signup", json={"email": "a@example.org", "password": "correct horse"})
        assert answer.status_code == 403
        assert "accounts.signup" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/signup", "/v1/auth/signup"])
def test_signup_gives_an_account_and_a_session(server, path):
    email = f"new{len(path)}@Example.org"
    answer = anonymous(server).post(path, json={"email": email, "password": "correct horse"})
    assert answer.status_code == 201
    token = answer.json()["token"]
    me = with_token(server, token).get("/v1/account").json()
    assert me["email"] == email.lower() and me["id"].startswith("acc-") and me["tier"] == "member"
    assert with_token(server, token).get("/v1/sandboxes").json() == []


@pytest.mark.parametrize("body, word", [
    ({"password": "correct horse"}, "email"),
    ({"email": "x@example.org"}, "password"),
    ({"email": "x@example.org", "password": "short"}, "8"),
    ({"email": "x@example.org", "password": "y" * 257}, "256"),
    ({"email": "nobody", "password": "correct horse"}, "name@example.org"),
    ({"email": "a@b@c", "password": "correct horse"}, "name@example.org"),
    ({"email": "<a>@b.org", "password": "correct horse"}, "name@example.org"),
    ({"email": "a\nb@c.org", "password": "correct horse"}, "name@example.org"),
    ({"email": 7, "password": "correct horse"}, "email"),
])
def test_a_signup_that_will_not_do_is_refused_by_name(server, body, word):
    answer = anonymous(server).post("/v1/auth/signup", json=body)
    assert answer.status_code == 400 and word in answer.json()["detail"]


def test_an_email_has_one_account_however_it_is_written(server):
    signup(server, "twice@example.org")
    again = anonymous(server).post("/v1/auth/signup", json={"email": "TWICE@example.org", "password": "correct horse"})
    assert again.status_code == 409


# --- login ---

def test_a_login_is_a_session_that_is_listed_and_can_be_ended(server):
    signup(server, "login@example.org")
    plain = anonymous(server)
    made = plain.post("/login", json={"email": "Login@example.org", "password": "correct horse"},
                      headers={"User-Agent": "a browser"})
    assert made.status_code == 200 and made.headers["cache-control"] == "no-store"
    me = with_token(server, made.json()["token"])
    listed = me.get("/v1/account/sessions").json()
    assert len(listed) == 2 and {"a browser"} <= {s["user_agent"] for s in listed}
    assert all(s["ip"] == "127.0.0.1" and s["expires_at"] > s["created_at"] for s in listed)
    assert me.post("/v1/auth/logout").status_code == 204
    assert me.get("/v1/account").status_code == 401
    assert len(listed) - 1 == 1


def test_sessions_outlive_the_server():
    with product.Server(config=OPEN) as s:
        token = signup(s, "stay@example.org")["token"]
        s.kill()
        s.start()
        assert with_token(s, token).get("/v1/account").json()["email"] == "stay@example.org"
        again = anonymous(s).post("/login", json={"email": "stay@example.org", "password": "correct horse"})
        assert again.status_code == 200


def test_a_wrong_email_and_a_wrong_password_get_the_same_answer(server):
    signup(server, "same@example.org")
    answers = [anonymous(server).post("/login", json=body) for body in (
        {"email": "same@example.org", "password": "wrong horse"},
        {"email": "nobody-here@example.org", "password": "wrong horse"})]
    assert [a.status_code for a in answers] == [401, 401]
    assert answers[0].json()["detail"] == answers[1].json()["detail"]


def test_guessing_gets_slower_and_the_right_password_waits_too(server):
    signup(server, "guess@example.org")
    body = {"email": "guess@example.org", "password": "wrong horse"}
    codes = [anonymous(server).post("/login", json=body).status_code for _ in range(8)]
    assert codes[0] == 401 and 429 in codes
    right = anonymous(server).post("/login", json={**body, "password": "correct horse"})
    if right.status_code == 429:
        assert int(right.headers["retry-after"]) >= 1
        time.sleep(int(right.headers["retry-after"]))
    deadline = time.monotonic() + 60
    while right.status_code == 429 and time.monotonic() < deadline:
        right = anonymous(server).post("/login", json={**body, "password": "correct horse"})
        time.sleep(0.2)
    assert right.status_code == 200
    other = anonymous(server).post("/login", json={"email": "someone@example.org", "password": "wrong horse"})
    assert other.status_code == 401, "other people log in as before"


def test_a_new_password_ends_the_other_sessions(server):
    first = with_token(server, signup(server, "change@example.org")["token"])
    second = with_token(server, anonymous(server).post(
        "/login", json={"email": "change@example.org", "password": "correct horse"}).json()["token"])
    refused = second.post("/v1/account/password", json={"password": "battery staple"})
    assert refused.status_code == 400 and "current_password" in refused.json()["detail"]
    refused = second.post("/v1/account/password", json={"password": "battery staple", "current_password": "nonsense"})
    assert refused.status_code == 401
    assert second.post("/v1/account/password", json={"password": "battery staple",
                                                     "current_password": "correct horse"}).status_code == 204
    assert first.get("/v1/account").status_code == 401
    assert second.get("/v1/account").status_code == 200
    plain = anonymous(server)
    assert plain.post("/login", json={"email": "change@example.org", "password": "correct horse"}).status_code == 401
    assert plain.post("/login", json={"email": "change@example.org", "password": "battery staple"}).status_code == 200


def test_the_owner_may_set_a_first_password_and_log_in():
    with product.Server() as s:
        assert s.call("POST", "/v1/account/password", json={"password": "of the owner"}).status_code == 204
        made = anonymous(s).post("/login", json={"email": "owner@localhost", "password": "of the owner"})
        assert made.status_code == 200 and made.json()["account"]["tier"] == "owner"


def test_no_password_and_no_token_stands_in_the_state_directory():
    with product.Server(config=OPEN) as s:
        token = signup(s, "trace@example.org", "a very rare password")["token"]
        s.stop()
        kept = b"".join(p.read_bytes() for p in s.state.rglob("*") if p.is_file())
        assert b"a very rare password" not in kept and token.encode() not in kept
        assert b"trace@example.org" in kept


# --- the device flow ---

def device(server):
    plain = anonymous(server)
    codes = plain.post("/v1/auth/device/code", json={}, headers={"User-Agent": "caged-cli/test"}).json()
    assert set(codes) >= {"device_code", "user_code", "verification_url", "expires_in", "interval"}
    return plain, codes


def test_a_device_gets_a_key_when_somebody_approves(server):
    plain, codes = device(server)
    waiting = plain.post("/v1/auth/device/token", json={"device_code": codes["device_code"]})
    assert waiting.status_code == 400 and waiting.json()["error"] == "authorization_pending"
    person = with_token(server, signup(server, "device@example.org")["token"])
    typed = codes["user_code"].lower().replace("-", " ")
    assert person.get(f"/v1/auth/device/{codes['user_code']}").json()["user_agent"] == "caged-cli/test"
    assert person.post("/v1/auth/device/approve", json={"user_code": typed}).status_code == 204
    got = plain.post("/v1/auth/device/token", json={"device_code": codes["device_code"]}).json()
    assert got["email"] == "device@example.org" and got["token_type"] == "Bearer"
    assert with_token(server, got["access_token"]).get("/v1/account").json()["id"] == got["account_id"]
    again = plain.post("/v1/auth/device/token", json={"device_code": codes["device_code"]})
    assert again.json()["error"] == "expired_token", "a code gives one key"


def test_a_device_that_is_refused_hears_it(server):
    plain, codes = device(server)
    person = with_token(server, signup(server, "deny@example.org")["token"])
    assert person.post("/v1/auth/device/approve",
                       json={"user_code": codes["user_code"], "approve": False}).status_code == 204
    assert plain.post("/v1/auth/device/token", json={"device_code": codes["device_code"]}).json()["error"] == "access_denied"
    assert person.post("/v1/auth/device/approve", json={"user_code": codes["user_code"]}).status_code == 404


@pytest.mark.parametrize("code", ["", "XXXX-XXXX", "x" * 200, "BCDF-GHJ"])
def test_codes_that_nobody_was_given_are_nothing(server, code):
    assert server.call("POST", "/v1/auth/device/approve", json={"user_code": code}).status_code == 404
    answer = anonymous(server).post("/v1/auth/device/token", json={"device_code": code})
    assert answer.status_code == 400 and answer.json()["error"] == "expired_token"


def test_a_read_only_key_approves_nothing(server):
    _, codes = device(server)
    key = server.api("POST", "/v1/account/keys", {"name": "r", "scope": "read"})["key"]
    assert with_token(server, key).post("/v1/auth/device/approve",
                                        json={"user_code": codes["user_code"]}).status_code == 403


def test_logins_that_wait_are_bounded(server):
    plain = anonymous(server)
    codes = [plain.post("/v1/auth/device/code", json={}).status_code for _ in range(300)]
    assert codes[0] == 200 and codes[-1] == 429


# --- keys ---

def test_a_key_ends_when_it_was_told_to(server):
    soon = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = server.api("POST", "/v1/account/keys", {"name": "short", "expires_at": soon})
    assert made["info"]["expires_at"].startswith(soon[:19])
    client = with_token(server, made["key"])
    product.wait_for("the key has ended", lambda: client.get("/v1/account").status_code == 401, 30)


@pytest.mark.parametrize("when", ["yesterday", "2001-01-01T00:00:00Z", "2030-13-01T00:00:00Z", "2030-01-01"])
def test_an_end_that_is_none_is_refused(server, when):
    answer = server.call("POST", "/v1/account/keys", json={"name": "n", "expires_at": when})
    assert answer.status_code == 400 and when in answer.json()["detail"]


# --- apart ---

def test_accounts_do_not_see_each_other(server):
    a = with_token(server, signup(server, "a@apart.example")["token"])
    b = with_token(server, signup(server, "b@apart.example")["token"])
    key = a.post("/v1/account/keys", json={"name": "of a"}).json()["info"]["id"]
    session = a.get("/v1/account/sessions").json()[0]["id"]
    assert b.get("/v1/account/keys").json() == []
    assert b.delete(f"/v1/account/keys/{key}").status_code == 404
    assert b.delete(f"/v1/account/sessions/{session}").status_code == 404
    assert a.get("/v1/account").status_code == 200
