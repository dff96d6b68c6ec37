"""What files held: the workspace at any sequence number, differences between two, while the sandbox lives and
after its end. One sandbox, whose writes are made in order."""

import io
import subprocess
import tarfile

import pytest

import product


@pytest.fixture(scope="module")
def story():
    """A sandbox that wrote, changed, moved and deleted; and the numbers behind each step."""
    with product.Server() as server:
        box = server.create(memory_mb=256, disk_gb=1)
        marks = {}

        def mark(name, *paths):
            for path in paths:
                product.wait_for(f"{path} is kept", lambda p=path: newest(server, box, p))
            marks[name] = server.api("GET", f"{box.path}/status")["durable_seq"]

        box.run("mkdir -p src .git node_modules && printf 'one\\ntwo\\nthree\\n' > src/a.txt && printf 'old\\n' > gone.txt")
        box.run("printf '\\000\\001' > blob.bin; echo x > .git/index; echo y > node_modules/z.js; head -c 300000 /dev/zero | tr '\\0' x > large.txt")
        mark("first", "/workspace/src/a.txt", "/workspace/gone.txt", "/workspace/blob.bin", "/workspace/large.txt")
        server.http.put(f"{box.path}/files/content", params={"path": "/workspace/api.txt"}, json={"content": "by the API\n"}).raise_for_status()
        box.run("printf 'one\\n2\\nthree\\nfour' > src/a.txt; rm gone.txt")
        mark("second", "/workspace/api.txt")
        product.wait_for("the change is kept", lambda: newest(server, box, "/workspace/src/a.txt") > marks["first"])
        mark("second")
        box.run("mv src lib; ln -s /etc/passwd lib/link; cp /etc/hostname lib/h.tmp; mv lib/h.tmp lib/h")
        mark("third", "/workspace/lib/h")
        yield server, box, marks


def newest(server, box, path):
    found, after = 0, 0
    while True:
        page = server.call("GET", f"{box.path}/replay", params={"type": "content", "after_seq": after, "limit": 1000}).json()
        found = max([found] + [e["sequence"] for e in page["events"] if e["data"]["path"] == path])
        after = page["next_seq"]
        if not page["has_more"]:
            return found


def files(story, mark, path="/workspace"):
    server, box, marks = story
    return {f["name"]: f for f in
            server.call("GET", f"{box.path}/files", params={"at_seq": marks[mark], "path": path}).json()}


def content(story, mark, path):
    server, box, marks = story
    return server.call("GET", f"{box.path}/files/content", params={"at_seq": marks[mark], "path": path})


def diff(story, first, last):
    server, box, marks = story
    return server.api("GET", f"{box.path}/git/diff?from_seq={marks[first] if first else 0}&to_seq={marks[last]}")


def check_the_story(story, tmp_path):
    assert files(story, "first").keys() >= {"src", "gone.txt", "blob.bin", "large.txt"}
    assert files(story, "first")["src"]["type"] == "directory"
    assert "api.txt" not in files(story, "first") and "gone.txt" not in files(story, "second")
    assert files(story, "first", "src")["a.txt"]["size"] == 14
    assert content(story, "first", "/workspace/src/a.txt").text == "one\ntwo\nthree\n"
    assert content(story, "second", "src/a.txt").text == "one\n2\nthree\nfour"
    assert content(story, "second", "/workspace/api.txt").text == "by the API\n"
    assert content(story, "third", "lib/a.txt").text == "one\n2\nthree\nfour", "what was moved is where it went"
    assert set(files(story, "third", "lib")) >= {"a.txt", "h"} and "src" not in files(story, "third")
    assert content(story, "third", "src/a.txt").status_code == 404
    assert files(story, "first")["blob.bin"]["skipped"] == "binary"
    assert files(story, "first")["large.txt"]["skipped"] == "large"
    assert "binary" in content(story, "first", "blob.bin").json()["detail"]
    changed = diff(story, "first", "second")
    assert {f["path"]: f["status"] for f in changed["files"]} == {"api.txt": "added", "gone.txt": "deleted", "src/a.txt": "modified"}
    assert diff(story, "second", "second")["files"] == []
    # what the diff says is what patch makes of the first state
    (tmp_path / "src").mkdir(parents=True)
    (tmp_path / "src/a.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "gone.txt").write_text("old\n")
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=changed["diff"], text=True, check=True)
    assert (tmp_path / "src/a.txt").read_text() == "one\n2\nthree\nfour"
    assert (tmp_path / "api.txt").read_text() == "by the API\n" and not (tmp_path / "gone.txt").exists()


