"""Prices, subscription, usage; and that nobody is charged."""

import csv
import datetime
import io
import json
import re
import sqlite3
import subprocess

import httpx
import pytest

import product

RATES = {"vcpu_hour": 0.01, "memory_gb_hour": 0.005, "disk_gb_hour": 0.001, "egress_gb": 0.01}


def test_prices_are_public(server):
    answer = httpx.get(server.url + "/v1/pricing").json()
    assert answer["currency"] == "USD" and answer["compute"] == RATES and answer["charged_while"] == "running"


def test_a_subscription_without_a_provider_is_active_and_ends_with_the_month(server):
    got = server.api("GET", "/v1/billing/subscription")
    assert (got["tier"], got["status"], got["customer_id"], got["cancel_at_period_end"], got["trial_ends_at"]) == ("owner", "active", None, False, None)
    end = datetime.datetime.fromisoformat(got["current_period_end"].replace("Z", "+00:00"))
    assert end.day == 1 and 0 < (end - datetime.datetime.now(datetime.timezone.utc)).days + 1 <= 31
    assert set(got["usage"]) == {"compute_hours", "llm_cost_usd", "total_cost_usd", "sandboxes_created"}


@pytest.mark.parametrize("path, body", [("checkout", {"plan_id": "pro"}), ("checkout", {"plan": "pro"}), ("portal", {}), ("cancel", None)])
def test_what_needs_a_payment_provider_says_so(server, path, body):
    with pytest.raises(product.Refused) as e:
        server.api("POST", f"/v1/billing/{path}", body)
    assert e.value.status == 501 and e.value.problem["reason"]["code"] == "billing_provider_not_configured"


def test_a_checkout_without_a_plan_is_none(server):
    with pytest.raises(product.Refused) as e:
        server.api("POST", "/v1/billing/checkout", {})
    assert e.value.status == 400 and "plan_id" in e.value.problem["detail"]


@pytest.mark.parametrize("query, word", [("from=yesterday", "from"), ("to=2026-1-1", "to"), ("group_by=week", "sandbox_day, day, sandbox, agent, model"), ("format=xml", "format")])
def test_wrong_questions_are_named(server, query, word):
    with pytest.raises(product.Refused) as e:
        server.api("GET", "/v1/billing/usage/export?" + query)
    assert e.value.status == 400 and word in e.value.problem["detail"]


def put_usage(server, rows):
    """Rows of days gone by, as the server keeps them."""
    account = server.api("GET", "/v1/account")["id"]
    server.stop()
    with sqlite3.connect(server.state / "server.db") as db:
        for day, sandbox, compute, llm, ms, owner in rows:
            doc = f'{{"day":"{day}","sandbox":"{sandbox}","compute":{compute},"llm":{llm},"ms":{ms}}}'
            db.execute("INSERT INTO item (kind, id, account, doc) VALUES ('usage', ?, ?, ?)", (f"{day}/{sandbox}", owner or account, doc))
    server.start()


def test_usage_is_told_by_sandbox_and_day_and_outlives_the_server():
    with product.Server() as server:
        put_usage(server, [
            ("2026-01-01", "cage-aaaaaaaa", 30_000_000, 1_000_000_000, 3_600_000, None),
            ("2026-01-01", "cage-bbbbbbbb", 1, 2, 500, None),
            ("2026-01-02", "cage-aaaaaaaa", 60_000_000, 0, 7_200_000, None),
            ("2026-01-02", "cage-cccccccc", 10**9, 10**9, 10**6, "acc-somebodyelse"),
        ])
        rows = server.api("GET", "/v1/billing/usage/export")
        assert [(r["day"], r["sandbox_id"]) for r in rows] == [
            ("2026-01-01", "cage-aaaaaaaa"), ("2026-01-01", "cage-bbbbbbbb"), ("2026-01-02", "cage-aaaaaaaa")]
        assert rows[0] == {"day": "2026-01-01", "sandbox_id": "cage-aaaaaaaa", "running_seconds": 3600, "compute_cost_usd": 0.03,
                           "llm_cost_usd": 1, "total_cost_usd": 1.03}
        days = server.api("GET", "/v1/billing/usage/export?group_by=day")
        assert [(d["day"], d["running_seconds"]) for d in days] == [("2026-01-01", 3600.5), ("2026-01-02", 7200)]
        boxes = server.api("GET", "/v1/billing/usage/export?group_by=sandbox")
        assert [(b["sandbox_id"], b["running_seconds"]) for b in boxes] == [("cage-aaaaaaaa", 10800), ("cage-bbbbbbbb", 0.5)]
        assert [r["day"] for r in server.api("GET", "/v1/billing/usage/export?from=2026-01-02&to=2026-01-02")] == ["2026-01-02"]
        answer = server.call("GET", "/v1/billing/usage/export?format=csv")
        assert answer.headers["content-type"].startswith("text/csv") and "attachment" in answer.headers["content-disposition"]
        table = list(csv.DictReader(io.StringIO(answer.text)))
        assert len(table) == 3 and table[1] == {"day": "2026-01-01", "sandbox_id": "cage-bbbbbbbb", "running_seconds": "0.500",
                                                "compute_cost_usd": "0.000000001", "llm_cost_usd": "0.000000002", "total_cost_usd": "0.000000003"}
        total = server.api("GET", "/v1/billing/usage")
        assert total["compute_minutes"] == pytest.approx(10800.5 / 60) and total["pending_seconds"] == 10800.5
        assert total["reported_minutes"] == 0 and total["last_reported_at"] is None


