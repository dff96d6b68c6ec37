"""Sessions and replay: who acted in a sandbox, told from its record alone, in a real guest. One server and
one sandbox serve all; the last tests end it."""

import asyncio
import collections
import datetime
import json
import shutil
import subprocess

import pytest
import websockets

import product


@pytest.fixture(scope="module")
def stage():
    with product.Server() as server:
        yield server, server.create(memory_mb=256, disk_gb=1)


def sessions(stage, **want):
    server, box = stage
    listed = server.api("GET", f"{box.path}/sessions")
    return [s for s in listed if all(s[k] == v for k, v in want.items())]


def replay(server, session, at=None, **params):
    """All pages behind one another, of a session or of what `at` names."""
    events, after = [], params.pop("after_seq", 0)
    while True:
        page = server.call("GET", at or f"/v1/sessions/{session}/replay", params={"after_seq": after, **params}).json()
        events += page["events"]
        assert page["next_seq"] >= after
        after = page["next_seq"]
        if not page["has_more"]:
            return events


async def type_into_terminal(server, box, *lines):
    ticket = server.api("POST", "/v1/auth/socket-ticket")["ticket"]
    url = server.url.replace("http", "ws") + f"{box.path}/terminal?token={ticket}"
    async with websockets.connect(url) as ws:
        for line in lines:
            await ws.send(json.dumps({"type": "input", "data": line + "\n"}))
        async for text in ws:
            message = json.loads(text)
            if message["type"] == "exit":
                return message["code"]


def test_an_agent_is_known_by_its_program_wherever_it_is_started(stage):
    server, box = stage
    box.run("mkdir -p bin && cp /bin/sh bin/claude && echo 'echo hi > made.txt; sleep 1; ls /etc >/dev/null; exit 3' > work.sh")
    box.exec("cd /workspace && id -u; ./bin/claude work.sh; echo $?")
    [s] = product.wait_for("the session has ended", lambda: sessions(stage, kind="agent", status="failed"))
    assert s["agent_type"] == "claude-code" and s["opened_by"] == "process" and s["exit_code"] == 3
    assert s["sandbox_id"] == box.id and s["persona_id"] is None and s["trust_score"] in (None, *range(101))
    assert s["started_at"] < s["ended_at"] and s["duration_ms"] > 0
    assert s["tokens_in"] == s["tokens_out"] == 0 and s["llm_cost"] == 0
    assert s["total_cost"] == s["cost_usd"] == pytest.approx(s["llm_cost"] + s["compute_cost"])
    events = replay(server, s["id"])
    assert len(events) == s["event_count"]
    paths = [e["data"].get("path") for e in events if e["type"] == "file_op"]
    assert "/workspace/made.txt" in paths
    programs = [e["data"]["exe"] for e in events if e["type"] == "process" and e["data"]["event"] == "exec"]
    assert any(p.endswith("/ls") for p in programs), "what it started is its doing"
    assert not any(p.endswith("/id") for p in programs), "what was there before it is not"
    assert all(e["session_id"] == s["id"] for e in events)
    assert [e["sequence"] for e in events] == sorted({e["sequence"] for e in events})


def test_a_command_of_the_api_opens_no_session(stage):
    server, box = stage
    before = len(sessions(stage))
    box.run("true && ls / >/dev/null")
    assert len(sessions(stage)) == before
    page = server.call("GET", f"{box.path}/replay", params={"type": "command", "limit": 1000}).json()
    mine = [e for e in page["events"] if e["data"].get("shell") == "true && ls / >/dev/null"]
    assert mine and mine[0]["session_id"] is None


def test_an_agent_that_only_tells_its_version_is_none(stage):
    _, box = stage
    before = len(sessions(stage))
    box.exec("/workspace/bin/claude --version")
    assert len(sessions(stage)) == before


def test_a_terminal_is_a_session_with_its_bytes_and_an_agent_in_it_is_one_of_its_own(stage):
    server, box = stage
    asyncio.run(type_into_terminal(server, box, "stty -echo", "echo in-terminal-$((40+2))", "cp /bin/sh bin/codex",
                                   "bin/codex -c 'echo x > by-codex; true'", "exit 0"))
    [t] = product.wait_for("the terminal's session has ended", lambda: sessions(stage, kind="terminal", status="completed"))
    [a] = sessions(stage, agent_type="codex")
    assert t["opened_by"] == "terminal" and t["agent_type"] is None
    told = "".join(e["data"].get("text", "") for e in replay(server, t["id"], type="terminal") if e["data"]["dir"] == "out")
    assert "in-terminal-42" in told
    assert "/workspace/by-codex" in [e["data"]["path"] for e in replay(server, a["id"], type="file_op")]
    assert "/workspace/by-codex" not in [e["data"]["path"] for e in replay(server, t["id"], type="file_op")]
    assert "/workspace/bin/codex" in [e["data"]["path"] for e in replay(server, t["id"], type="file_op")]


