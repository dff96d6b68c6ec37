"""What an operator does: configuration read again, backup and restore, manual pages and completions, the Debian package."""

import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile

import pytest

import product


# --- configuration ---

def test_the_configuration_is_read_again_and_a_bad_one_changes_nothing():
    with product.Server(config="limits: {sandboxes: 7}\n") as server:
        path = server.dir / "server.yaml"

        def limit():
            return server.api("GET", "/v1/pricing")["limits"]["concurrent_sandboxes"]

        assert limit() == 7
        path.write_text("limits: {sandboxes: 9}\nplans: {free: {keys: 1}}\naccounts: {plan: free, signup: open}\npreviews: {url: 'http://p.localhost'}\n")
        assert "read again" in server.cli("server", "reload").stdout
        assert limit() == 9 and [p["name"] for p in server.api("GET", "/v1/pricing")["plans"]] == ["free"]
        assert "server.reloaded" in server.log() and re.search('server.restart_needed.*previews.url', server.log())
        for bad, word in (("limits: {sandboxes: many}\n", "server.yaml:1"), ("{", "server.yaml"), ("accounts: {plan: gold}\n", "gold")):
            path.write_text(bad)
            done = server.cli("server", "reload", check=False)
            assert done.returncode == 1 and word in done.stderr and "old configuration stays" in done.stderr
            assert limit() == 9
        assert "server.reload_refused" in server.log()
        path.write_text("limits: {sandboxes: 5}\n")
        os.kill(server.pid, signal.SIGHUP)  # as systemd does
        product.wait_for("it is read", lambda: limit() == 5)
        assert server.api("GET", "/v1/pricing")["plans"] == [] and product.alive(server.pid)


def test_a_server_without_a_file_says_so(server):
    done = server.cli("server", "reload", check=False)
    assert done.returncode == 1 and "--config" in done.stderr


# --- backup and restore ---

