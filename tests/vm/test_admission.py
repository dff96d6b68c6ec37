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


def test_processors_and_disks_are_reserved_as_well_and_a_pause_frees_only_what_runs():
    with product.Server(config="limits: {cpus: 3, disk_gb: 9}\ngolden: {snapshots: off}\n") as s:
        first = s.create(cpus=2, memory_mb=128, disk_gb=4)
        refused = s.call("POST", "/v1/sandboxes", json={"template": "minimal", "cpus": 2, "disk_gb": 1})
        assert refused.status_code == 403 and "limits.cpus" in refused.json()["detail"], refused.text
        refused = s.call("POST", "/v1/sandboxes", json={"template": "minimal", "cpus": 1, "disk_gb": 6})
        assert refused.status_code == 403 and "limits.disk_gb" in refused.json()["detail"], refused.text
        s.api("POST", first.path + "/pause")
        refused = s.call("POST", "/v1/sandboxes", json={"template": "minimal", "cpus": 1, "disk_gb": 6})
        assert "limits.disk_gb" in refused.json()["detail"], "a paused one keeps its disk"
        second = s.create(cpus=2, memory_mb=128, disk_gb=5)
        refused = s.call("POST", first.path + "/resume")
        assert refused.status_code == 403 and "limits.cpus" in refused.json()["detail"], "and has no processors any more"
        second.destroy()
        s.api("POST", first.path + "/resume")
        assert first.run("nproc") == "2"
