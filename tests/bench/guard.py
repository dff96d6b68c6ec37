"""How long the budget guard takes: from the line that says that the money is at its end to a guest that stands still, by the
warden's own clock. The yardstick is how long an ordinary snapshot takes to bring a guest to a stand, asked from outside."""

import json
import sys
import tempfile
import pathlib
import time

import product

sys.path.insert(0, str(product.ROOT / "tests" / "lib"))
import modelserver  # noqa: E402

TARGET_MS = 250
BODY = {"model": "claude-haiku-4-5", "max_tokens": 300, "stream": True, "messages": [{"role": "user", "content": "hello"}]}


def spend(sandbox):
    """Calls of a model until the sandbox has none left."""
    base = sandbox.run("echo $CAGED_GATEWAY")
    command = f"while curl -sf -m 60 -d '{json.dumps(BODY)}' {base}/v1/messages >/dev/null; do :; done"
    try:
        sandbox.exec(command)
    except product.Refused:
        pass  # the sandbox ends under it
    product.wait_for("it has ended", lambda: sandbox.get()["status"] == "destroyed", 120)


def measure(out, quick):
    took, stops = [], []
    with tempfile.TemporaryDirectory() as folder, modelserver.ModelServer(words=40) as model:
        key = pathlib.Path(folder) / "key"
        key.write_text("sk-x\n")
        config = f"network:\n  allow: ['127.0.0.1/32']\nproviders:\n  anthropic: {{base_url: '{model.url}', key_file: {key}}}\n"
        with product.Server(config=config) as server:
            for _ in range(3 if quick else 10):
                sandbox = server.create(memory_mb=256, cpus=1, budget_tokens=2000)
                begin = time.perf_counter()
                server.api("POST", sandbox.path + "/snapshots", {"name": "yard"})
                stops.append((time.perf_counter() - begin) * 1000)
                spend(sandbox)
                [guard] = [e["data"] for e in sandbox.events("cost") if e["data"]["event"] == "budget_guard"]
                took.append(guard["still_after_us"] / 1000)
    took.sort()
    p50, worst = took[len(took) // 2], took[-1]
    yard = sorted(stops)[len(stops) // 2]
    out.add("budget used up, to a guest that stands still", f"p50 {p50:.1f} ms, slowest of {len(took)} {worst:.1f} ms",
            f"an ordinary snapshot, whole, p50 {yard:.0f} ms", f"target {TARGET_MS} ms", guard_p50_ms=p50, guard_worst_ms=worst)
