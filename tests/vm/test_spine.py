"""A real repository in a real guest: what a sandbox promises, through REST and CLI."""

import concurrent.futures
import hashlib
import json
import os
import subprocess

import pytest

import product


def test_sandbox_has_its_own_kernel_and_the_sizes_asked_for(server):
    s = server.create(cpus=2, memory_mb=384, disk_gb=3)
    try:
        assert s.info["status"] == "running"
        assert s.run("uname -r") != os.uname().release
        assert s.run("nproc") == "2"
        total_kib = int(s.run("awk '/MemTotal/{print $2}' /proc/meminfo"))
        assert 300 * 1024 < total_kib <= 384 * 1024
        size_mib = int(s.run("df -Pm /workspace | awk 'END{print $2}'"))
        assert 2700 < size_mib <= 3 * 1024
        assert s.run("id -un; pwd").split() == ["agent", "/workspace"]
    finally:
        s.destroy()


def test_exec_passes_stdin_cwd_env_user_and_exit_code(sandbox):
    done = sandbox.exec("cat; pwd; echo $GREETING; id -u; exit 7", cwd="/tmp", stdin="from stdin\n",
                        env={"GREETING": "hello world"}, user="root")
    assert done["exit_code"] == 7
    assert done["output"].split("\n")[:4] == ["from stdin", "/tmp", "hello world", "0"]
    done = sandbox.exec("echo out; echo err >&2")
    assert done["output"].splitlines() == ["out", "err"]
    assert (done["stdout"], done["stderr"]) == ("out\n", "err\n")


def test_exec_timeout_kills_the_whole_group(sandbox):
    done = sandbox.exec("sleep 987 & sleep 988; echo never", timeout_ms=1500)
    assert "never" not in done["output"]
    assert done["exit_code"] != 0
    product.wait_for("both sleeps are gone",
                     lambda: sandbox.exec("pgrep -f 'sleep 98[7-8]$'")["exit_code"] == 1, 20)


def test_exec_of_a_missing_command_says_so(sandbox):
    done = sandbox.exec("no-such-command-here")
    assert done["exit_code"] == 127
    assert "no-such-command-here" in done["output"]


def test_two_hundred_execs_in_parallel_all_answer_with_their_own_output(sandbox):
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        outputs = list(pool.map(lambda i: sandbox.run(f"echo answer-{i}"), range(200)))
    assert outputs == [f"answer-{i}" for i in range(200)]


def test_200_mb_go_in_and_out_with_equal_hashes(server, sandbox, tmp_path):
    source = tmp_path / "big.bin"
    digest = hashlib.sha256()
    with open(source, "wb") as f:
        for _ in range(200):
            block = os.urandom(1 << 20)
            digest.update(block)
            f.write(block)
    server.cli("cp", source, f"{sandbox.id}:/workspace/big.bin")
    assert sandbox.run("sha256sum < big.bin").split()[0] == digest.hexdigest()
    server.cli("cp", f"{sandbox.id}:/workspace/big.bin", tmp_path / "back.bin")
    back = hashlib.sha256((tmp_path / "back.bin").read_bytes()).hexdigest()
    assert back == digest.hexdigest()


def test_two_sandboxes_cannot_see_each_other(server):
    a, b = server.create(memory_mb=256, disk_gb=1), server.create(memory_mb=256, disk_gb=1)
    try:
        a.run("echo secret-of-a > /workspace/only-in-a; (sleep 300 >/dev/null 2>&1 &) ")
        assert b.exec("ls /workspace/only-in-a")["exit_code"] != 0
        assert b.exec("pgrep -f 'sleep 300$'", user="root")["exit_code"] == 1
        assert a.run("hostname") != b.run("hostname")
        # both have the same address in a network of their own; nothing but the warden is on it
        listener = "cd /tmp && (timeout 20 nc -l -p 7777 || timeout 20 perl -MSocket -e '" \
                   "socket(S,2,1,0);bind(S,sockaddr_in(7777,INADDR_ANY));listen(S,1);accept(C,S)') >/dev/null 2>&1 &"
        a.exec(listener, timeout_ms=5000)
        for address in ("172.30.0.1", "172.30.0.2", "172.30.0.3", "10.0.2.2"):
            probe = b.exec(f"timeout 5 bash -c 'exec 3<>/dev/tcp/{address}/7777'", timeout_ms=15000)
            assert probe["exit_code"] != 0, address
    finally:
        a.destroy()
        b.destroy()


