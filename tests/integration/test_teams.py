"""Teams without guests: invitations, roles, what each role reaches by the API, and that all of it is there after a kill.
What a role may do with the team's sandboxes is in tests/vm/test_isolation.py."""

import subprocess

import httpx
import pytest

import product

ROLES = ["viewer", "member", "admin", "owner"]


@pytest.fixture(scope="module")
def server():
    with product.Server(config="accounts: {signup: open}\n") as s:
        yield s


class Person:
    def __init__(self, server, name, invitation=None):
        self.server, self.email = server, f"{name}@example.org"
        body = {"email": self.email, "password": "correct horse", **({"invitation": invitation} if invitation else {})}
        answer = httpx.post(server.url + "/v1/auth/signup", json=body, timeout=120)
        assert answer.status_code == 201, answer.text
        self.token, self.id, self.joined = answer.json()["token"], answer.json()["account"]["id"], answer.json()["team"]

    def call(self, method, path, body=None):
        return httpx.request(method, self.server.url + path, json=body, timeout=60, headers={"Authorization": f"Bearer {self.token}"})

    def ask(self, method, path, body=None):
        answer = self.call(method, path, body)
        assert answer.status_code // 100 == 2, (method, path, answer.text)
        return answer.json() if answer.content else None

    def refused(self, method, path, body=None):
        answer = self.call(method, path, body)
        return answer.status_code, answer.json()["reason"]["code"]

    def invite(self, team, whom, role):
        return self.ask("POST", f"/v1/teams/{team}/members", {"email": whom.email, "role": role})["code"]

    def role_in(self, team):
        return {t["id"]: t["role"] for t in self.ask("GET", "/v1/teams")}.get(team)


@pytest.fixture(scope="module")
def people(server):
    """One of each role in a team, and a stranger."""
    people = {role: Person(server, role) for role in ROLES}
    people["stranger"] = Person(server, "stranger")
    team = people["owner"].ask("POST", "/v1/teams", {"name": "Acme"})["id"]
    for role in ROLES[:3]:
        people[role].ask("POST", "/v1/teams/join", {"code": people["owner"].invite(team, people[role], role)})
    people["team"] = team
    return people


def test_a_team_has_its_members_with_their_roles_and_outlives_a_kill(server, people):
    team = people["team"]
    code = people["owner"].ask("POST", f"/v1/teams/{team}/members", {"email": "later@example.org"})
    server.kill()
    server.start()
    detail = people["viewer"].ask("GET", f"/v1/teams/{team}")
    assert {m["email"]: m["role"] for m in detail["members"]} == {f"{r}@example.org": r for r in ROLES}
    assert (detail["name"], detail["role"], detail["member_count"], detail["invitations"]) == ("Acme", "viewer", 4, [])
    waiting = people["admin"].ask("GET", f"/v1/teams/{team}")["invitations"]
    assert [(i["id"], i["email"], i["role"], i["invited_by"]) for i in waiting] == [(code["id"], "later@example.org", "member", people["owner"].id)]
    state = b"".join(p.read_bytes() for p in server.state.glob("server.db*"))
    assert code["code"].encode() not in state and code["id"].encode() in state
    people["admin"].ask("DELETE", f"/v1/teams/{team}/invitations/{code['id']}")
    assert people["admin"].ask("GET", f"/v1/teams/{team}")["invitations"] == []
    later = Person(server, "later")
    assert later.refused("POST", "/v1/teams/join", {"code": code["code"]}) == (404, "not_found")


# What a role must be for each kind of request, said here a second time and apart from the code.
NEEDS = [
    ("GET", "/v1/teams/{team}", None, "viewer"), ("GET", "/v1/teams/{team}/members", None, "viewer"),
    ("GET", "/v1/sandboxes?team={team}", None, "viewer"), ("GET", "/v1/snapshots?team={team}", None, "viewer"),
    ("GET", "/v1/sessions?team={team}", None, "viewer"), ("GET", "/v1/alerts?team={team}", None, "viewer"),
    ("GET", "/v1/billing/usage?team={team}", None, "viewer"), ("GET", "/v1/billing/subscription?team={team}", None, "viewer"),
    ("POST", "/v1/notifications/read-all?team={team}", None, "member"),
    ("GET", "/v1/secrets?team={team}", None, "admin"), ("PUT", "/v1/secrets/OURS?team={team}", {"value": "of the team", "hosts": ["a.example.com"]}, "admin"),
    ("GET", "/v1/account/budget?team={team}", None, "admin"), ("PUT", "/v1/account/budget?team={team}", {"budget": 40}, "admin"),
    ("GET", "/v1/notifications/config?team={team}", None, "admin"), ("GET", "/v1/audit?team={team}", None, "admin"),
    ("PATCH", "/v1/teams/{team}", {"name": "Acme"}, "admin"),
    ("POST", "/v1/teams/{team}/members", {"email": "one-more@example.org"}, "admin"),
]


