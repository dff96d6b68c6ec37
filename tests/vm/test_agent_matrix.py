"""How coding agents take it when a call to a model is refused, cut or fails: with the settings of their profiles none
of them may go on calling. Agents behave as they please, so this is measured again with each version that a profile pins.

The agents run here, not in guests: in a network namespace that holds nothing but a model server. A few rows are in every
run; CAGED_LONG=1 adds the others, since agents that retry do so for as long as a minute.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import product

PROFILES = product.ROOT / "data" / "agents"
MODELS = {"claude-code": "claude-haiku-4-5", "codex": "gpt-5.2-codex", "opencode": "claude-haiku-4-5", "gemini": "gemini-2.5-pro"}
long = pytest.mark.skipif(os.environ.get("CAGED_LONG") != "1", reason="CAGED_LONG=1 runs all of the matrix")


def row(agent, mode, most):
    marks = () if (agent, mode) in OFTEN else (long,)
    return pytest.param(agent, mode, most, id=f"{agent}-{mode}", marks=marks)


# In every run: the refusal that the gateway sends, and what would be paid twice.
OFTEN = {("claude-code", "400"), ("codex", "400"), ("claude-code", "cut"), ("codex", "cut")}

# The most calls that an agent makes, the first included. The gateway refuses with 400. A cut comes in the second turn.
MATRIX = [
    *(row("claude-code", mode, most) for mode, most in
      {"400": 1, "402": 1, "403": 1, "401": 3, "429": 3, "500": 3, "529": 3, "503": 3, "cut": 2, "error": 3}.items()),
    *(row("codex", mode, most) for mode, most in
      {"400": 1, "402": 1, "403": 1, "401": 1, "429": 1, "500": 1, "503": 1, "cut": 2}.items()),
    # a title and a turn
    *(row("opencode", mode, 2) for mode in ("400", "402", "403")),
    *(row("gemini", mode, 1) for mode in ("400", "402")),
]


def installed(agent):
    """The path of the agent's program, fetched by the product's own means, once a machine."""
    profile = yaml.safe_load((PROFILES / f"{agent}.yaml").read_text())
    template = profile["template"]
    done = subprocess.run([product.CAGED, "agents", "install", agent, "--template", template], capture_output=True, text=True,
                          env={**os.environ, "CAGED_IMAGE_DIR": product.default_images()})
    assert done.returncode == 0, done.stderr
    path = next(iter(profile["bin"].values()))
    found = [p / path for p in (pathlib.Path(product.default_images()) / "agents").glob(f"{agent}-*") if (p / path).exists()]
    return max(found, key=lambda p: p.stat().st_ctime)


def play(agent, mode, home):
    job = {"profile": str(PROFILES / f"{agent}.yaml"), "program": str(installed(agent)), "mode": mode,
           "prompt": "Write hi into f.txt", "model": MODELS[agent], "home": str(home), "timeout": 240}
    unshare = ["unshare", "-n"] if os.getuid() == 0 else ["unshare", "-rn"]
    done = subprocess.run([*unshare, "/usr/bin/python3", product.ROOT / "tests" / "lib" / "agentrun.py"],
                          input=json.dumps(job), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("agent,mode,most", MATRIX)
def test_an_agent_stops_when_a_call_is_refused_cut_or_fails(agent, mode, most, tmp_path):
    told = play(agent, mode, tmp_path)
    assert told["exit_code"] is not None, told
    assert 1 <= told["calls"] <= most, told
    assert all(told["streams"]), f"a call was sent again without streaming, and would be paid again: {told}"


@pytest.mark.parametrize("agent", [pytest.param("codex"), *(pytest.param(a, marks=long) for a in ("claude-code", "opencode", "gemini"))])
def test_an_agent_finishes_its_loop_with_nothing_but_the_model_to_talk_to(agent, tmp_path):
    told = play(agent, None, tmp_path)
    assert told["exit_code"] == 0 and told["file"], told
    assert 2 <= told["calls"] <= 4, told
