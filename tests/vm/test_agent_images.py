"""Images with agents in them: what a profile asks for, and nothing else, is in the image; nothing of a package runs on
this machine; the template's own image stays as it was. The package is a local one, so that no registry is needed.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import product

PROFILE = """
name: tiny
description: a small program
version: 1.2.3
aliases: [small]
npm: ['{package}']
keep: [node_modules/tiny/tiny.sh, node_modules/tiny/lib]
bin:
  tiny: node_modules/tiny/tiny.sh
  npm: node_modules/tiny/lib/npm.sh
env:
  TINY_COLOUR: "green"
setup: |
  [ -e "$HOME/.tiny" ] || echo "first" >"$HOME/.tiny"
run: exec tiny "$1" "$2"
report:
  text: result.text
  cost_usd: result.cost
"""
PROGRAM = """#!/bin/sh
here=$(dirname "$0")
printf '{"result": {"text": "%s %s %s %s", "cost": 0.25}}\\n' "$TINY_COLOUR" "$1" "$2" "$(cat "$HOME/.tiny" "$here/lib/word" | tr '\\n' ' ')"
"""
# In npm's place: what it is asked for, and where it would go.
NPM = """#!/bin/sh
case $* in *broken*) echo 'E404 no such package' >&2; exit 1 ;; esac
echo "$NPM_CONFIG_REGISTRY $*" >>~/asked
"""


@pytest.fixture(scope="module")
def place():
    """Data and images of its own: the installed ones with one more profile, hard links to the images. Open to the
    server's uid, which pytest's folders are not."""
    with tempfile.TemporaryDirectory(prefix="caged-agents-") as name:
        top = pathlib.Path(name)
        top.chmod(0o755)
        yield top, make_place(top)


def make_place(tmp_path):
    data, images, package = tmp_path / "data", tmp_path / "images", tmp_path / "package"
    shutil.copytree(product.STAGE / "share" / "caged" / "data", data)
    base = pathlib.Path(product.default_images())
    (images / "templates").mkdir(parents=True)
    for part in ("boot.json", "kernels", "initramfs", "writable", "templates/minimal", "templates/minimal.json"):
        subprocess.run(["cp", "-al", base / part, images / part], check=True)
    (package / "lib").mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({
        "name": "tiny", "version": "1.2.3", "scripts": {"postinstall": f"touch {tmp_path}/ran"}}))
    (package / "tiny.sh").write_text(PROGRAM)
    (package / "tiny.sh").chmod(0o755)
    (package / "lib" / "word").write_text("second\n")
    (package / "lib" / "npm.sh").write_text(NPM)
    (package / "lib" / "npm.sh").chmod(0o755)
    (package / "big").write_bytes(os.urandom(1 << 20))
    subprocess.run(["npm", "pack", "--silent", "--pack-destination", tmp_path], cwd=package, check=True, capture_output=True)
    (data / "agents" / "tiny.yaml").write_text(PROFILE.format(package=tmp_path / "tiny-1.2.3.tgz"))
    return {**os.environ, "CAGED_DATA_DIR": str(data), "CAGED_IMAGE_DIR": str(images), "NO_COLOR": "1"}


def install(env, *names):
    return subprocess.run([product.CAGED, "agents", "install", *names], env=env, capture_output=True, text=True)


def look(image, request):
    return subprocess.run(["debugfs", "-R", request, image], capture_output=True, text=True, check=True).stdout


def image_of(top, name):
    meta = json.loads((top / "images" / "templates" / f"{name}.json").read_text())
    return meta, top / "images" / "templates" / name / meta["build_id"] / "base.ext4"


def test_the_image_holds_what_the_profile_keeps_and_no_script_of_a_package_runs(place):
    top, env = place
    before = (image_of(top, "minimal")[1]).read_bytes()
    done = install(env, "tiny")
    assert done.returncode == 0, done.stderr
    meta, image = image_of(top, "minimal+tiny")
    assert "tiny 1.2.3" in meta["contents"] and image.stat().st_mode & 0o222 == 0
    assert image_of(top, "minimal")[1].read_bytes() == before
    assert not (top / "ran").exists()
    kept = look(image, "ls -p /opt/caged/agents/tiny/node_modules/tiny")
    assert "tiny.sh" in kept and "/lib/" in kept and "big" not in kept and "package.json" not in kept
    program = look(image, "stat /opt/caged/agents/tiny/node_modules/tiny/tiny.sh")
    assert "Mode:  0755" in program and "User:     0" in program
    launcher = look(image, "cat /usr/local/bin/tiny")
    assert 'TINY_COLOUR="${TINY_COLOUR-green}"' in launcher and "/opt/caged/agents/tiny/node_modules/tiny/tiny.sh" in launcher
    assert subprocess.run(["e2fsck", "-fn", image], capture_output=True).returncode == 0
    assert list((top / "images" / "tmp").iterdir()) == []
    # once is enough, until the profile says something else
    assert install(env, "tiny").returncode == 0 and image_of(top, "minimal+tiny")[1] == image
    profile = top / "data" / "agents" / "tiny.yaml"
    profile.write_text(profile.read_text().replace("green", "blue"))
    assert install(env, "tiny").returncode == 0
    changed = image_of(top, "minimal+tiny")[1]
    assert changed != image and "blue" in look(changed, "cat /usr/local/bin/tiny")
    assert len(list((top / "images" / "agents").iterdir())) == 1, "the package was fetched twice"
    # the tests below want a server to make it again
    (top / "images" / "templates" / "minimal+tiny.json").unlink()


def test_a_package_that_cannot_be_fetched_and_a_template_that_does_not_fit_are_told_and_leave_nothing(place):
    top, env = place
    gone = PROFILE.format(package=top / "gone.tgz").replace("name: tiny", "name: gone").replace("small", "lost")
    (top / "data" / "agents" / "gone.yaml").write_text(gone)
    done = install(env, "gone")
    assert done.returncode != 0 and "npm cannot fetch it" in done.stderr
    assert not (top / "images" / "templates" / "minimal+gone.json").exists()
    assert list((top / "images" / "tmp").iterdir()) == []
    done = install(env, "gemini")
    assert done.returncode != 0 and "gemini needs node" in done.stderr and "node-22" in done.stderr
    done = install(env, "nobody")
    assert done.returncode != 0 and "nobody" in done.stderr


@pytest.fixture(scope="module")
def server(place):
    """One that has to make its images itself; in the place of the changed and deleted things of the tests before."""
    _, env = place
    server = product.Server(env={"NPM_CONFIG_REGISTRY": "http://registry.invalid:4873/"})
    server.env.update({name: env[name] for name in ("CAGED_DATA_DIR", "CAGED_IMAGE_DIR")})
    with server:
        yield server


def test_a_server_makes_the_image_when_it_is_asked_for_and_the_agent_runs_with_its_settings(place, server, tmp_path):
    top, _ = place
    profile = top / "data" / "agents" / "tiny.yaml"
    profile.write_text(PROFILE.format(package=top / "tiny-1.2.3.tgz").replace("green", "blue"))
    (tmp_path / ".caged.yaml").write_text("template: minimal\nmemory: 256\ndisk: 1\nagents: [small]\nbudget: 3\n")
    made = json.loads(server.cli("up", "--json", cwd=tmp_path).stdout)
    sandbox = product.Sandbox(server, made)
    assert made["agents"] == ["tiny"] and made["memory_mb"] == 1024
    done = server.api("POST", sandbox.path + "/agent", {"prompt": "a b", "model": "m"})
    assert done["output"] == "blue a b m first second " and done["exit_code"] == 0
    assert done["claim"] == {"cost_usd": 0.25, "metered_usd": 0, "difference_usd": 0.25}
    # the same settings for whoever starts it, and what was set up once is the user's
    sandbox.run("echo mine >~/.tiny")
    assert json.loads(sandbox.run("TINY_COLOUR=red tiny x y"))["result"]["text"] == "red x y mine second "
    assert [e["data"]["difference_usd"] for e in sandbox.events("claim")] == [0.25]
    shown = server.cli("status", sandbox.id).stdout
    assert "agents      tiny" in shown and "$3.00, $2.99" in shown and "an hour" in shown
    # a server that gave up root keeps the image in its state directory, and a later one knows the sandbox
    where = server.state / "agents" if os.getuid() == 0 else top / "images"
    assert (where / "templates" / "minimal+tiny.json").exists()
    server.stop()
    server.start()
    again = server.api("GET", sandbox.path)
    assert again["agents"] == ["tiny"] and again["template"] == "minimal"
    # its profile is another one by now: what was made before goes on all the same
    profile.write_text(profile.read_text().replace("blue", "grey"))
    server.api("POST", sandbox.path + "/pause")
    server.api("POST", sandbox.path + "/resume")
    assert json.loads(sandbox.run("tiny x y"))["result"]["text"] == "blue x y mine second "


def test_packages_are_installed_by_the_template_before_the_sandbox_is_ready(server):
    shape = {"memory_mb": 256, "disk_gb": 1}
    sandbox = server.create(agents=["tiny"], packages=["typescript", "@a/b@1.2", "npm:left-pad"], init_script="cat ~/asked", **shape)
    asked = "http://registry.invalid:4873/ install --global --no-audit --no-fund --loglevel=error -- typescript @a/b@1.2 left-pad"
    assert sandbox.info["init"]["output_tail"].strip() == asked
    assert sandbox.info["packages"] == ["typescript", "@a/b@1.2", "npm:left-pad"]
    starts = [e["data"]["origin"] for e in sandbox.events("command") if e["data"]["phase"] == "start"]
    assert starts == ["packages", "init"]
    with pytest.raises(product.Refused) as refused:
        server.create(agents=["tiny"], packages=["broken"], **shape)
    assert "packages: E404 no such package" in refused.value.problem["detail"]
    with pytest.raises(product.Refused) as refused:
        server.create(packages=["typescript"], **shape)
    assert "no npm and no pip" in refused.value.problem["detail"]