@pytest.mark.parametrize("method,path,body,least", NEEDS, ids=[f"{m} {p}" for m, p, _, _ in NEEDS])
def test_a_role_reaches_what_it_may_and_no_more(people, method, path, body, least):
    path = path.format(team=people["team"])
    for role in ROLES:
        answer = people[role].call(method, path, body)
        if ROLES.index(role) < ROLES.index(least):
            assert answer.status_code == 403 and answer.json()["reason"]["code"] == "policy_denied", (role, answer.text)
            assert least in answer.json()["detail"] and role in answer.json()["detail"]
        else:
            assert answer.status_code // 100 == 2, (role, answer.text)
    answer = people["stranger"].call(method, path, body)
    none = people["stranger"].call(method, path.replace(people["team"], "team-zzzzzzzz"), body)
    assert answer.status_code == none.status_code == 404
    assert answer.json()["detail"].replace(people["team"], "X") == none.json()["detail"].replace("team-zzzzzzzz", "X")


def test_what_is_the_teams_is_not_the_persons(people):
    team = people["team"]
    people["admin"].ask("PUT", f"/v1/secrets/OURS?team={team}", {"value": "of the team", "hosts": ["a.example.com"]})
    people["admin"].ask("PUT", "/v1/secrets/MINE", {"value": "of a person", "hosts": ["b.example.com"]})
    assert [s["name"] for s in people["owner"].ask("GET", f"/v1/secrets?team={team}")] == ["OURS"]
    assert [s["name"] for s in people["admin"].ask("GET", "/v1/secrets")] == ["MINE"]
    people["admin"].ask("PUT", f"/v1/account/budget?team={team}", {"budget": 41})
    assert people["owner"].ask("GET", f"/v1/account/budget?team={team}")["budget"] == 41
    assert people["admin"].ask("GET", "/v1/account/budget")["budget"] is None


def test_the_scope_of_a_key_holds_beside_the_role(server, people):
    team, owner = people["team"], people["owner"]
    reader = owner.ask("POST", "/v1/account/keys", {"name": "r", "scope": "read"})["key"]
    worker = owner.ask("POST", "/v1/account/keys", {"name": "w", "scope": "sandbox"})["key"]
    for key in (reader, worker):
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx.get(f"{server.url}/v1/teams/{team}", headers=headers).status_code == 200
        assert httpx.get(f"{server.url}/v1/secrets?team={team}", headers=headers).status_code == 403
        assert httpx.patch(f"{server.url}/v1/teams/{team}", headers=headers, json={"name": "no"}).status_code == 403


def test_keys_and_sessions_are_a_persons_and_say_so(people):
    for method, path, body in (("GET", "/v1/account/keys", None), ("POST", "/v1/account/keys", {"name": "k"}), ("GET", "/v1/account/sessions", None),
                               ("POST", "/v1/account/password", {"password": "another horse"})):
        status, code = people["owner"].refused(method, f"{path}?team={people['team']}", body)
        assert (status, code) == (400, "invalid"), path


def test_owners_are_made_by_owners_and_one_stays(server):
    a, b, c = (Person(server, n) for n in ("boss", "deputy", "third"))
    team = a.ask("POST", "/v1/teams", {"name": "Bosses"})["id"]
    b.ask("POST", "/v1/teams/join", {"code": a.invite(team, b, "admin")})
    c.ask("POST", "/v1/teams/join", {"code": b.invite(team, c, "viewer")})
    path = f"/v1/teams/{team}/members"
    assert b.refused("POST", path, {"email": "x@example.org", "role": "owner"}) == (403, "forbidden")
    assert b.refused("PATCH", f"{path}/{c.id}", {"role": "owner"}) == (403, "forbidden")
    assert b.refused("PATCH", f"{path}/{a.id}", {"role": "viewer"}) == (403, "forbidden")
    assert b.refused("DELETE", f"{path}/{a.id}") == (403, "forbidden")
    assert b.refused("PATCH", f"{path}/{c.id}", {"role": "king"}) == (400, "invalid")
    assert b.ask("PATCH", f"{path}/{c.email}", {"role": "member"})["role"] == "member" and c.role_in(team) == "member"
    assert a.refused("PATCH", f"{path}/{a.id}", {"role": "admin"}) == (409, "conflict")
    assert a.refused("POST", f"/v1/teams/{team}/leave") == (409, "conflict")
    assert b.refused("DELETE", f"/v1/teams/{team}") == (403, "policy_denied")
    a.ask("PATCH", f"{path}/{b.id}", {"role": "owner"})
    a.ask("POST", f"/v1/teams/{team}/leave")
    assert a.role_in(team) is None and a.refused("GET", f"/v1/teams/{team}") == (404, "not_found")
    b.ask("PUT", f"/v1/secrets/THEIRS?team={team}", {"value": "goes with it", "hosts": ["a.example.com"]})
    b.ask("DELETE", f"/v1/teams/{team}")
    assert b.role_in(team) is None and c.role_in(team) is None
    server.kill()
    server.start()
    assert c.ask("GET", "/v1/teams") == []