def test_the_workspace_is_shown_as_it_stood_at_any_number(story, tmp_path):
    check_the_story(story, tmp_path)


def test_what_came_in_an_archive_is_known_too(story):
    server, box, _ = story
    long_name = "a-folder-with-a-long-name/" * 6 + "deep.txt"  # over what a plain header holds
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, text in (("one.txt", b"first\n"), (long_name, b"deep\n"), ("two.bin", b"\0\1"), ("node_modules/x.js", b"x"), ("last.txt", b"")):
            head = tarfile.TarInfo("./" + name)
            head.size = len(text)
            archive.addfile(head, io.BytesIO(text))
    before = server.api("GET", f"{box.path}/status")["durable_seq"]
    server.http.put(f"{box.path}/files/archive", params={"path": "/workspace/up"}, content=made.getvalue()).raise_for_status()
    for name in ("one.txt", long_name, "two.bin", "last.txt"):
        product.wait_for(f"{name} is kept", lambda n=name: newest(server, box, f"/workspace/up/{n}") > before)
    now = server.api("GET", f"{box.path}/status")["durable_seq"]

    def read(name, seq):
        return server.call("GET", f"{box.path}/files/content", params={"at_seq": seq, "path": f"up/{name}"})
    assert read("one.txt", now).text == "first\n" and read(long_name, now).text == "deep\n" and read("last.txt", now).text == ""
    assert read("one.txt", before).status_code == 404 and newest(server, box, "/workspace/up/node_modules/x.js") == 0
    told = server.api("GET", f"{box.path}/git/diff?from_seq={before}&to_seq={now}")
    assert {"up/one.txt", f"up/{long_name}"} <= {f["path"] for f in told["files"]}


def test_folders_of_tools_and_git_are_left_out(story):
    server, box, _ = story
    kept = [e["data"]["path"] for e in
            server.call("GET", f"{box.path}/replay", params={"type": "content", "limit": 1000}).json()["events"]]
    assert not [p for p in kept if "/.git/" in p or "/node_modules/" in p]


def test_a_link_out_of_the_workspace_is_not_followed(story):
    server, box, _ = story
    box.run("ln -sf /etc/shadow evil.txt; printf x >> evil.txt || true")
    box.run("echo after > after.txt")
    product.wait_for("a later file is kept", lambda: newest(server, box, "/workspace/after.txt"))
    assert newest(server, box, "/workspace/evil.txt") == 0


@pytest.mark.parametrize("query,word", [("files?at_seq=x", "at_seq"), ("files?at_seq=3&path=/etc", "/workspace"),
                                        ("files/content?at_seq=3", "path"), ("git/diff?from_seq=-1", "from_seq")])
def test_wrong_questions_about_the_past_are_refused_by_name(story, query, word):
    server, box, _ = story
    answer = server.call("GET", f"{box.path}/{query}")
    assert answer.status_code == 400 and word in answer.json()["detail"]


def test_the_command_line_shows_the_past(story):
    server, box, marks = story
    assert "a.txt" in server.cli("files", box.id, "src", "--at", marks["first"]).stdout
    assert server.cli("files", box.id, "--cat", "src/a.txt", "--at", marks["first"]).stdout == "one\ntwo\nthree\n"
    told = server.cli("files", box.id, "--diff", marks["first"], "--at", marks["second"]).stdout
    assert "-two" in told and "+2" in told


def test_a_guest_that_moves_its_clock_is_told_and_changes_no_time(story):
    server, box, _ = story
    box.run("date -s '2031-01-01 00:00:00'", user="root")
    gap = product.wait_for("it is told", lambda: [e for e in box.record() if e["type"] == "gap" and e["data"]["reason"] == "guest_clock"], 120)
    assert gap[0]["data"]["ahead_s"] > 86400 * 365 and gap[0]["src"] == "host"
    assert not [e for e in box.record() if e["ts"].startswith("2031")]


def test_the_past_is_shown_when_the_sandbox_is_gone_and_the_record_verifies(story, tmp_path):
    server, box, _ = story
    box.destroy()
    product.wait_for("its end", lambda: box.get()["status"] == "destroyed")
    check_the_story(story, tmp_path)
    assert server.cli("verify", box.id).returncode == 0
