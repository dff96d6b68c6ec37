"""Budgets and the gateway from inside real guests: what calls a provider by its own name, what is nobody's provider,
prices that change while a sandbox runs, and what happens to the work when money ends."""

import json
import os
import pathlib
import signal
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import modelserver
import product

SHAPE = {"memory_mb": 256, "cpus": 1}
BODY = {"model": "claude-haiku-4-5", "max_tokens": 300, "stream": True, "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    key = tmp_path_factory.mktemp("keys") / "key"
    key.write_text("sk-the-real-key\n")
    with modelserver.ModelServer(words=40) as model:
        providers = "".join(f"  {p}: {{base_url: '{model.url}', key_file: {key}}}\n" for p in ("anthropic", "local"))
        with product.Server(config=f"network:\n  allow: ['127.0.0.1/32']\nproviders:\n{providers}") as server:
            yield server, model


def call(sandbox, url, body=BODY, head=""):
    """Status and text of a call made in the guest."""
    done = sandbox.exec(f"curl -s -m 60 -w '\\n%{{http_code}}' {head} -H 'content-type: application/json' "
                        f"-d '{json.dumps(body)}' {url}")
    text, _, status = done["output"].rpartition("\n")
    if not status.isdigit():  # the guard ended the guest, and curl, before it said so
        return 0, done["output"]
    return int(status), text


def closed(sandbox):
    return [e["data"] for e in sandbox.events("llm_call") if e["data"]["event"] == "close"]


def test_a_call_to_the_providers_own_name_passes_the_gateway_even_without_a_network(world):
    server, model = world
    sandbox = server.create(network_mode="none", **SHAPE)
    before = len(model.bill.calls)
    status, text = call(sandbox, "https://api.anthropic.com/v1/messages", head="-H 'x-api-key: sk-of-the-guest'")
    assert status == 200 and "message_stop" in text
    assert len(model.bill.calls) == before + 1
    assert model.requests[-1]["headers"]["x-api-key"] == "sk-the-real-key"
    product.wait_for("it is on record", lambda: len(closed(sandbox)) == 1)
    [done] = closed(sandbox)
    assert done["status"] == "ok" and done["cost_nusd"] == round(
        (model.bill.calls[-1]["input"] * 1.0 + model.bill.calls[-1]["output"] * 5.0) * 1000)
    [opened] = [e["data"] for e in sandbox.events("llm_call") if e["data"]["event"] == "open"]
    assert opened["intercepted"] is True
    # over TLS the base URL works too, with the run token alone
    base = sandbox.run("echo $CAGED_GATEWAY").replace("http://", "https://")
    assert call(sandbox, base + "/v1/messages")[0] == 200
    sandbox.destroy()


def test_hosts_of_models_that_the_gateway_does_not_serve_are_refused_and_recorded(world):
    server, _ = world
    sandbox = server.create(**SHAPE)
    assert call(sandbox, "https://api.mistral.ai/v1/chat/completions")[0] == 0
    # not by its address either: 127.0.0.1 is open to sandboxes here, the name in the hello is what counts
    port = server.url.rsplit(":", 1)[1]
    assert call(sandbox, "https://api.groq.com/v1/x", head="--resolve api.groq.com:443:172.30.0.1")[0] == 0
    refused = product.wait_for("both are on record", lambda: [
        e["data"] for kind in ("dns", "network") for e in sandbox.events(kind)
        if e["data"].get("rule") == "models without the gateway"][:2])
    assert {r.get("name") for r in refused} >= {"api.mistral.ai"}, (refused, port)
    sandbox.destroy()


def test_a_model_without_a_price_is_refused_under_a_budget_until_one_is_set_while_it_runs(world):
    server, _ = world
    sandbox = server.create(budget=5, **SHAPE)
    base = sandbox.run("echo $CAGED_GATEWAY")
    body = {**BODY, "model": "house-model-7"}
    status, text = call(sandbox, f"{base}/local/v1/messages", body)
    assert status == 400 and "caged prices set house-model-7 --provider local" in text
    assert "house-model-7" in server.cli("prices", "set", "house-model-7", "--provider", "local", "--input", "2",
                                         "--output", "10").stdout
    assert product.wait_for("the price is taken", lambda: call(sandbox, f"{base}/local/v1/messages", body)[0] == 200)
    product.wait_for("it is priced", lambda: [c for c in closed(sandbox) if c["priced"] and c["cost_nusd"]])
    assert [e["data"] for e in sandbox.events("cost") if e["data"]["event"] == "prices"]
    # without a budget it passes unpriced, and that is seen
    free = server.create(**SHAPE)
    base = free.run("echo $CAGED_GATEWAY")
    assert call(free, f"{base}/local/v1/messages", {**BODY, "model": "house-model-8"})[0] == 200
    product.wait_for("the call is closed", lambda: closed(free))
    assert closed(free)[0]["cost_nusd"] is None and closed(free)[0]["priced"] is False
    assert product.wait_for("it is counted", lambda: free.get().get("unpriced_calls")) == 1
    free.destroy()
    sandbox.destroy()


def test_at_the_end_of_the_money_the_work_becomes_a_snapshot_and_the_sandbox_ends(world):
    server, model = world
    sandbox = server.create(budget=0.004, **SHAPE)
    base = sandbox.run("echo work > /workspace/work.txt; sync; echo $CAGED_GATEWAY")
    bill = len(model.bill.calls)
    for _ in range(30):
        try:
            if call(sandbox, base + "/v1/messages")[0] != 200:
                break
        except (product.Refused, AssertionError):
            break
    else:
        raise AssertionError("the budget never ended")
    product.wait_for("it has ended", lambda: sandbox.get()["status"] == "destroyed", 120)
    assert sum(c["input"] * 1000 + c["output"] * 5000 for c in model.bill.calls[bill:]) <= 4_000_000
    record = sandbox.record()
    events = [e["data"].get("event") for e in record]
    end = events.index("budget_exceeded")
    assert "budget_guard" in events[end:], "the guest was stopped"
    # behind the end of the money no hold is begun; a call that has its hold already may still go out
    held = [(i, e["data"]["row"]["call"]) for i, e in enumerate(record)
            if e["type"] == "cost" and e["data"].get("row", {}).get("row") == "reserve"]
    assert held and all(i < end for i, _ in held)
    opened = {e["data"]["call"] for e in record[end:] if e["type"] == "llm_call" and e["data"]["event"] == "open"}
    assert opened <= {call for _, call in held}
    [snap] = server.api("GET", f"/v1/sandboxes/{sandbox.id}/snapshots")
    assert snap["trigger"] == "budget" and snap["status"] == "completed"
    again = product.Sandbox(server, server.api("POST", "/v1/sandboxes", {"snapshot_id": snap["id"]}))
    assert again.run("cat /workspace/work.txt") == "work"
    again.destroy()


def test_a_sandbox_may_be_paused_instead_and_goes_on_when_its_budget_is_raised(world):
    server, _ = world
    sandbox = server.create(budget_tokens=2000, budget_action="pause", **SHAPE)
    base = sandbox.run("echo work > /tmp/work.txt; echo $CAGED_GATEWAY")
    for _ in range(30):
        try:
            if call(sandbox, base + "/v1/messages")[0] != 200:
                break
        except (product.Refused, AssertionError):
            break
    product.wait_for("it is paused", lambda: sandbox.get()["status"] == "paused", 120)
    assert sandbox.get()["pause_reason"] == "budget_exceeded" and 0 < sandbox.get()["llm_tokens"] <= 2000
    server.cli("budget", sandbox.id, "set", "--tokens", "100000")
    server.api("POST", sandbox.path + "/resume")
    assert sandbox.run("cat /tmp/work.txt") == "work"
    assert call(sandbox, base + "/v1/messages")[0] == 200
    sandbox.destroy()


def test_sandboxes_of_an_account_share_a_months_budget_in_slices(world):
    server, _ = world
    running = server.create(**SHAPE)
    assert server.api("PUT", "/v1/account/budget", {"budget": 0.02})["left"] == 0.02
    try:
        pair = [running, server.create(**SHAPE)]
        bases = [s.run("echo $CAGED_GATEWAY") for s in pair]
        assert [call(s, b + "/v1/messages")[0] for s, b in zip(pair, bases)] == [200, 200]
        seen = server.api("GET", "/v1/account/budget")
        assert seen["spent"] + seen["leased"] + seen["left"] <= 0.02 + 1e-9 and seen["spent"] > 0
        # two pictures may be 16,384 tokens and are few: what one was lent for them goes to the other when it asks for as much
        server.api("PUT", "/v1/account/budget", {"budget": 0.03})
        picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
        seen_twice = {**BODY, "messages": [{"role": "user", "content": [picture, picture]}]}
        assert call(pair[0], bases[0] + "/v1/messages", seen_twice)[0] == 200
        lent = product.wait_for("it is settled", lambda: (
            lambda b: b if b["leased"] > 0.012 else None)(server.api("GET", "/v1/account/budget")))
        assert lent["left"] < 0.016
        assert call(pair[1], bases[1] + "/v1/messages", seen_twice)[0] == 200
        seen = server.api("GET", "/v1/account/budget")
        assert seen["spent"] + seen["leased"] + seen["left"] <= 0.03 + 1e-9
        pair[0].destroy()
        after = product.wait_for("what was in hand comes back", lambda: (
            lambda b: b if b["leased"] < seen["leased"] else None)(server.api("GET", "/v1/account/budget")))
        assert after["spent"] > 0
        server.api("PUT", "/v1/account/budget", {"budget": 0.000001})
        refused = server.call("POST", "/v1/sandboxes", json={"template": "minimal", **SHAPE})
        assert refused.status_code >= 400 and "budget" in refused.json()["detail"]
        pair[1].destroy()
    finally:
        server.api("PUT", "/v1/account/budget", {"budget": None})


def test_a_months_budget_that_came_while_a_sandbox_was_paused_binds_it_and_one_that_went_does_not(world):
    server, _ = world
    sandbox = server.create(**SHAPE)
    base = sandbox.run("echo $CAGED_GATEWAY")
    assert call(sandbox, base + "/v1/messages")[0] == 200  # its ledger knows no lease
    server.api("POST", sandbox.path + "/pause")
    product.wait_for("it is paused", lambda: sandbox.get()["status"] == "paused")
    try:
        server.api("PUT", "/v1/account/budget", {"budget": 0.02})
        server.api("POST", sandbox.path + "/resume")
        product.wait_for("it runs", lambda: sandbox.get()["status"] == "running")
        assert call(sandbox, base + "/v1/messages")[0] == 200
        seen = product.wait_for("the month pays", lambda: (
            lambda b: b if b["spent"] > 0 else None)(server.api("GET", "/v1/account/budget")))
        assert seen["spent"] + seen["leased"] + seen["left"] <= 0.02 + 1e-9
        server.api("POST", sandbox.path + "/pause")
        product.wait_for("it is paused again", lambda: sandbox.get()["status"] == "paused")
    finally:
        server.api("PUT", "/v1/account/budget", {"budget": None})
    server.api("POST", sandbox.path + "/resume")
    product.wait_for("it runs without a budget", lambda: sandbox.get()["status"] == "running")
    assert call(sandbox, base + "/v1/messages", {**BODY, "model": "claude-opus-4-1"})[0] == 200  # dearer than its old lease
    assert sandbox.get()["status"] == "running"
    sandbox.destroy()


def rows(sandbox):
    """Of calls, as they are on disk now."""
    return [e["data"]["row"] for e in sandbox.events("cost") if e["data"]["event"] == "ledger" and "call" in e["data"]["row"]]


def test_a_warden_that_is_killed_at_any_step_of_a_call_leaves_no_more_to_spend(world):
    """With one, three and six rows of calls on disk; the last time the server is killed, too."""
    server, model = world
    sandboxes = [server.create(**SHAPE) for _ in range(3)]
    bases = [s.run("echo $CAGED_GATEWAY") for s in sandboxes]
    server.api("PUT", "/v1/account/budget", {"budget": 3})
    model.mode = "slow"
    try:
        for sandbox, base, step in zip(sandboxes, bases, (1, 3, 6)):
            bill, spent = len(model.bill.calls), server.api("GET", "/v1/account/budget")["spent"]
            three = f"for i in 1 2 3; do curl -s -m 60 -d '{json.dumps(BODY)}' {base}/v1/messages >/dev/null & done; wait"

            def work(sandbox=sandbox, three=three):
                try:
                    sandbox.exec(three)
                except (product.Refused, product.httpx.HTTPError):
                    pass  # its sandbox ends under it

            worker = threading.Thread(target=work, daemon=True)
            worker.start()
            product.wait_for(f"{step} rows are on disk", lambda s=sandbox, n=step: len(rows(s)) >= n, every=0.01)
            [warden] = [pid for pid, line in product.processes_naming(sandbox.id).items() if "warden" in line]
            if step == 6:
                server.kill()
            os.kill(warden, signal.SIGKILL)
            if step == 6:
                server.start()
            product.wait_for("it is an error", lambda s=sandbox: s.get()["status"] == "error", 60)
            worker.join(60)
            on_disk = rows(sandbox)
            reserved = {r["call"] for r in on_disk if r["row"] == "reserve"}
            reached = model.bill.calls[bill:]
            billed = sum(c["input"] * 1000 + c["output"] * 5000 for c in reached)
            assert len(reached) <= len(reserved), "a call went upstream before its reserve was on disk"
            assert round(sandbox.get()["llm_cost"] * 1e9) >= billed, (step, on_disk)
            after = product.wait_for("what it had comes back", lambda: (
                lambda b: b if round((b["spent"] - spent) * 1e9) >= billed else None)(server.api("GET", "/v1/account/budget")))
            assert after["spent"] + after["leased"] + after["left"] <= 3 + 1e-9
    finally:
        model.mode = None
        server.api("PUT", "/v1/account/budget", {"budget": None})
        for sandbox in sandboxes:
            sandbox.destroy()