def test_nothing_but_what_the_operator_names_is_reachable(server, sandbox):
    for address in ("127.0.0.1", "169.254.169.254", "10.1.1.1", "172.30.0.1"):
        port = server.url.rsplit(":", 1)[1]
        probe = sandbox.exec(f"timeout 5 bash -c 'exec 3<>/dev/tcp/{address}/{port}'", timeout_ms=15000)
        assert probe["exit_code"] != 0, address
        assert probe["exit_code"] != 124, f"{address}: hangs instead of being refused"


def test_git_clone_from_a_server_that_the_operator_names(tmp_path):
    """`repo` is cloned inside the guest, through the warden, from a git server on loopback."""
    bare = tmp_path / "srv" / "fizz.git"
    work = tmp_path / "work"
    subprocess.run(["git", "init", "-q", "-b", "main", work], check=True)
    (work / "README").write_text("hello from the repository\n")
    ident = ["-c", "user.name=T", "-c", "user.email=t@example.invalid"]
    subprocess.run(["git", *ident, "-C", work, "add", "."], check=True)
    subprocess.run(["git", *ident, "-C", work, "commit", "-qm", "first"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", work, bare], check=True)
    port = 19418
    daemon = subprocess.Popen(["git", "daemon", "--reuseaddr", "--export-all", f"--base-path={tmp_path}/srv",
                               "--listen=127.0.0.1", f"--port={port}"])
    try:
        config = f"network:\n  allow:\n    - 127.0.0.1/32:{port}\n"
        with product.Server(config=config) as server:
            # a guest's own 127.0.0.1 is its own: the operator's host loopback has a name
            s = server.create(memory_mb=256, disk_gb=1, repo=f"git://host.caged.internal:{port}/fizz.git",
                              init_script="cat README > /workspace/init-ran")
            assert s.run("cat /workspace/init-ran") == "hello from the repository"
            assert s.run("git -C /workspace log --format=%s") == "first"
            network = s.events("network")
            assert any(e["data"].get("port") == port and e["data"].get("verdict") == "allow" for e in network)
    finally:
        daemon.terminate()
        daemon.wait()


def test_failing_init_script_is_told_and_keeps_the_sandbox(server):
    s = server.create(memory_mb=256, disk_gb=1, init_script="echo about to fail; exit 3")
    try:
        info = s.get()
        assert info["status"] == "running"
        assert info["init"]["status"] == "failed" and info["init"]["exit_code"] == 3
        assert "about to fail" in info["init"]["output_tail"]
    finally:
        s.destroy()


def test_a_local_repository_goes_in_and_its_diff_comes_out(server, tmp_path):
    repo = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", "-b", "main", repo], check=True)
    (repo / "a.txt").write_text("one\n")
    (repo / ".gitignore").write_text("ignored\n")
    (repo / "ignored").write_text("stays here\n")
    ident = ["-c", "user.name=T", "-c", "user.email=t@example.invalid"]
    subprocess.run(["git", *ident, "-C", repo, "add", "."], check=True)
    subprocess.run(["git", *ident, "-C", repo, "commit", "-qm", "first"], check=True)
    (repo / "untracked.txt").write_text("new\n")
    (repo / ".caged.yaml").write_text("template: minimal\nresources: {cpu: 1, memory: 256, disk: 1}\n"
                                      "env: {COLOR: blue}\ninit_script: echo $COLOR > made-by-init\n")
    made = server.cli("up", "--json", cwd=repo)
    sandbox = product.Sandbox(server, json.loads(made.stdout))
    try:
        assert sandbox.run("cat made-by-init untracked.txt a.txt").split() == ["blue", "new", "one"]
        assert sandbox.exec("test -e ignored")["exit_code"] == 1
        assert sandbox.run("git log --format=%s") == "first"
        sandbox.run("echo two >> a.txt")
        diff = server.api("GET", sandbox.path + "/git/diff")
        assert "+two" in diff["diff"]
        assert {"path": "a.txt", "status": "modified"} in diff["files"]
    finally:
        sandbox.destroy()


def test_cli_exec_streams_and_passes_the_exit_code_on(server, sandbox):
    done = server.cli("exec", sandbox.id, "--", "sh", "-c", "cat; echo err >&2; exit 42", input="piped in\n", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (42, "piped in\n", "err\n")


def test_events_come_live_and_resume_where_they_were_cut(server, sandbox):
    with server.events(sandbox_id=sandbox.id) as seen:
        sandbox.run("/bin/echo first-mark")
        product.wait_for("the exec is on the stream", lambda: "first-mark" in json.dumps(seen))
    last = int(seen[-1]["id"].rsplit(":", 1)[-1])
    sandbox.run("/bin/echo second-mark")
    with server.events(sandbox_id=sandbox.id, after_seq=last) as resumed:
        product.wait_for("the rest comes", lambda: "second-mark" in json.dumps(resumed))
    numbers = [int(e["id"].rsplit(":", 1)[-1]) for e in seen + resumed]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_events_of_a_command_precede_its_end(sandbox):
    for i in range(20):
        sandbox.run(f"/bin/true mark-{i}; touch file-{i}")
    lines = sandbox.record()
    for i in range(20):
        # what a file holds is read back when there is time, and told behind
        seen = [e["seq"] for e in lines if e["src"] == "guest" and e["type"] != "content" and
                (f"mark-{i}\"" in json.dumps(e) or f"file-{i}\"" in json.dumps(e))]
        ends = [e["seq"] for e in lines if e["type"] == "command" and e["data"].get("phase") == "exit"
                and e["data"].get("exec_id") in {x["data"].get("exec_id") for x in lines
                                                 if x["type"] == "command" and x["data"].get("phase") == "start"
                                                 and f"mark-{i};" in json.dumps(x["data"])}]
        assert seen and ends and max(seen) < min(ends), i


def test_a_storm_of_execs_is_all_in_the_record_or_the_gap_is_counted_exactly(sandbox):
    # ten thousand in a row, without the product around them: test_observe_storm.py
    sandbox.run("i=0; while [ $i -lt 2000 ]; do /bin/true storm-$i; i=$((i+1)); done", timeout_ms=600000)
    lines = sandbox.record()
    seen = {a for e in lines if e["type"] == "process" and e["data"].get("event") == "exec"
            for a in e["data"].get("argv", []) if a.startswith("storm-")}
    lost = sum(e["data"].get("lost", {}).get("exec", 0) for e in lines if e["type"] == "gap")
    assert len(seen) + lost >= 2000 and len(seen) <= 2000


def test_untar_of_many_files_and_their_removal_are_all_in_the_record(sandbox):
    # fifty thousand, without the product around them: test_observe_storm.py
    sandbox.run("mkdir -p /tmp/src/d && cd /tmp/src/d && seq 10000 | xargs touch && cd .. && tar cf /tmp/many.tar d "
                "&& rm -rf /tmp/src", timeout_ms=900000)
    before = len(sandbox.record())
    sandbox.run("cd /workspace && tar xf /tmp/many.tar && rm -rf d", timeout_ms=900000)
    lines = sandbox.record()[before:]
    count = {"create": 0, "delete": 0}
    for e in lines:
        if e["type"] == "file_op" and e["data"].get("path", "").startswith("/workspace/d/"):
            if e["data"]["op"] in count:
                count[e["data"]["op"]] += 1
    lost = sum(e["data"].get("lost", {}).get("file", 0) for e in lines if e["type"] == "gap")
    if lost == 0:
        assert count == {"create": 10000, "delete": 10000}
    else:
        assert sum(count.values()) + lost >= 20000


def test_templates_that_cannot_be_had_are_refused_with_their_reason(server):
    listed = {t["name"]: t for t in server.api("GET", "/v1/templates")}
    assert listed["minimal"]["state"] == "ready"
    with pytest.raises(product.Refused) as refused:
        server.create(template="python-312")
    assert refused.value.status in (400, 409, 501, 503)  # 503: it may be had on another machine
    with pytest.raises(product.Refused) as refused:
        server.create(template="no-such-template")
    assert refused.value.status == 400
    assert "minimal" in refused.value.problem["detail"]