def test_a_terminal_is_played_again_and_can_only_show(stage):
    server, box = stage
    asyncio.run(type_into_terminal(server, box, "stty -echo", r"printf 'see\033]0;\145vil\007n\033[6n \033[1mbold\033[0m\n'",
                                   "exit 0"))
    t = product.wait_for("its session has ended", lambda: len(sessions(stage, kind="terminal", status="completed")) > 1
                         and sessions(stage, kind="terminal")[0])
    played = server.cli("replay", t["id"], "--speed", "1000", "--idle", "0.01", text=False).stdout
    assert b"seen \x1b[1mbold" in played and b"evil" not in played and b"\x1b[6n" not in played
    path = server.dir / "session.cast"
    server.cli("replay", t["id"], "--export", path, "--idle", "0.1")
    head, *events = map(json.loads, path.read_text().splitlines())
    assert head["version"] == 2 and head["width"] > 0 and head["height"] > 0
    assert [e[0] for e in events] == sorted(e[0] for e in events)
    assert "evil" in "".join(e[2] for e in events if e[1] == "o"), "an export is what was"
    assert any(e[1] == "i" for e in events)
    shown = subprocess.run(["script", "-qec", f"asciinema cat {path}", "/dev/null"], capture_output=True, check=True,
                           stdin=subprocess.DEVNULL, env={**server.env, "HOME": str(server.dir), "LC_ALL": "C.UTF-8"})
    assert b"bold" in shown.stdout


def test_pages_filters_and_summary_tell_the_same_events(stage):
    server, _ = stage
    s = sessions(stage, agent_type="claude-code")[0]
    whole = replay(server, s["id"])
    assert replay(server, s["id"], limit=1) == whole, "in pages of one"
    summary = server.api("GET", f"/v1/sessions/{s['id']}/replay/summary")
    assert summary["event_count"] == len(whole)
    assert sum(summary["types"].values()) == len(whole)
    for kind, count in summary["types"].items():
        part = replay(server, s["id"], type=kind)
        assert part == [e for e in whole if e["type"] == kind] and len(part) == count
        page = server.call("GET", f"/v1/sessions/{s['id']}/replay", params={"type": kind}).json()
        assert page["total"] == count
    assert replay(server, s["id"], q="MADE.txt") == [e for e in whole if "made.txt" in json.dumps(e["data"])
                                                    and e["type"] in ("file_op", "process", "command")]
    middle = next(e for e in whole if e["type"] == "process" and e["data"].get("exe", "").endswith("/ls"))
    got = replay(server, s["id"], **{"from": middle["timestamp"]})
    assert got and got == whole[-len(got):] and len(got) < len(whole)
    start = datetime.datetime.fromisoformat(middle["timestamp"])
    assert all(datetime.datetime.fromisoformat(e["timestamp"]) >= start for e in got)
    assert replay(server, s["id"], **{"from": "0", "to": "100000"}) == whole
    assert replay(server, s["id"], **{"from": "90000"}) == []