def test_a_sandboxs_rows_add_up_to_its_cost_across_a_kill():
    with product.Server() as server:
        box = server.create(cpus=1, memory_mb=256, disk_gb=1)

        def row():
            return [r for r in server.api("GET", "/v1/billing/usage/export?group_by=sandbox") if r["sandbox_id"] == box.id]

        first = product.wait_for("it is counted", row)[0]
        server.kill()
        server.start()
        assert row()[0]["compute_cost_usd"] >= first["compute_cost_usd"]
        before = row()[0]["running_seconds"]
        product.wait_for("it goes on", lambda: row()[0]["running_seconds"] > before)
        box.destroy()
        cost = server.api("GET", f"/v1/sandboxes/{box.id}")["cost"]
        assert row()[0]["compute_cost_usd"] == pytest.approx(cost, abs=2e-9)
        hour = 0.01 + 0.005 * 256 / 1024 + 0.001
        assert row()[0]["running_seconds"] == pytest.approx(cost / hour * 3600, abs=0.1)
        assert server.api("GET", "/v1/billing/subscription")["usage"]["sandboxes_created"] == 1


# --- plans and statements ---

PLANS = """
machine: {vcpu_hour: 0.02, gib_hour: 0.01, disk_gib_hour: 0.002}
accounts: {signup: open, plan: free, plans: {big@example.org: pro}}
plans:
  free: {compute_hours: 10, sandboxes: 1, requests_per_minute: 61, keys: 1, memory_mb: 512, timeout: 600}
  pro: {price: 29, compute_hours: 2, requests_per_minute: 300}
"""


def person(server, name):
    answer = httpx.post(server.url + "/v1/auth/signup", json={"email": f"{name}@example.org", "password": "correct horse"}, timeout=60)
    assert answer.status_code == 201, answer.text
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {answer.json()['token']}"}, timeout=300)


@pytest.fixture(scope="module")
def planned():
    with product.Server(config=PLANS) as s:
        yield s


def test_plans_are_the_operators_and_public(planned):
    told = httpx.get(planned.url + "/v1/pricing").json()
    assert {p["name"]: (p["price_usd"], p["compute_hours"], p["sandboxes"], p["keys"]) for p in told["plans"]} == {
        "free": (0, 10, 1, 1), "pro": (29, 2, None, None)}
    assert told["compute"] == {"vcpu_hour": 0.02, "memory_gb_hour": 0.01, "disk_gb_hour": 0.002, "egress_gb": 0.01}
    small, big = person(planned, "small"), person(planned, "big")
    assert small.get("/v1/billing/subscription").json()["tier"] == "free" and big.get("/v1/billing/subscription").json()["limits"]["price_usd"] == 29
    owner = planned.api("GET", "/v1/billing/subscription")
    assert owner["tier"] == "owner" and owner["limits"] is None
    assert small.get("/v1/account").headers["x-ratelimit-limit"] == "61" and big.get("/v1/account").headers["x-ratelimit-limit"] == "300"
    assert small.post("/v1/account/keys", json={"name": "one"}).status_code == 201
    refused = small.post("/v1/account/keys", json={"name": "two"})
    assert refused.status_code == 403 and refused.json()["reason"]["code"] == "plan_limit_reached"
    assert big.post("/v1/account/keys", json={"name": "one"}).status_code == big.post("/v1/account/keys", json={"name": "two"}).status_code == 201


