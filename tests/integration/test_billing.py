"""Prices, subscription, usage; and that nobody is charged."""

import csv
import datetime
import io
import sqlite3

import httpx
import pytest

import product

RATES = {"vcpu_hour": 0.01, "memory_gb_hour": 0.005, "disk_gb_hour": 0.001}


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


@pytest.mark.parametrize("query, word", [("from=yesterday", "from"), ("to=2026-1-1", "to"), ("group_by=week", "group_by"), ("format=xml", "format")])
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
