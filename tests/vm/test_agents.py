"""Real coding agents in real guests: each call passes the gateway, is priced, recorded, and bounded by the budget.

The agents are installed by the product, once a machine (npm fetches them into the images directory); the models are
tests/lib/modelserver.py, which bills truthfully by its own count.
"""

import csv
import io
import json
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import modelserver
import product

FIZZ = product.ROOT / "examples" / "fizz"
MEND = "cd /workspace && ./test.sh; sed -i 's/-lt \"$1\"/-le \"$1\"/' fizz.sh && ./test.sh"
# name, model, dollars per million tokens in and out, the tool that it calls, the cost that it claims
AGENTS = [
    pytest.param("claude-code", "claude-haiku-4-5", 1, 5, "Bash", True, id="claude-code"),
    pytest.param("codex", "gpt-5.2-codex", 1.75, 14, "exec_command", False, id="codex"),
]
ALL = ["claude-code", "codex"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A server whose provider is a model server, which knows the key that guests never see."""
    done = subprocess.run([product.CAGED, "agents", "install", *ALL], capture_output=True, text=True,
                          env={**os.environ, "CAGED_IMAGE_DIR": product.default_images()})
    assert done.returncode == 0, done.stderr
    key = tmp_path_factory.mktemp("key") / "key"
    key.write_text("sk-the-real-key\n")
    with modelserver.ModelServer(command=MEND) as model:
        providers = "".join(f"  {p}: {{base_url: '{model.url}', key_file: {key}}}\n"
                            for p in ("anthropic", "openai", "google"))
        with product.Server(config=f"network:\n  allow: ['127.0.0.1/32']\nproviders:\n{providers}") as server:
            yield server, model


@pytest.fixture(scope="module")
def guest(world):
    """One guest with every agent in it, and examples/fizz as a repository."""
    server, _ = world
    sandbox = server.create(agents=[*ALL[::-1], "claude"], memory_mb=1536, budget=5, network_mode="none")
    server.cli("cp", f"{FIZZ}/.", f"{sandbox.id}:/workspace")
    sandbox.run("cd /workspace && sh ./setup.sh")
    return sandbox


def closed(sandbox):
    return [e["data"] for e in sandbox.events("llm_call") if e["data"]["event"] == "close" and e["data"]["provider"]]


def test_agents_are_part_of_the_sandbox_under_their_own_names(guest):
    told = guest.get()
    assert told["template"] == "minimal" and told["agents"] == ALL
    assert guest.run("ls /usr/local/bin | tr '\\n' ' '").split() == ["claude", "codex"]
    listed = {a["name"]: a for a in guest.server.api("GET", "/v1/agents")}
    assert {"claude-code", "codex", "gemini", "aider", "opencode", "custom"} <= set(listed)
    assert listed["claude-code"]["aliases"] == ["claude"] and listed["claude-code"]["provider_key"]
    assert listed["claude-code"]["version"] in guest.run("claude --version")


@pytest.mark.parametrize("agent,model_name,pin,pout,tool,claims", AGENTS)
def test_an_agent_mends_a_project_and_every_call_is_priced_as_the_provider_billed_it(
        world, guest, agent, model_name, pin, pout, tool, claims):
    mend(world, guest, agent, model_name, pin, pout, tool, claims)


def mend(world, guest, agent, model_name, pin, pout, tool, claims):
    _, model = world
    guest.run("cd /workspace && git checkout -q fizz.sh && ! ./test.sh")
    before, requests, known = len(model.bill.calls), len(model.requests), len(closed(guest))
    done = guest.server.api("POST", guest.path + "/agent", {
        "agent": agent, "prompt": "Mend fizz.sh and run ./test.sh", "model": model_name, "timeout_ms": 600000})
    assert done["exit_code"] == 0 and done["agent"] == agent, done
    # it worked: the file is edited, its test passes, and nothing else has changed
    guest.run("cd /workspace && ./test.sh")
    assert guest.run("cd /workspace && git status --porcelain").split() == ["M", "fizz.sh"]
    # the provider's own count, to the nano-dollar
    bill = model.bill.calls[before:]
    billed = round(sum(c["input"] * pin + c["output"] * pout for c in bill) * 1000)
    product.wait_for("the calls are on disk", lambda: len(closed(guest)) - known == len(bill))
    calls = closed(guest)[known:]
    assert len(calls) >= 2 and [c["status"] for c in calls] == ["ok"] * len(calls)
    assert [tool] in [c["tool_calls"] for c in calls]
    assert sum(c["cost_nusd"] for c in calls) == billed and not any(c["estimated"] for c in calls)
    assert done["llm_calls"] == len(bill) and round(done["llm_cost"] * 1e9) == billed
    # the guest never saw the key, the provider never saw the guest's token
    for r in model.requests[requests:]:
        shown = r["headers"].get("x-api-key") or r["headers"].get("x-goog-api-key") or r["headers"]["Authorization"][7:]
        assert shown == "sk-the-real-key"
    assert "sk-the-real-key" not in guest.run("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'", user="root")
    # the money is found again by agent and by model
    def spent(by, name):
        rows = json.loads(guest.server.cli("cost", "--by", by, "--json").stdout)
        return round(sum(r["llm_cost"] for r in rows if r[by] == name) * 1e9)
    product.wait_for("its session tells the cost", lambda: spent("agent", agent) >= billed)
    assert spent("model", model_name) >= billed
    for by, column, name in (("agent", "agent_type", agent), ("model", "model", model_name)):
        row = next(r for r in guest.server.api("GET", f"/v1/billing/usage/export?group_by={by}") if r[column] == name)
        assert round(row["llm_cost_usd"] * 1e9) == spent(by, name) and row["sessions"] >= 1 and row["tokens_in"] >= sum(c["input"] for c in bill)
        table = list(csv.DictReader(io.StringIO(guest.server.call("GET", f"/v1/billing/usage/export?group_by={by}&format=csv").text)))
        assert next(r for r in table if r[column] == name)["llm_cost_usd"] == f"{row['llm_cost_usd']:.9f}"
    # what it says of itself is a claim, beside what was metered
    starts = [e["data"] for e in guest.events("command") if e["data"].get("agent")]
    assert starts[-1]["agent"] == agent and starts[-1]["origin"] == "agent"
    reports = [e for e in guest.events("claim") if e["data"]["agent"] == agent]
    if claims:
        assert round(done["claim"]["cost_usd"] * 1e9) == billed and done["claim"]["difference_usd"] == 0
        assert reports[-1]["src"] == "claim" and reports[-1]["data"]["cost_usd"] == done["claim"]["cost_usd"]
    elif "claim" in done:
        assert done["claim"]["tokens_in"] == sum(c["input"] for c in bill)


# Claude Code and Codex are in every run. These two start programs that are compiled while they run, which takes two to four
# minutes for a loop in an emulated guest: more than a run of everything has left.
@pytest.mark.skipif(os.environ.get("CAGED_LONG") != "1", reason="minutes in an emulated guest: CAGED_LONG=1")
@pytest.mark.parametrize("agent,template,model_name,pin,pout,tool", [
    pytest.param("gemini", "node-22", "gemini-2.5-pro", 1.25, 10, "run_shell_command", id="gemini"),
    pytest.param("opencode", "minimal", "claude-haiku-4-5", 1, 5, "bash", id="opencode"),
])
def test_agents_that_take_minutes_mend_a_project_too(world, agent, template, model_name, pin, pout, tool):
    server, _ = world
    done = subprocess.run([product.CAGED, "agents", "install", agent, "--template", template], capture_output=True, text=True,
                          env={**os.environ, "CAGED_IMAGE_DIR": product.default_images()})
    assert done.returncode == 0, done.stderr
    sandbox = server.create(template=template, agents=[agent], cpus=2, memory_mb=2048, budget=5, network_mode="none")
    server.cli("cp", f"{FIZZ}/.", f"{sandbox.id}:/workspace")
    sandbox.run("cd /workspace && sh ./setup.sh")
    mend(world, sandbox, agent, model_name, pin, pout, tool, False)
    sandbox.destroy()


def test_a_program_of_ones_own_is_run_with_the_prompt(guest):
    done = guest.server.api("POST", guest.path + "/agent", {
        "agent": "custom", "prompt": "it's me; $HOME", "env": {"AGENT_COMMAND": "printf '%s' \"$1\""}})
    assert done["output"] == "it's me; $HOME" and done["exit_code"] == 0 and "claim" not in done
    bare = guest.server.api("POST", guest.path + "/agent", {"agent": "custom", "prompt": "x"})
    assert bare["exit_code"] == 64 and "AGENT_COMMAND" in bare["output"]


def test_the_command_line_shows_costs_and_agents_of_what_runs(guest):
    server = guest.server
    top = server.cli("top", "--once").stdout
    line = next(line for line in top.splitlines() if line.startswith(guest.id))
    assert "running" in line and "claude-code" in line and "5.00" in line
    rows = json.loads(server.cli("cost", "--json").stdout)
    mine = next(r for r in rows if r["sandbox"] == guest.id)
    product.wait_for("the cost is live", lambda: abs(guest.get()["llm_cost"] - mine["llm_cost"]) < 1e-9)
    assert mine["cost"] > 0
    def together(by):
        return sum(r["llm_cost"] for r in json.loads(server.cli("cost", "--by", by, "--json").stdout))
    product.wait_for("every table adds up to the same", lambda: max(map(together, ("sandbox", "agent", "model")))
                     - min(map(together, ("sandbox", "agent", "model"))) < 1e-5)
    ran = server.cli("run-agent", guest.id, "--agent", "custom", "hello", check=False)
    assert ran.returncode == 64 and "custom: 0 calls" in ran.stderr
    assert "claude-code" in server.cli("agents", "list").stdout
    unknown = server.cli("run-agent", guest.id, "--agent", "nobody", "hello", check=False)
    assert unknown.returncode == 1 and "nobody" in unknown.stderr


def test_the_guard_ends_a_sandbox_whose_budget_is_used_up_and_keeps_its_disk(world):
    server, model = world
    before = model.bill.cost(1, 5)
    sandbox = server.create(agents=ALL, budget=0.05, memory_mb=1536)
    sandbox.exec("echo work > /workspace/work.txt; sync")
    with pytest.raises(product.Refused) as refused:
        done = server.api("POST", sandbox.path + "/agent", {
            "agent": "claude-code", "prompt": "Write hi into f.txt", "model": "claude-haiku-4-5"})
        assert done["exit_code"] == 0, done
    assert refused.value.status == 402 and refused.value.problem["reason"]["code"] == "budget_exceeded"
    product.wait_for("the sandbox has ended", lambda: sandbox.get()["status"] == "destroyed")
    ends = [e["data"] for e in sandbox.events("lifecycle") if e["data"]["event"] == "destroyed"]
    assert ends[-1]["reason"] == "budget_exceeded"
    assert model.bill.cost(1, 5) - before <= 0.05
    told = [e["data"]["event"] for e in sandbox.events("cost")]
    assert "budget_exceeded" in told
    [kept] = server.api("GET", f"/v1/sandboxes/{sandbox.id}/snapshots")
    assert kept["trigger"] == "budget" and kept["status"] == "completed"
