"""`caged image build` and `caged templates` as a user runs them: a real build, interrupted and killed
builds, two at once, and OCI layouts good and hostile. Needs the machine's package mirrors for one build."""

import gzip
import hashlib
import io
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import tarfile
import time

import pytest
from product import CAGED, wait_for

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="an import keeps owners and so needs root")
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def caged(images, *args, **kw):
    env = dict(os.environ, CAGED_IMAGE_DIR=str(images), NO_COLOR="1")
    return subprocess.run([CAGED, *map(str, args)], env=env, capture_output=True, text=True, timeout=900, **kw)


def start(images, *args):
    env = dict(os.environ, CAGED_IMAGE_DIR=str(images), NO_COLOR="1")
    return subprocess.Popen([CAGED, *map(str, args)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def package_lists():
    return sorted((p.name, p.stat().st_mtime_ns) for p in pathlib.Path("/var/lib/apt/lists").iterdir())


def helpers_of(images):
    """Command lines of living processes that mention this images directory."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if entry.name.isdigit() and str(images) in line and int(entry.name) != os.getpid():
            found.append(line)
    return found


def leftovers(images):
    mounts = [line for line in pathlib.Path("/proc/mounts").read_text().splitlines() if str(images) in line]
    return list((images / "tmp").iterdir()), mounts


def inside(image, command):
    done = subprocess.run(["/usr/sbin/debugfs", "-R", command, str(image)], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An images directory with `minimal`, built here from nothing."""
    images = tmp_path_factory.mktemp("images")
    before = package_lists()
    done = caged(images, "image", "build", "minimal")
    assert done.returncode == 0, done.stderr
    assert package_lists() == before, "the build touched the machine's own package lists"
    return images


@pytest.fixture
def fresh(built, tmp_path):
    """An images directory that has the kernel, but no template yet."""
    images = tmp_path / "images"
    images.mkdir()
    for name in ("kernels", "initramfs", "writable"):
        shutil.copytree(built / name, images / name, copy_function=os.link, symlinks=True)
    shutil.copy(built / "boot.json", images / "boot.json")
    return images


def base_of(images, name):
    meta = json.loads((images / "templates" / f"{name}.json").read_text())
    return images / "templates" / name / meta["build_id"] / "base.ext4"


def test_a_build_gives_a_clean_base_image_that_nobody_can_write(built):
    base = base_of(built, "minimal")
    assert base.stat().st_mode & 0o222 == 0
    checked = subprocess.run(["/usr/sbin/e2fsck", "-fn", str(base)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "git" in inside(base, "ls /usr/bin")
    assert "User:  1000" in inside(base, "stat /workspace")
    for gone in ("/usr/sbin/policy-rc.d", "/usr/sbin/start-stop-daemon.REAL", "/etc/resolv.conf", "/caged-build"):
        assert "Inode:" not in inside(base, f"stat {gone}"), gone
    assert leftovers(built) == ([], [])


def test_a_template_that_was_built_without_its_registries_gets_them(built):
    meta = built / "templates" / "minimal.json"
    whole = json.loads(meta.read_text())
    assert any(":80" in r or ":443" in r for r in whole["registries"]), "apt has sources"
    meta.write_text(json.dumps({k: v for k, v in whole.items() if k != "registries"}))
    assert "minimal        is up to date" in caged(built, "image", "build", "minimal").stderr
    assert json.loads(meta.read_text()) == whole


def test_a_second_build_changes_nothing(built):
    before = sorted((str(p), p.stat().st_mtime_ns) for p in built.rglob("*") if p.is_file() and "locks" not in p.parts)
    done = caged(built, "image", "build", "minimal")
    assert done.returncode == 0
    assert done.stderr.count("is up to date") == 3
    after = sorted((str(p), p.stat().st_mtime_ns) for p in built.rglob("*") if p.is_file() and "locks" not in p.parts)
    assert before == after


def test_templates_tells_state_and_reason(built):
    templates = {t["name"]: t for t in json.loads(caged(built, "templates", "--json").stdout)}
    assert {"minimal", "node-20", "node-22", "python-311", "python-312", "python-313", "go-122"} <= set(templates)
    assert templates["minimal"]["state"] == "ready"
    assert templates["minimal"]["size_bytes"] > 50_000_000
    assert any(line.startswith("git 2.") for line in templates["minimal"]["contents"])
    assert templates["node-22"]["state"] == "absent"
    assert [t["aliases"] for t in (templates["node-22"], templates["python-313"], templates["go-122"])] == [["node"], ["python"], ["go"]]
    missing = templates["python-312"]
    assert missing["state"] == "ready" or (missing["state"] == "unavailable" and missing["reason"])
    table = caged(built, "templates").stdout
    assert "minimal" in table and "ready" in table


def test_what_cannot_be_had_is_refused_with_its_reason(fresh):
    templates = {t["name"]: t for t in json.loads(caged(fresh, "templates", "--json").stdout)}
    if templates["python-312"]["state"] != "unavailable":
        pytest.skip("this machine has python-312")
    done = caged(fresh, "image", "build", "python-312")
    assert done.returncode == 1
    assert templates["python-312"]["reason"] in done.stderr


@pytest.mark.parametrize("args", [["nonsense"], ["../minimal"], ["--from", "oci:/nowhere", "--name", "x"]])
def test_wrong_names_are_said(fresh, args):
    done = caged(fresh, "image", "build", *args)
    assert done.returncode == 1
    assert args[-1] in done.stderr or "nowhere" in done.stderr


@pytest.mark.parametrize("args", [[], ["--all", "minimal"], ["--name", "x"], ["--from", "oci:x"], ["--no-such"]])
def test_wrong_usage_exits_with_2(fresh, args):
    done = caged(fresh, "image", *(["build", *args] if args else []))
    assert done.returncode == 2
    assert "usage:" in done.stderr


def until_installing(process):
    """Reads the build's progress until packages are being unpacked."""
    for line in process.stderr:
        if "unpacking the base system" in line:
            return
    raise AssertionError("the build ended early")


def test_an_interrupted_build_leaves_nothing(fresh):
    process = start(fresh, "image", "build", "minimal")
    until_installing(process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert leftovers(fresh) == ([], [])
    assert not (fresh / "templates" / "minimal").exists()
    wait_for("no helper lives on", lambda: not helpers_of(fresh))


def test_a_killed_build_takes_its_helpers_along_and_is_swept_by_the_next(fresh):
    process = start(fresh, "image", "build", "minimal")
    until_installing(process)
    time.sleep(1)
    process.kill()
    process.communicate()
    wait_for("no helper lives on", lambda: not helpers_of(fresh))
    state = {t["name"]: t["state"] for t in json.loads(caged(fresh, "templates", "--json").stdout)}
    assert state["minimal"] == "absent"
    assert caged(fresh, "image", "build", "nonsense").returncode == 1
    process = start(fresh, "image", "build", "minimal")
    until_installing(process)
    assert len(list((fresh / "tmp").iterdir())) == 1, "the dead build's folder is still there"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert leftovers(fresh) == ([], [])


# --- OCI layouts ---


class Layout:
    """Writes an OCI image layout."""

    def __init__(self, path):
        self.path = path
        self.manifests = []
        (path / "blobs" / "sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, data, media):
        digest = hashlib.sha256(data).hexdigest()
        (self.path / "blobs" / "sha256" / digest).write_bytes(data)
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    def add(self, tag, layers, **config):
        media = "application/vnd.oci.image.layer.v1.tar+gzip"
        document = {"architecture": ARCH, "os": "linux", "config": config}
        manifest = {
            "schemaVersion": 2,
            "config": self.blob(json.dumps(document).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": [self.blob(gzip.compress(data, mtime=0), media) for data in layers],
        }
        entry = self.blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")
        entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
        self.manifests.append(entry)
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.manifests}))


def layer(*entries):
    """A tar file of (name, type, {fields}, data)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, fields, data in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.mode = 0o755
            info.size = len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def plain(name, data=b"x", **fields):
    return (name, tarfile.REGTYPE, fields, data)


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "oci")


@ROOT_ONLY
def test_an_oci_image_becomes_a_template(fresh, layout):
    lower = layer(
        ("etc", tarfile.DIRTYPE, {}, b""),
        plain("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh"),
        plain("usr/bin/su", b"set-id", mode=0o4755),
        plain("usr/bin/gone"),
        ("bin", tarfile.SYMTYPE, {"linkname": "usr/bin"}, b""),
        plain("srv/\u00e9t\u00e9", b"summer", uid=33, gid=33, mode=0o640),
    )
    upper = layer(plain("usr/bin/.wh.gone", b""), plain("bin/new", b"through the link"))
    layout.add("v1", [lower, upper], Env=["GREETING=hello"], User="web", WorkingDir="/srv")
    done = caged(fresh, "image", "build", "--from", f"oci:{layout.path}:v1", "--name", "mine")
    assert done.returncode == 0, done.stderr
    base = base_of(fresh, "mine")
    assert "Mode:  04755" in inside(base, "stat /usr/bin/su")
    assert "Inode:" not in inside(base, "stat /usr/bin/gone")
    assert inside(base, "cat /usr/bin/new") == "through the link"
    assert "User:    33" in inside(base, "stat /srv/\u00e9t\u00e9")
    passwd = inside(base, "cat /etc/passwd").splitlines()
    assert "web:x:33:33::/srv:/bin/sh" in passwd
    assert [line for line in passwd if line.startswith("agent:x:1000:1000:")]
    assert "User:  1000" in inside(base, "stat /workspace")
    assert subprocess.run(["/usr/sbin/e2fsck", "-fn", str(base)], capture_output=True).returncode == 0
    mine = next(t for t in json.loads(caged(fresh, "templates", "--json").stdout) if t["name"] == "mine")
    assert (mine["state"], mine["source"], mine["env"]) == ("ready", "oci", ["GREETING=hello"])
    again = caged(fresh, "image", "build", "--from", f"oci:{layout.path}:v1", "--name", "mine")
    assert "mine           is up to date" in again.stderr


@ROOT_ONLY
def test_the_registries_of_an_image_are_read_from_its_own_files_and_from_nowhere_else(fresh, layout, tmp_path):
    """As rules for single hosts, whatever the image tries: links to the host, floods, wildcards, credentials."""
    (tmp_path / "npmrc").write_text("registry=https://host-of-this-machine.example/")
    layout.add("v1", [layer(
        plain("etc/pip.conf", b"[global]\nindex-url = https://me:pw@pip.example:8443/simple\nextra-index-url = http://*.pip.example/ https://x.example:*/\n"),
        ("root", tarfile.DIRTYPE, {}, b""),
        ("root/.npmrc", tarfile.SYMTYPE, {"linkname": str(tmp_path / "npmrc")}, b""),
        ("usr/etc/npmrc", tarfile.SYMTYPE, {"linkname": "../" * 20 + str(tmp_path / "npmrc")}, b""),
        ("usr/local/etc/npmrc", tarfile.SYMTYPE, {"linkname": "npmrc"}, b""),
        plain("home/agent/.npmrc", b"@me:registry=https://npm.example/x\n#registry=https://off.example\nregistry=https://\x1b[31m.example/\n"),
        plain("etc/apt/sources.list.d/a.sources", b"Types: deb\nURIs: http://apt.example/debian\n"),
        plain("etc/apt/sources.list.d/$(touch x) b.list", b"deb http://strange.example/ x main\n"),
        plain("etc/npmrc", b"registry=https://flood.example/\n" + b" " * 300_000),
        plain("root/.cargo/config.toml", b"".join(b"a = \"https://c%d.example\"\n" % i for i in range(200))))],
        Env=["GOPROXY=https://go.example,direct"])
    done = caged(fresh, "image", "build", "--from", f"oci:{layout.path}", "--name", "mine")
    assert done.returncode == 0, done.stderr
    mine = next(t for t in json.loads(caged(fresh, "templates", "--json").stdout) if t["name"] == "mine")
    assert mine["registries"][:4] == ["npm.example:443", "pip.example:8443", "apt.example:80", "go.example:443"]
    assert len(mine["registries"]) == 64 and all(r.startswith("c") for r in mine["registries"][4:]), mine["registries"]


@ROOT_ONLY
def test_two_imports_at_once_make_one_version(fresh, layout):
    layout.add("v1", [layer(plain("file", b"x" * 5_000_000))])
    command = ["image", "build", "--from", f"oci:{layout.path}", "--name", "twice"]
    processes = [start(fresh, *command) for _ in range(2)]
    said = [p.communicate(timeout=120)[1] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], said
    assert len(list((fresh / "templates" / "twice").iterdir())) == 1
    assert sum("twice          is up to date" in text for text in said) == 1
    assert leftovers(fresh) == ([], [])


HOSTILE = {
    "dot-dot": [plain("../../../escaped")],
    "symlink": [("esc", tarfile.SYMTYPE, {"linkname": "/tmp"}, b""), plain("esc/escaped")],
    "hardlink": [("stolen", tarfile.LNKTYPE, {"linkname": "../../../../etc/shadow"}, b"")],
    "whiteout": [plain(".wh...", b"")],
}


@ROOT_ONLY
@pytest.mark.parametrize("trick", HOSTILE)
def test_a_hostile_layer_ends_the_import_and_leaves_nothing(fresh, layout, trick, tmp_path):
    layout.add("v1", [layer(*HOSTILE[trick])])
    done = caged(fresh, "image", "build", "--from", f"oci:{layout.path}", "--name", "bad")
    assert done.returncode == 1
    assert not list(tmp_path.rglob("escaped")) and not pathlib.Path("/tmp/escaped").exists()
    assert leftovers(fresh) == ([], [])
    assert not (fresh / "templates" / "bad.json").exists()


@ROOT_ONLY
def test_a_recipes_name_is_not_taken_by_an_import(fresh, layout):
    layout.add("v1", [layer(plain("file"))])
    done = caged(fresh, "image", "build", "--from", f"oci:{layout.path}", "--name", "minimal")
    assert done.returncode == 1
    assert "minimal is the name of a template that has a recipe" in done.stderr


@ROOT_ONLY
def test_texts_of_an_image_cannot_act_on_the_terminal(fresh, layout):
    layout.add("v1", [layer(plain("x\x1b]0;owned\x07/../..", b""))])
    done = caged(fresh, "image", "build", "--from", f"oci:{layout.path}:\x1b[2J", "--name", "bad")
    assert done.returncode == 1
    done = caged(fresh, "image", "build", "--from", f"oci:{layout.path}", "--name", "bad")
    assert done.returncode == 1 and "\x1b" not in done.stderr
