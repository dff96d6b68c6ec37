"""Every route of api/openapi.yaml, which a unit test holds against the route table, walked with another account's key and
with keys of small scopes: nothing of an account is seen, changed or even told apart from what does not exist."""

import asyncio
import contextlib
import json
import re

import httpx
import pytest
import websockets
import yaml

import product

SPEC = yaml.safe_load((product.ROOT / "api" / "openapi.yaml").read_text())
NOBODYS = "zzzzzzzz"


def routes():
    for path, item in SPEC["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield method.upper(), path, operation


ROUTES = list(routes())
OPEN = [(m, p) for m, p, o in ROUTES if o.get("security") == []]
# What an account's own object is to somebody else, by the parameter that names it. A route with another parameter fails
# the walk until its object stands here.
FREE = {"port": "3000", "code": "BCDF-GHJK", "blob": "0" * 64, "month": "2001-01"}  # part of another object, or nobody's
# Names that each account has for itself: the same word is another object.
OWN_NAMES = {"name"}


class World:
    """Alice has one of everything; Bob has an account."""

    def __init__(self, server):
        self.server = server
        self.http = httpx.Client(base_url=server.url, timeout=300)
        self.alice, self.bob = (self.signup(n) for n in ("alice", "bob"))
        self.box = self.ask(self.alice, "POST", "/v1/sandboxes", {"template": "minimal", "memory_mb": 256, "disk_gb": 1})["id"]
        self.ask(self.alice, "PUT", f"/v1/sandboxes/{self.box}/files/content?path=/workspace/f", {"content": "alices"})
        self.snapshot = self.ask(self.alice, "POST", f"/v1/sandboxes/{self.box}/snapshots", {"name": "s"})["id"]
        self.agent_session = self.make_session()
        self.key = self.ask(self.alice, "POST", "/v1/account/keys", {"name": "k"})["info"]["id"]
        self.session = self.ask(self.alice, "GET", "/v1/account/sessions")[0]["id"]
        self.ask(self.alice, "PUT", "/v1/secrets/THEIRS", {"value": "a-secret-of-alice", "hosts": ["api.example.com"]})
        self.objects = {"id": self.box, "snapshot": self.snapshot, "key": self.key, "session": self.session, "name": "THEIRS"}
        self.make_team()
        self.objects.update(self.make_alert(), rule=self.ask(self.alice, "GET", "/v1/alerts/rules")[0]["id"])
        self.mine = {**self.objects, "agent_session": self.agent_session}

    def make_team(self):
        """Alice owns a team with a sandbox; Carol views, Dave works, Erin manages."""
        self.team = self.ask(self.alice, "POST", "/v1/teams", {"name": "Wonderland"})["id"]
        self.role = {"owner": self.alice}
        for role, name in (("viewer", "carol"), ("member", "dave"), ("admin", "erin")):
            self.role[role] = self.signup(name)
            code = self.ask(self.alice, "POST", f"/v1/teams/{self.team}/members", {"email": f"{name}@example.org", "role": role})["code"]
            self.ask(self.role[role], "POST", "/v1/teams/join", {"code": code})
        waiting = self.ask(self.alice, "POST", f"/v1/teams/{self.team}/members", {"email": "nobody@example.org"})["id"]
        self.objects.update(team=self.team, invitation=waiting, member=self.ask(self.role["viewer"], "GET", "/v1/account")["id"])
        self.team_box = self.ask(self.role["member"], "POST", "/v1/sandboxes",
                                 {"template": "minimal", "memory_mb": 256, "disk_gb": 1, "team": self.team})["id"]

    def make_alert(self):
        """A sandbox that fails is one, and is told."""
        box = self.ask(self.alice, "POST", "/v1/sandboxes", {"template": "minimal", "memory_mb": 256, "disk_gb": 1})["id"]
        with contextlib.suppress(httpx.HTTPError):  # the guest is gone while it answers
            self.call(self.alice, "POST", f"/v1/sandboxes/{box}/exec",
                      json={"command": "echo c > /proc/sysrq-trigger", "user": "root", "timeout_ms": 5000})
        alert = product.wait_for("it alerts", lambda: [a for a in self.ask(self.alice, "GET", "/v1/alerts")["alerts"]
                                                       if a["rule_type"] == "sandbox_error"])[0]
        told = product.wait_for("it is told", lambda: self.ask(self.alice, "GET", "/v1/notifications")["notifications"])[0]
        self.call(self.alice, "DELETE", f"/v1/sandboxes/{box}")
        return {"alert": alert["id"], "notification": told["id"]}

    def make_session(self):
        """A terminal is one."""
        async def go():
            ticket = self.ask(self.alice, "POST", "/v1/auth/socket-ticket")["ticket"]
            url = self.server.url.replace("http", "ws") + f"/v1/sandboxes/{self.box}/terminal?token={ticket}"
            async with websockets.connect(url, subprotocols=["terminal"]) as shell:
                await shell.send(json.dumps({"type": "input", "data": "exit\n"}))
                async for _ in shell:
                    pass

        asyncio.run(asyncio.wait_for(go(), 120))
        return product.wait_for("the session is told", lambda: self.ask(self.alice, "GET", f"/v1/sandboxes/{self.box}/sessions"))[0]["id"]

    def signup(self, name):
        answer = httpx.post(self.server.url + "/v1/auth/signup", timeout=120,
                            json={"email": f"{name}@example.org", "password": "correct horse"})
        assert answer.status_code == 201, answer.text
        return answer.json()["token"]

    def ask(self, token, method, path, body=None):
        answer = self.call(token, method, path, json=body)
        assert answer.status_code // 100 == 2, (method, path, answer.text)
        return answer.json() if answer.content else None

    def call(self, token, method, path, **kw):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.http.request(method, path, headers=headers, **kw)

    def state(self):
        """What of Alice's a stranger could have changed."""
        box = self.ask(self.alice, "GET", f"/v1/sandboxes/{self.box}")
        network = self.ask(self.alice, "GET", f"/v1/sandboxes/{self.box}/network")
        return (
            {k: box.get(k) for k in ("id", "status", "budget", "network_mode", "name")}, network,
            self.call(self.alice, "GET", f"/v1/sandboxes/{self.box}/files/content?path=/workspace/f").text,
            [s["id"] for s in self.ask(self.alice, "GET", "/v1/snapshots")],
            [k["id"] for k in self.ask(self.alice, "GET", "/v1/account/keys")],
            [s["id"] for s in self.ask(self.alice, "GET", "/v1/account/sessions")],
            [(s["name"], s["hosts"], s["updated_at"]) for s in self.ask(self.alice, "GET", "/v1/secrets")],
            self.ask(self.alice, "GET", "/v1/alerts"), self.ask(self.alice, "GET", "/v1/alerts/rules"),
            self.ask(self.alice, "GET", "/v1/notifications"), self.ask(self.alice, "GET", f"/v1/teams/{self.team}"),
            [b["status"] for b in self.ask(self.alice, "GET", f"/v1/sandboxes?team={self.team}")], self.ask(self.alice, "GET", "/v1/account/budget"),
            [(p["port"], p["protected"]) for p in self.ask(self.alice, "GET", f"/v1/sandboxes/{self.box}/ports")],
        )


@pytest.fixture(scope="module")
def world():
    with product.Server(config="accounts: {signup: open}\n") as server:
        made = World(server)
        yield made
        made.call(made.alice, "DELETE", f"/v1/sandboxes/{made.box}")
        made.call(made.alice, "DELETE", f"/v1/sandboxes/{made.team_box}")


def filled(path, objects):
    if path.startswith("/v1/sessions/"):  # of agents and terminals; else of logins
        objects = {**objects, "session": objects["agent_session"]}
    missing = [n for n in re.findall(r"{(\w+)}", path) if n not in objects and n not in FREE]
    assert not missing, f"{path}: say in this file what {missing} names, so that the walk covers it"
    return re.sub(r"{(\w+)}", lambda m: {**FREE, **objects}[m[1]], path)


def bodies(operation):
    """A body that would do something, where one is taken."""
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        return [{"json": {}}, {"json": {"command": "touch /workspace/stranger", "path": "/workspace/f", "content": "bobs", "from": "f", "to": "g",
                               "password": "bobs own", "budget": 99, "mode": "none", "value": "bobs-own-value", "target_sandbox_id": None, "count": 1}}]
    return [{"content": b"x"}] if content else [{}]


def test_another_accounts_key_finds_nothing_on_any_route(world):
    before = world.state()
    walked = 0
    for method, path, operation in ROUTES:
        names = [n for n in re.findall(r"{(\w+)}", path) if n not in FREE]
        if not names or set(names) <= OWN_NAMES:
            continue
        nothing = {n: re.sub(r"-.*", f"-{NOBODYS}", v) for n, v in world.mine.items()}
        for body in bodies(operation):
            query = "?path=/workspace/f&recursive=true"
            there = world.call(world.bob, method, filled(path, world.mine) + query, **body)
            none = world.call(world.bob, method, filled(path, nothing) + query, **body)
            assert there.status_code == 404, (method, path, there.status_code, there.text)
            shape = [re.sub("|".join([*world.mine.values(), *nothing.values()]), "X", re.sub(r'"instance":"\w+"', "", a.text)) for a in (there, none)]
            assert none.status_code == 404 and shape[0] == shape[1], (method, path, shape)
        walked += 1
    assert walked >= 40
    assert world.state() == before


def test_lists_and_streams_of_another_account_are_empty_of_it(world):
    # the audit log is left out: Bob's own tries name what he tried (tests/integration/test_audit.py has whose acts it shows)
    for method, path, operation in ROUTES:
        if method != "GET" or "{" in path or path in ("/v1/events/stream", "/v1/audit") or operation.get("security") == []:
            continue
        answer = world.call(world.bob, "GET", path)
        for word in (*world.mine.values(), world.team_box, "alice@example.org", "a-secret-of-alice"):
            assert word not in answer.text, (path, word)
        if not path.startswith(("/v1/teams", "/v1/account", "/v1/prices", "/v1/templates", "/v1/agents", "/metrics")):
            assert world.call(world.bob, "GET", f"{path}?team={world.team}").status_code == 404, path
    for box in (world.box, world.team_box):
        assert world.call(world.bob, "GET", f"/v1/events/stream?sandbox_id={box}").status_code == 404


def test_another_accounts_objects_are_no_ingredients(world):
    assert world.call(world.bob, "POST", "/v1/sandboxes", json={"template": "minimal", "snapshot_id": world.snapshot}).status_code == 404
    assert world.call(world.bob, "POST", "/v1/sandboxes", json={"template": "minimal", "secrets": ["THEIRS"]}).status_code == 400
    claim = {"type": "tool_call", "timestamp": "2026-01-01T00:00:00Z", "sandbox_id": world.box, "session_id": world.agent_session}
    told = world.call(world.bob, "POST", "/v1/events/ingest", json={"events": [claim]})
    assert told.status_code == 404 or told.json()["accepted"] == 0, told.text
    before = world.state()
    world.ask(world.bob, "PUT", "/v1/secrets/THEIRS", {"value": "bobs-own-value", "hosts": ["evil.example.com"]})
    world.ask(world.bob, "DELETE", "/v1/secrets/THEIRS")
    assert world.state() == before
    assert world.call(world.bob, "POST", "/v1/gc").status_code == world.call(world.bob, "POST", "/v1/backup").status_code == 403


def test_without_a_key_only_the_open_routes_answer(world):
    assert ("GET", "/health") in OPEN and len(OPEN) < 12
    for method, path, operation in ROUTES:
        if (method, path) in OPEN:
            continue
        for token in (None, "caged_sk_" + "a" * 32, "caged_wst_a.b"):
            answer = world.call(token, method, filled(path, world.mine), **bodies(operation)[0])
            assert answer.status_code == 401 and answer.json()["reason"]["code"] == "unauthorized", (method, path, answer.text)


def test_a_read_only_key_changes_nothing_on_any_route(world):
    key = world.ask(world.alice, "POST", "/v1/account/keys", {"name": "reader", "scope": "read"})["key"]
    before = world.state()
    for method, path, operation in ROUTES:
        if method == "GET" or (method, path) in OPEN or path in ("/v1/auth/socket-ticket", "/v1/auth/logout"):
            continue
        answer = world.call(key, method, filled(path, world.mine) + "?path=/workspace/f", **bodies(operation)[-1])
        assert answer.status_code == 403 and answer.json()["reason"]["code"] == "policy_denied", (method, path, answer.text)
    assert world.state() == before
    sockets = [p for m, p, o in ROUTES if m == "GET" and "101" in map(str, o["responses"])]
    for path in sockets:  # a socket that acts is no reading
        assert world.call(key, "GET", filled(path, world.mine)).status_code == 403, path


def test_a_sandbox_key_reaches_no_account(world):
    key = world.ask(world.alice, "POST", "/v1/account/keys", {"name": "worker", "scope": "sandbox"})["key"]
    for method, path, operation in ROUTES:
        if not path.startswith(("/v1/account/", "/v1/secrets", "/v1/gc")):
            continue
        answer = world.call(key, method, filled(path, world.mine), **bodies(operation)[-1])
        assert answer.status_code == 403, (method, path, answer.text)
    assert json.loads(world.call(key, "GET", f"/v1/sandboxes/{world.box}").text)["id"] == world.box


# --- teams ---

RANK = ["viewer", "member", "admin", "owner"]
MANAGED = ("/v1/secrets", "/v1/account/budget", "/v1/alerts/rules/", "/v1/notifications/config", "/v1/notifications/test", "/v1/teams/", "/v1/audit",
           "/v1/billing/")


def least_role(method, path, operation):
    """What the documentation says of roles, apart from the table in the server; None: the route is about the person."""
    if path.startswith("/v1/teams/{team}/leave") or (path.startswith("/v1/account/") and path != "/v1/account/budget"):
        return None
    if (method, path) == ("DELETE", "/v1/teams/{team}"):
        return "owner"
    if path.startswith(("/v1/secrets", "/v1/account/budget", "/v1/notifications/config", "/v1/audit")):
        return "admin"
    if method == "GET":
        return "member" if "101" in map(str, operation["responses"]) else "viewer"
    return "admin" if path.startswith(MANAGED) else "member"


def team_routes(world):
    """Routes that name the team or an object of it, and what an account has, asked for the team."""
    objects = {**world.mine, "id": world.team_box}
    for method, path, operation in ROUTES:
        names = set(re.findall(r"{(\w+)}", path)) - set(FREE)
        least = least_role(method, path, operation)
        of_an_account = path.startswith(("/v1/secrets", "/v1/account/budget", "/v1/notifications", "/v1/alerts", "/v1/audit", "/v1/billing"))
        if least and (names <= {"id", "team", "member", "invitation"} and names or of_an_account):
            yield method, filled(path, objects) + ("?" if of_an_account else "?path=/workspace/f&") + f"team={world.team}", operation, least


def test_a_role_too_small_is_refused_on_every_route_of_a_team(world):
    before = world.state()
    walked = {role: 0 for role in RANK}
    for method, path, operation, least in team_routes(world):
        for role in RANK[:RANK.index(least)]:
            answer = world.call(world.role[role], method, path, **bodies(operation)[-1])
            assert answer.status_code == 403 and answer.json()["reason"]["code"] == "policy_denied", (role, method, path, answer.status_code, answer.text)
            walked[role] += 1
    assert walked["viewer"] >= 45 and walked["member"] >= 12 and walked["admin"] >= 1, walked
    assert world.state() == before


def test_members_work_in_the_teams_sandboxes_and_viewers_look(world):
    box = f"/v1/sandboxes/{world.team_box}"
    told = world.ask(world.role["member"], "POST", box + "/exec", {"command": "echo of the team > /workspace/t; cat /workspace/t"})
    assert told["output"] == "of the team\n"
    for role in RANK:
        listed = [b["id"] for b in world.ask(world.role[role], "GET", "/v1/sandboxes")]
        assert world.team_box in listed and (world.box in listed) == (role == "owner")
        assert world.ask(world.role[role], "GET", box)["team"] == world.team
        assert world.call(world.role[role], "GET", box + "/files/content?path=/workspace/t").text == "of the team\n"
        assert [b["id"] for b in world.ask(world.role[role], "GET", f"/v1/sandboxes?team={world.team}")] == [world.team_box]
    mine = world.ask(world.role["member"], "POST", box + "/snapshots", {"name": "team's"})["id"]
    assert world.ask(world.role["viewer"], "GET", f"/v1/snapshots/{mine}")["id"] == mine
    assert world.call(world.role["viewer"], "DELETE", f"/v1/snapshots/{mine}").status_code == 403
    # what is the team's is no ingredient of a person's, nor the other way round
    assert world.call(world.role["member"], "POST", "/v1/sandboxes", json={"template": "minimal", "snapshot_id": mine}).status_code == 404
    assert world.call(world.alice, "POST", f"/v1/snapshots/{world.snapshot}/restore", json={"target_sandbox_id": world.team_box}).status_code == 404
    assert world.call(world.role["viewer"], "POST", "/v1/sandboxes", json={"template": "minimal", "team": world.team}).status_code == 403
    assert world.call(world.bob, "POST", "/v1/sandboxes", json={"template": "minimal", "team": world.team}).status_code == 404
    claim = {"type": "tool_call", "timestamp": "2026-01-01T00:00:00Z", "sandbox_id": world.team_box}
    assert world.call(world.role["viewer"], "POST", "/v1/events/ingest", json={"events": [claim]}).json()["accepted"] == 0
    assert world.call(world.alice, "DELETE", f"/v1/teams/{world.team}").status_code == 409
    world.ask(world.role["member"], "DELETE", f"/v1/snapshots/{mine}")


def test_who_is_removed_loses_what_is_open(world):
    """A terminal and a stream of events end with the membership, and a shell that goes on typing is not heard."""
    dave = world.role["member"]
    member = f"/v1/teams/{world.team}/members/dave@example.org"

    async def go():
        ticket = world.ask(dave, "POST", "/v1/auth/socket-ticket")["ticket"]
        url = world.server.url.replace("http", "ws") + f"/v1/sandboxes/{world.team_box}/terminal?token={ticket}"
        async with websockets.connect(url, subprotocols=["terminal"]) as shell:
            await shell.send(json.dumps({"type": "input", "data": "echo here-$((1+1))\n"}))
            seen = ""
            while "here-2" not in seen:
                seen += json.loads(await shell.recv()).get("data", "")
            with httpx.stream("GET", world.server.url + f"/v1/events/stream?sandbox_id={world.team_box}", timeout=60,
                              headers={"Authorization": f"Bearer {dave}"}) as stream:
                assert stream.status_code == 200
                world.ask(world.role["admin"], "PATCH", member, {"role": "viewer"})
                for _ in stream.iter_raw():
                    pass  # it ends
            with pytest.raises(websockets.ConnectionClosed) as closed:
                while True:
                    await shell.recv()
            assert closed.value.rcvd.code == 1008

    asyncio.run(asyncio.wait_for(go(), 240))
    assert world.call(dave, "POST", f"/v1/sandboxes/{world.team_box}/exec", json={"command": "true"}).status_code == 403
    world.ask(world.role["admin"], "DELETE", member)
    assert world.call(dave, "GET", f"/v1/sandboxes/{world.team_box}").status_code == 404
    assert world.team_box not in world.call(dave, "GET", "/v1/sandboxes").text