def test_a_plan_bounds_what_runs(planned):
    who = person(planned, "runner")
    wish = {"template": "minimal", "memory_mb": 256, "disk_gb": 1, "timeout": 90000}
    refused = who.post("/v1/sandboxes", json={**wish, "memory_mb": 1024})
    assert refused.status_code == 403 and "512 MB" in refused.json()["detail"]
    box = who.post("/v1/sandboxes", json=wish)
    assert box.status_code == 201 and box.json()["timeout"] == 600, box.text
    second = who.post("/v1/sandboxes", json=wish)
    assert second.status_code == 403 and second.json()["reason"]["code"] == "plan_limit_reached" and "1 sandboxes" in second.json()["detail"]
    assert who.delete(f"/v1/sandboxes/{box.json()['id']}").status_code == 204
    third = who.post("/v1/sandboxes", json=wish)
    assert third.status_code == 201, "what is destroyed counts no more"
    assert who.delete(f"/v1/sandboxes/{third.json()['id']}").status_code == 204


@pytest.mark.parametrize("config, word", [
    ("plans: {free: {sandboxes: none}}", "sandboxes"), ("plans: {free: {price: cheap}}", "config"), ("plans: {free: {speed: 9}}", "speed|unknown key"),
    ("accounts: {plan: gold}", "no plan gold"), ("accounts: {plans: {a@example.org: gold}}", "no plan gold"), ("plans: {free: 3}", "map of limits")])
def test_plans_that_are_none_are_refused_at_the_start(config, word, tmp_path):
    (tmp_path / "config.yaml").write_text(config)
    done = subprocess.run([product.LIBEXEC / "caged-server", "--state-dir", tmp_path / "state", "--config", tmp_path / "config.yaml"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and re.search(word, done.stderr) and "config.yaml" in done.stderr, done.stderr


def test_a_month_is_a_statement_with_what_the_plan_includes():
    config = "accounts: {plans: {owner@localhost: pro}}\nplans: {pro: {price: 29, compute_hours: 2}}\n"
    with product.Server(config=config) as server:
        put_usage(server, [
            ("2026-01-01", "cage-aaaaaaaa", 30_000_000, 1_000_000_000, 3_600_000, None),
            ("2026-01-31", "cage-aaaaaaaa", 60_000_000, 0, 7_200_000, None),
            ("2026-01-31", "cage-bbbbbbbb", 30_000_000, 0, 3_600_000, None),
            ("2026-02-01", "cage-bbbbbbbb", 10_000_000, 0, 3_600_000, None),
            ("2026-03-01", "cage-cccccccc", 10**9, 0, 3_600_000, "acc-somebodyelse"),
        ])
        rows = server.api("GET", "/v1/billing/invoices")
        assert [(r["month"], r["total_usd"]) for r in rows] == [("2026-02", 29.0), ("2026-01", pytest.approx(29 + 1 + 0.06))]
        january = server.api("GET", "/v1/billing/invoices/2026-01")
        # four hours ran, two are included: half of 0.12 dollars
        assert january["included_hours_credit_usd"] == pytest.approx(0.06) and january["running_seconds"] == 14400
        assert [(b["sandbox_id"], b["compute_cost_usd"]) for b in january["sandboxes"]] == [("cage-aaaaaaaa", 0.09), ("cage-bbbbbbbb", 0.03)]
        page = server.call("GET", "/v1/billing/invoices/2026-01?format=html")
        assert page.headers["content-type"].startswith("text/html") and "default-src 'none'" in page.headers["content-security-policy"]
        assert "cage-bbbbbbbb" in page.text and ">30.06" in page.text and "cage-cccccccc" not in page.text
        for path, status in (("2026-03", 404), ("2026-3", 400), ("2026-01?format=pdf", 400)):
            with pytest.raises(product.Refused) as e:
                server.api("GET", f"/v1/billing/invoices/{path}")
            assert e.value.status == status
        assert "29.000000" in server.cli("billing", "statements").stdout
        assert "cage-aaaaaaaa" in server.cli("billing", "statement", "2026-01").stdout
        assert server.cli("billing", "statement", "2026-01", "--html").stdout == page.text
        assert server.cli("billing", "usage", "--csv").stdout.replace("\n", "\r\n") == server.call("GET", "/v1/billing/usage/export?format=csv").text
        assert "cage-bbbbbbbb" in server.cli("billing", "usage", "--by", "sandbox").stdout
        assert "price_usd" not in server.cli("billing", "plans").stdout and "$29.00" in server.cli("billing", "plans").stdout
        assert "pro" in server.cli("billing").stdout
        assert server.cli("billing", "nonsense", check=False).returncode == 2


def test_the_audit_log_is_shown_by_the_command_line(server):
    server.api("PUT", "/v1/secrets/SHOWN", {"value": "a value of it", "hosts": ["a.example.com"]})
    told = server.cli("audit", "--limit", "1")
    assert "/v1/secrets/SHOWN" in told.stdout and "owner@localhost" in told.stdout
    seq = json.loads(server.cli("audit", "--limit", "1", "--json").stdout)["entries"][0]["seq"]
    assert "/v1/secrets/SHOWN" not in server.cli("audit", "--before", str(seq)).stdout