def test_an_invitation_is_for_one_address_once(server):
    a, b, c = (Person(server, n) for n in ("host", "guest", "thief"))
    team = a.ask("POST", "/v1/teams", {"name": "Guests"})["id"]
    first = a.invite(team, b, "member")
    second = a.invite(team, b, "viewer")  # replaces the first
    assert b.refused("POST", "/v1/teams/join", {"code": first}) == (404, "not_found")
    assert c.refused("POST", "/v1/teams/join", {"code": second}) == (403, "forbidden")
    assert b.ask("POST", "/v1/teams/join", {"code": second})["role"] == "viewer"
    assert b.refused("POST", "/v1/teams/join", {"code": second}) == (404, "not_found")
    assert a.refused("POST", f"/v1/teams/{team}/members", {"email": b.email}) == (409, "conflict")
    assert a.refused("POST", f"/v1/teams/{team}/members", {"email": "no address"}) == (400, "invalid")
    assert a.refused("POST", "/v1/teams", {"name": ""}) == (400, "invalid")


def test_a_team_and_its_invitations_are_bounded(server):
    a = Person(server, "many")
    team = a.ask("POST", "/v1/teams", {"name": "Many"})["id"]
    for i in range(64):
        a.ask("POST", f"/v1/teams/{team}/members", {"email": f"i{i}@example.org"})
    assert a.refused("POST", f"/v1/teams/{team}/members", {"email": "i64@example.org"}) == (403, "plan_limit_reached")
    for i in range(31):
        a.ask("POST", "/v1/teams", {"name": f"t{i}"})
    assert a.refused("POST", "/v1/teams", {"name": "one more"}) == (403, "plan_limit_reached")


def test_what_was_done_for_a_team_stands_in_its_log_with_the_person(people):
    team = people["team"]
    people["admin"].ask("PUT", f"/v1/account/budget?team={team}", {"budget": 42})
    assert people["viewer"].refused("PUT", f"/v1/account/budget?team={team}", {"budget": 1}) == (403, "policy_denied")
    told = people["owner"].ask("GET", f"/v1/audit?team={team}")["entries"]
    assert [(e["action"], e["actor_email"], e["status"]) for e in told[:2]] == [
        ("PUT /v1/account/budget", "viewer@example.org", 403), ("PUT /v1/account/budget", "admin@example.org", 200)]
    assert ("POST /v1/teams/join", "member@example.org") in [(e["action"], e["actor_email"]) for e in told]
    assert told[-1]["action"] == "POST /v1/teams" and told[-1]["actor_id"] == people["owner"].id
    assert "PUT /v1/account/budget" not in [e["action"] for e in people["viewer"].ask("GET", "/v1/audit")["entries"]]


def test_signup_by_invitation_where_the_operator_said_so():
    with product.Server(config="accounts: {signup: invited}\n") as server:
        team = server.api("POST", "/v1/teams", {"name": "Home"})["id"]
        code = server.api("POST", f"/v1/teams/{team}/members", {"email": "friend@example.org", "role": "admin"})["code"]
        body = {"email": "friend@example.org", "password": "correct horse"}
        for wrong in ({}, {"invitation": "caged_inv_" + "a" * 32}, {"invitation": code, "email": "else@example.org"}):
            answer = httpx.post(server.url + "/v1/auth/signup", json={**body, **wrong}, timeout=60)
            assert answer.status_code == 403 and "invitation" in answer.json()["detail"], answer.text
        friend = Person(server, "friend", code)
        assert friend.joined == team and friend.role_in(team) == "admin"
        answer = httpx.post(server.url + "/v1/auth/signup", json={**body, "email": "two@example.org", "invitation": code}, timeout=60)
        assert answer.status_code == 403


def test_the_command_line_makes_teams_and_acts_for_them(server, people):
    def run(*args, who="owner", check=True, text=""):
        env = {**server.env, "CAGED_API_URL": server.url, "CAGED_API_KEY": people[who].token}
        done = subprocess.run([product.CAGED, *args], env=env, input=text, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, (args, done.stdout, done.stderr)
        return done

    out = run("team", "create", "By hand").stdout
    team = out.split()[0]
    assert "owner@example.org" in out and team.startswith("team-")
    code = run("team", "invite", team, "stranger@example.org", "--role", "viewer").stdout.strip()
    assert "By hand" in run("team", "join", code, who="stranger").stdout
    assert "viewer" in run("team", "list", who="stranger").stdout
    run("team", "role", team, "stranger@example.org", "admin")
    run("--team", team, "secrets", "set", "SHARED", "--host", "a.example.com", who="stranger", text="a value of the team\n")
    assert "SHARED" in run("--team", team, "secrets", "list").stdout and "SHARED" not in run("secrets", "list").stdout
    refused = run("--team", team, "keys", "create", "k", check=False)
    assert refused.returncode == 1 and "about you" in refused.stderr
    run("team", "leave", team, who="stranger")
    refused = run("team", "show", team, who="stranger", check=False)
    assert refused.returncode == 1 and "there is no team" in refused.stderr
    run("team", "delete", team)
    assert run("team", "nonsense", check=False).returncode == 2