def test_an_overview_counts_what_a_whole_reading_counts_up_to_any_moment(stage):
    server, box = stage
    whole = replay(server, None, box.path + "/replay")
    kind = lambda e: "ledger" if e["type"] == "cost" and e["data"]["event"] == "ledger" else e["type"]  # noqa: E731
    for last in (whole[len(whole) // 3], whole[-1]):
        then = [e for e in whole if e["t_ms"] <= last["t_ms"]]
        seen = server.api("GET", f"{box.path}/replay/summary?slots=50&to={last['t_ms'] / 1000 + 1e-7:.9f}")
        assert seen["last_seq"] == then[-1]["sequence"]
        assert seen["types"] == dict(collections.Counter(map(kind, then)))
        assert {k: sum(v) for k, v in seen["slots"].items()} == seen["types"]
        assert seen["sum"]["commands"] == sum(e["type"] == "command" and e["data"]["phase"] == "start" for e in then)
        assert seen["sum"]["compute_nusd"] == sum(e["data"]["row"]["nusd"] for e in then if kind(e) == "ledger" and e["data"]["row"]["row"] == "compute")
    s = sessions(stage, agent_type="claude-code")[0]
    of_it = server.api("GET", f"{box.path}/replay/summary?session={s['id']}")
    assert sum(of_it["types"].values()) == of_it["event_count"] == len(replay(server, s["id"]))
    commands = [e for e in whole if e["type"] == "command"]
    page = server.api("GET", f"{box.path}/replay?type=command&skip=2&limit=2&rank=true")
    assert page["events"] == commands[2:4] and page["rank"] == 2
    before = commands[3]["sequence"]
    assert server.api("GET", f"{box.path}/replay?type=command&last=true&before_seq={before}&limit=2")["events"] == commands[1:3]
    for wrong in ("replay?last=true&skip=1", "replay?before_seq=0", "replay/summary?slots=2001", "replay/summary?to=-1", "replay/summary?session=sess-nobodys"):
        with pytest.raises(product.Refused):
            server.api("GET", f"{box.path}/{wrong}")


@pytest.mark.parametrize("params,word", [
    ({"type": "nonsense"}, "nonsense"), ({"after_seq": -1}, "after_seq"), ({"limit": 0}, "limit"),
    ({"from": "yesterday"}, "from"), ({"from": "1", "to": "2030-01-01T00:00:00Z"}, "seconds"),
])
def test_a_wrong_filter_is_named(stage, params, word):
    server, _ = stage
    s = sessions(stage)[0]
    answer = server.call("GET", f"/v1/sessions/{s['id']}/replay", params=params)
    assert answer.status_code == 400 and word in answer.json()["detail"]


def test_claims_are_kept_apart_and_count_for_nothing(stage):
    server, box = stage
    now = datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
    s = sessions(stage, agent_type="claude-code")[0]
    events = [{"type": "llm_call", "timestamp": now, "session_id": s["id"], "payload": {"model": "x", "tokens_in": 10**6, "cost_usd": 99}},
              {"type": "made-up", "timestamp": now, "sandbox_id": box.id, "meta": {"k": "v"}},
              {"type": "command", "sandbox_id": box.id},
              {"type": "command", "timestamp": now, "sandbox_id": "cage-aaaaaaaaaa"},
              {"type": "command", "timestamp": now, "sandbox_id": box.id, "session_id": "sess-aaaaaaaaaa"},
              {"type": "file_op", "timestamp": now, "sandbox_id": box.id, "payload": {"path": "/claimed"}}]
    answer = server.api("POST", "/v1/events/ingest", {"events": events})
    assert answer["accepted"] == 3 and [e["index"] for e in answer["errors"]] == [2, 3, 4]
    after = server.api("GET", f"/v1/sessions/{s['id']}")
    assert after["tokens_in"] == 0 and after["total_cost"] == s["total_cost"]
    [claim] = replay(server, s["id"], type="claim")
    assert claim["source"] == "claim" and claim["data"]["payload"]["tokens_in"] == 10**6
    kinds = [e["data"]["type"] for e in
             server.call("GET", f"{box.path}/replay", params={"type": "claim"}).json()["events"]]
    assert kinds == ["llm_call", "other", "file_op"]
    assert server.call("POST", "/v1/events/ingest", json={"events": [{}] * 1001}).status_code == 400
    many = server.api("POST", "/v1/events/ingest", {"events": [{**events[5], "payload": {"n": i}} for i in range(1000)]})
    assert many == {"accepted": 1000, "errors": []}


def test_all_of_the_account_are_listed_newest_first_in_pages(stage):
    server, _ = stage
    whole = server.api("GET", "/v1/sessions?per_page=100")
    assert whole["pagination"]["total"] == len(whole["data"]) == len(sessions(stage))
    starts = [s["started_at"] for s in whole["data"]]
    assert starts == sorted(starts, reverse=True)
    pages = [server.api("GET", f"/v1/sessions?per_page=1&page={i + 1}") for i in range(len(starts))]
    assert [p["data"][0]["id"] for p in pages] == [s["id"] for s in whole["data"]]
    assert pages[0]["pagination"] == {"page": 1, "per_page": 1, "total": len(starts), "total_pages": len(starts)}
    assert server.call("GET", "/v1/sessions?page=0").status_code == 400
    assert server.call("GET", "/v1/sessions/sess-aaaaaaaaaa").status_code == 404


def test_the_live_stream_goes_on_where_the_last_page_ended(stage):
    server, box = stage
    page = server.call("GET", f"{box.path}/replay", params={"after_seq": 0, "limit": 1000}).json()
    while page["has_more"]:
        page = server.call("GET", f"{box.path}/replay", params={"after_seq": page["next_seq"], "limit": 1000}).json()
    box.run("echo after-the-page")
    with server.events(sandbox_id=box.id, after_seq=page["next_seq"]) as seen:
        product.wait_for("the next line comes", lambda: seen)
        assert seen[0]["data"]["seq"] == page["next_seq"] + 1


def test_sessions_outlive_the_server_their_sandbox_and_the_index(stage):
    server, box = stage
    box.exec("(exec bin/claude -c 'sleep 1000' >/dev/null 2>&1 &)")
    [live] = product.wait_for("an agent is at work", lambda: sessions(stage, status="active", agent_type="claude-code"))
    server.kill()
    server.start()
    product.wait_for("the sandbox is adopted", lambda: box.get()["status"] == "running")
    assert live["id"] in [s["id"] for s in sessions(stage, status="active")]
    box.destroy()
    ended = product.wait_for("all have ended", lambda: not sessions(stage, status="active") and sessions(stage))
    [last] = [s for s in ended if s["id"] == live["id"]]
    assert last["ended_at"] and last["reason"]
    events = {s["id"]: replay(server, s["id"]) for s in ended}
    assert all(len(events[s["id"]]) == s["event_count"] > 0 for s in ended)
    # the index is made of the records alone
    server.stop()
    shutil.rmtree(server.state / "index")
    server.start()
    product.wait_for("the sessions are found again", lambda: sessions(stage) == ended)
    assert {s["id"]: replay(server, s["id"]) for s in ended} == events
