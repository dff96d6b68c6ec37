"""Admission: room is reserved at once and for good, however many ask for it together."""

import collections
import concurrent.futures

import product


def ask(server):
    with product.httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.key}"}, timeout=600) as http:
        reply = http.post("/v1/sandboxes?wait=false", json={"template": "minimal", "cpus": 1, "memory_mb": 128, "disk_gb": 1})
        return reply.status_code, reply.json()


def test_a_thousand_creates_against_room_for_ten_give_ten_and_clear_refusals():
    config = "limits:\n  memory_mb: 1300\n  requests_per_minute: 100000\ngolden:\n  snapshots: off\n"
    with product.Server(config=config) as s:
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            replies = list(pool.map(lambda _: ask(s), range(1000)))
        codes = collections.Counter(code for code, _ in replies)
        made = [body["id"] for code, body in replies if code in (201, 202)]
        assert len(made) == 10 and len(set(made)) == 10, codes
        refused = [body for code, body in replies if code not in (201, 202)]
        assert len(refused) == 990 and {b["reason"]["code"] for b in refused} <= {"limit", "plan_limit_reached"}
        assert all("limits.memory_mb" in b["detail"] for b in refused), refused[0]
        assert len([x for x in s.api("GET", "/v1/sandboxes") if x["status"] in ("pending", "running")]) == 10
        s.call("DELETE", "/v1/sandboxes/" + made[0])
        product.wait_for("its room is free again", lambda: ask(s)[0] in (201, 202), 120)
