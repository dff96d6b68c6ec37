"""Real coding agents in real guests: each call passes the gateway, is priced, recorded, and bounded by the budget.

The agents come from npm once a machine (CAGED_TEST_AGENTS, a folder); the models are tests/lib/modelserver.py, which
bills truthfully by its own count.
"""

import functools
import http.server
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import modelserver
import product

AGENTS = pathlib.Path(os.environ.get("CAGED_TEST_AGENTS", os.path.join(tempfile.gettempdir(), "caged-agents")))
CLAUDE = "@anthropic-ai/claude-code@2.1.197"
RUN_CLAUDE = (
    "cd /workspace; IS_SANDBOX=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 CLAUDE_CODE_MAX_RETRIES=2 "
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK=1 timeout 300 claude -p 'Write hi into f.txt' "
    "--model claude-haiku-4-5 --dangerously-skip-permissions --output-format json </dev/null"
)


@pytest.fixture(scope="session")
def claude():
    """A URL below which the agent's program lies, for guests of this machine."""
    folder = AGENTS / "claude"
    program = folder / "node_modules/@anthropic-ai/claude-code-linux-x64/claude"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", CLAUDE], cwd=folder, check=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(program.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://host.caged.internal:{server.server_address[1]}/claude"
    server.shutdown()


@pytest.fixture
def world(tmp_path):
    """A server whose provider is a model server, which knows the key that guests never see."""
    key = tmp_path / "key"
    key.write_text("sk-the-real-key\n")
    with modelserver.ModelServer(command="echo hi > /workspace/f.txt && cat /workspace/f.txt") as model:
        providers = "".join(f"  {p}: {{base_url: '{model.url}', key_file: {key}}}\n"
                            for p in ("anthropic", "openai", "google"))
        with product.Server(config=f"network:\n  allow: ['127.0.0.1/32']\nproviders:\n{providers}") as server:
            yield server, model


def install(sandbox, url):
    done = sandbox.exec(f"curl -sf -o /usr/local/bin/claude {url} && chmod 755 /usr/local/bin/claude", user="root")
    assert done["exit_code"] == 0, done


def closed(sandbox):
    return [e["data"] for e in sandbox.events("llm_call") if e["data"]["event"] == "close" and e["data"]["provider"]]


def test_claude_code_does_a_tool_loop_and_every_call_is_priced_as_the_provider_billed_it(world, claude):
    server, model = world
    sandbox = server.create(template="node-22", budget=1.0, memory_mb=1536)
    install(sandbox, claude)
    done = sandbox.exec(RUN_CLAUDE)
    assert done["exit_code"] == 0, done
    assert sandbox.run("cat /workspace/f.txt") == "hi"
    product.wait_for("the calls are on disk", lambda: len(closed(sandbox)) == len(model.bill.calls))
    calls = closed(sandbox)
    assert len(calls) >= 2 and calls[0]["tool_calls"] == ["Bash"]
    assert [c["status"] for c in calls] == ["ok"] * len(calls)
    billed = round(model.bill.cost(1, 5) * 1e9)
    assert sum(c["cost_nusd"] for c in calls) == billed
    assert not any(c["estimated"] for c in calls)
    assert abs(product.wait_for("the cost is live", lambda: sandbox.get()["llm_cost"]) - billed / 1e9) < 1e-9
    # the guest never saw the key; the provider never saw the guest's token
    assert all(r["headers"]["x-api-key"] == "sk-the-real-key" for r in model.requests)
    assert "sk-the-real-key" not in sandbox.run("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'", user="root")
    # bodies are kept beside the record
    assert all(len(c["reply_blob"]) == 64 for c in calls)


def test_the_guard_ends_a_sandbox_whose_budget_is_used_up_and_keeps_its_disk(world, claude):
    server, model = world
    sandbox = server.create(template="node-22", budget=0.05, memory_mb=1536)
    install(sandbox, claude)
    sandbox.exec("echo work > /workspace/work.txt; sync")
    with pytest.raises((product.Refused, AssertionError)):
        done = sandbox.exec(RUN_CLAUDE)
        assert done["exit_code"] == 0
    product.wait_for("the sandbox has ended", lambda: sandbox.get()["status"] == "destroyed")
    ends = [e["data"] for e in sandbox.events("lifecycle") if e["data"]["event"] == "destroyed"]
    assert ends[-1]["reason"] == "budget_exceeded"
    assert model.bill.cost(1, 5) <= 0.05
    told = [e["data"]["event"] for e in sandbox.events("cost")]
    assert "budget_exceeded" in told
    assert (server.state / "archive" / sandbox.id / "disk.img").exists()