def restored(server, file, place, *flags):
    return subprocess.run([product.CAGED, "restore", file, "--state-dir", place, *flags], env=server.env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A server with a record that is complete, one that goes on, a snapshot, a secret; and a backup of it, taken while it runs."""
    with product.Server() as server:
        ended = server.create(memory_mb=256, disk_gb=1)
        ended.run("echo of one that ended")
        ended.destroy()
        living = server.create(memory_mb=256, disk_gb=1)
        living.run("echo kept > /workspace/kept; sync")
        snapshot = server.api("POST", f"/v1/sandboxes/{living.id}/snapshots", {"name": "before"})["id"]
        server.api("PUT", "/v1/secrets/KEPT", {"value": "a value that is sealed", "hosts": ["a.example.com"]})
        file = tmp_path_factory.mktemp("backup") / "all.tar.zst"
        done = server.cli("backup", "-o", file)
        assert "files" in done.stdout and not (server.state / "backup.db").exists()
        assert (file.stat().st_mode & 0o777) == 0o600
        yield server, file, ended.id, living.id, snapshot


def test_a_backup_of_a_running_server_is_a_server_again(saved):
    server, file, ended, living, snapshot = saved
    server.api("PUT", "/v1/secrets/LATER", {"value": "not in the backup", "hosts": ["a.example.com"]})
    with product.Server() as other:
        key = server.key
        other.stop()
        subprocess.run(["rm", "-rf", other.state], check=True)
        done = restored(server, file, other.state)
        assert done.returncode == 0 and re.search(r"[3-9] records, 0 of them wrong", done.stdout), done.stdout + done.stderr
        other.start()
        assert other.key == key
        assert [s["name"] for s in other.api("GET", "/v1/secrets")] == ["KEPT"]
        states = {b["id"]: b["status"] for b in other.api("GET", "/v1/sandboxes?all=true")}
        assert states[ended] == "destroyed"
        product.wait_for("the one that ran is over", lambda: other.api("GET", f"/v1/sandboxes/{living}")["status"] in ("error", "destroyed"))
        for box in (ended, living):
            assert '"valid": true' in other.cli("verify", box, "--json").stdout.replace('"valid":true', '"valid": true')
        again = other.create(snapshot_id=snapshot, memory_mb=256)
        assert again.run("cat /workspace/kept") == "kept"


def test_a_backup_that_was_changed_is_not_put_back(saved, tmp_path):
    server, file, ended, _, _ = saved
    work = tmp_path / "unpacked"
    work.mkdir()
    subprocess.run(["tar", "--zstd", "-xpf", file, "-C", work], check=True)
    segment = work / "archive" / ended / "record" / "000001.jsonl.zst"
    lines = subprocess.run(["zstdcat", segment], capture_output=True, check=True).stdout
    segment.unlink()
    subprocess.run(["zstd", "-q", "-o", segment], input=lines.replace(b"of one that ended", b"of one that began"), check=True)
    changed = tmp_path / "changed.tar.zst"
    subprocess.run(["tar", "--zstd", "-cf", changed, "-C", work, *sorted(p.name for p in work.iterdir())], check=True)
    done = restored(server, changed, tmp_path / "state")
    assert done.returncode == 1 and f"WRONG  {ended}" in done.stderr and "--force" in done.stderr
    assert not (tmp_path / "state").exists() and not (tmp_path / "state.restoring").exists()
    assert restored(server, changed, tmp_path / "state", "--force").returncode == 0
    full = restored(server, file, tmp_path / "state")
    assert full.returncode == 1 and "not empty" in full.stderr


def test_a_backup_that_leaves_its_place_is_refused(saved, tmp_path):
    server, _, _, _, _ = saved
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("/etc")
    (tmp_path / "in" / "plain").write_text("x")
    for name, arguments in (("up", ["--transform", "s,plain,../out,", "plain"]), ("link", ["link"]), ("root", ["-P", "--transform", f"s,^plain,{tmp_path}/out,", "plain"])):
        file = tmp_path / f"{name}.tar.zst"
        subprocess.run(["tar", "--zstd", "-cf", file, "-C", tmp_path / "in", *arguments], check=True)
        done = restored(server, file, tmp_path / "to")
        assert done.returncode == 1 and "nothing of a state directory" in done.stderr, done.stderr
        assert not (tmp_path / "to").exists() and not (tmp_path / "out").exists()
    assert server.api("GET", "/health")["status"] == "ok"


def test_a_stopped_server_is_backed_up_too(tmp_path):
    with product.Server() as server:
        server.api("PUT", "/v1/secrets/COLD", {"value": "a value that is sealed", "hosts": ["a.example.com"]})
        server.kill()  # its write-ahead log is not folded in
        server.cli("backup", "-o", tmp_path / "cold.tar.zst")
        subprocess.run(["rm", "-rf", server.state], check=True)
        assert restored(server, tmp_path / "cold.tar.zst", server.state).returncode == 0
        server.start()
        assert [s["name"] for s in server.api("GET", "/v1/secrets")] == ["COLD"]


# --- pages, completions, package ---

def test_every_verb_has_a_manual_page_and_completions(server):
    verbs = re.findall(r"^  ([a-z-]+) ", server.cli("help").stdout, re.M)
    assert len(verbs) > 40
    pages = product.STAGE / "share" / "man" / "man1"
    whole = server.cli("man").stdout
    assert (pages / "caged.1").read_text() == whole
    done = subprocess.run(["man", "--warnings", "-l", *(pages / f"caged-{verb}.1" for verb in verbs)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "MANWIDTH": "200", "LC_ALL": "C.UTF-8", "MANPAGER": "cat", "PAGER": "cat"})
    assert done.returncode == 0 and not done.stderr, done.stderr
    for verb in verbs:
        assert f"caged {verb}" in done.stdout and f"caged\\-{verb} (1)" in whole.replace(f"caged\\-{verb.replace('-', chr(92) + '-')} (1)", f"caged\\-{verb} (1)"), verb
    assert (pages / "caged-up.1").read_text() == server.cli("man", "up").stdout
    for shell, place in (("bash", "bash-completion/completions/caged"), ("zsh", "zsh/vendor-completions/_caged"), ("fish", "fish/vendor_completions.d/caged.fish")):
        text = (product.STAGE / "share" / place).read_text()
        assert text == server.cli("completion", shell).stdout and all(verb in text for verb in verbs)
    done = subprocess.run(["bash", "-c", f"source {product.STAGE}/share/bash-completion/completions/caged; COMP_WORDS=(caged tea); COMP_CWORD=1; _caged; echo ${{COMPREPLY[@]}}"],
                          capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "team"


def unit(key):
    text = (product.ROOT / "packaging" / "caged-server.service").read_text()
    return re.findall(rf"^{key}=(.*)$", text, re.M)


@pytest.mark.skipif(os.getuid() != 0, reason="only root starts the unit")
def test_the_server_needs_no_capability_that_its_unit_takes_away():
    """The unit's own list, and no new privileges, around a server that makes, pauses, resumes and ends a sandbox."""
    kept = ",".join(f"+{name[4:].lower()}" for name in unit("CapabilityBoundingSet")[0].split())
    with product.Server(wrap=["setpriv", "--no-new-privs", "--bounding-set", f"-all,{kept}", "--inh-caps", "-all"]) as server:
        box = server.create(memory_mb=256, disk_gb=1)
        assert box.run("echo there") == "there"
        server.api("POST", box.path + "/pause")
        server.api("POST", box.path + "/resume")
        assert box.run("echo again") == "again"
        box.destroy()


@pytest.fixture
def open_dir():
    """A folder that the server's uid reaches, as /var/lib is."""
    with tempfile.TemporaryDirectory(prefix="caged-t-") as place:
        os.chmod(place, 0o755)
        yield pathlib.Path(place)


def test_the_package_installs_in_a_clean_root_and_runs_there(tmp_path, open_dir):
    root = tmp_path / "root"
    for name in ("info", "updates", "triggers"):
        (root / "var/lib/dpkg" / name).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    package = subprocess.run([product.ROOT / "scripts/build-deb", product.STAGE, tmp_path], capture_output=True, text=True, timeout=300)
    assert package.returncode == 0, package.stderr
    file = pathlib.Path(package.stdout.strip())
    fields = subprocess.run(["dpkg-deb", "-f", file], capture_output=True, text=True, check=True).stdout
    for needed in ("libuv1", "libsqlite3-0", "libsodium23", "qemu-system-x86", "nftables", "git"):
        assert needed in re.search("^Depends: (.*)$", fields, re.M)[1]
    dpkg = ["dpkg", f"--root={root}", "--force-script-chrootless", "--force-depends", "--force-not-root", "--no-triggers"]
    done = subprocess.run([*dpkg, "-i", file], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    owners = {p.stat().st_uid for p in root.rglob("*") if "dpkg" not in p.parts}
    assert owners == {os.getuid()} and not [p for p in root.rglob("*") if p.stat().st_mode & 0o022 and "dpkg" not in p.parts and not p.is_symlink()]
    service = (root / "usr/lib/systemd/system/caged-server.service").read_text()
    command = re.search("^ExecStart=(.*)$", service, re.M)[1].split()
    assert (root / command[0].lstrip("/")).exists() and (root / command[command.index("--config") + 1].lstrip("/")).exists()
    mine = product.STAGE / "lib/systemd/system/caged-server.service"
    assert mine.read_text().replace(str(product.STAGE), "/usr") == service
    seen = subprocess.run(["systemd-analyze", "verify", "--man=no", mine], capture_output=True, text=True, timeout=60)
    complaints = [line for line in seen.stderr.splitlines() if "caged-server" in line]
    assert not complaints, complaints
    state = open_dir / "state"
    env = {**os.environ, "CAGED_STATE_DIR": str(state)}
    caged = root / "usr/bin/caged"
    started = subprocess.run([caged, "server", "start", "--listen", "127.0.0.1:0", "--config", root / "etc/caged/server.yaml"], env=env, capture_output=True, text=True, timeout=120)
    assert started.returncode == 0, started.stderr
    try:
        assert "owner@localhost" in subprocess.run([caged, "whoami"], env=env, capture_output=True, text=True, timeout=60).stdout
        info = json.loads((state / "server.json").read_text())
        assert os.readlink(f"/proc/{info['pid']}/exe").startswith(str(root))
    finally:
        subprocess.run([caged, "server", "stop"], env=env, capture_output=True, timeout=120)
    done = subprocess.run([*dpkg, "-P", "caged"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not [p for p in root.rglob("*") if p.is_file() and "dpkg" not in p.parts]
