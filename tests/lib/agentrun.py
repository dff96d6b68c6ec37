"""One coding agent, with the settings of its profile, against a model server, in the network namespace that this program
is started in (the caller makes an empty one). Reads a job from standard input, prints what happened; see test_agent_matrix.py.

    {"profile": path, "program": path of the program that the profile starts, "mode": a mode of modelserver.py,
     "prompt": text, "model": text, "home": an empty folder, "timeout": seconds}
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import modelserver
import yaml

BASES = {"ANTHROPIC_BASE_URL": "", "OPENAI_BASE_URL": "/v1", "GOOGLE_GEMINI_BASE_URL": ""}
KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY")


def script_of(profile):
    """As src/image/agents.c writes it."""
    lines = [f'export {name}="${{{name}-{value}}}"' for name, value in (profile.get("env") or {}).items()]
    return "\n".join([*lines, profile.get("setup", ""), profile["run"]])


def main():
    job = json.load(sys.stdin)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    profile = yaml.safe_load(pathlib.Path(job["profile"]).read_text())
    home = pathlib.Path(job["home"])
    programs, workspace = home / "bin", home / "work"
    programs.mkdir()
    workspace.mkdir()
    (programs / next(iter(profile["bin"]))).symlink_to(job["program"])
    with modelserver.ModelServer(mode=job["mode"], command=f"echo hi > {workspace}/f.txt") as model:
        env = {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8",
               **{name: model.url + "/run-1" + tail for name, tail in BASES.items()}, **dict.fromkeys(KEYS, "run-1")}
        start = time.monotonic()
        argv = ["/bin/sh", "-c", script_of(profile), profile["name"], job["prompt"], job["model"]]
        try:
            done = subprocess.run(argv, cwd=workspace, env=env, capture_output=True, text=True, timeout=job["timeout"],
                                  stdin=subprocess.DEVNULL)
            code, output = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired as e:
            code, output = None, str(e.stdout)
        calls = [r for r in model.requests if not r["path"].split("?")[0].endswith("count_tokens")]
    print(json.dumps({"exit_code": code, "calls": len(calls), "seconds": time.monotonic() - start, "output": output[-2000:],
                      "streams": [bool(r["body"].get("stream")) or "stream" in r["path"] for r in calls],
                      "file": (workspace / "f.txt").exists()}))


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    main()
