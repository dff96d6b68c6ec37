"""Secrets: whatever a guest does as root, the real value is nowhere but in headers to the host that it is for."""

import pathlib
import subprocess

import product
import pytest
import tlshost
from outside import calm

VALUE = "ghp_Real9Value8Seven7Six6"
OTHER = "other-Real-Value-1234567"


@pytest.fixture(scope="module")
def outside():
    with tlshost.Host(VALUE) as bound, tlshost.Host(OTHER) as unbound:
        work = bound.repos / "work"
        subprocess.run(f"git init -qb main {work} && cd {work} && echo 'private text' > a.txt && git add . && "
                       f"git -c user.name=t -c user.email=t@t commit -qm one && git clone -q --bare {work} {bound.repos}/p.git && "
                       f"git -C {bound.repos}/p.git config http.receivepack true",
                       shell=True, check=True)
        yield bound, unbound


@pytest.fixture(scope="module")
def server(outside):
    bound, unbound = outside
    both = pathlib.Path(bound.dir.name) / "both.pem"
    both.write_text(bound.ca.read_text() + unbound.ca.read_text())
    config = (f"network:\n  allow: ['127.0.0.1/32:{bound.port}', '127.0.0.1/32:{unbound.port}']\n  ca_file: {both}\n")
    with product.Server(calm() + config) as s:
        s.api("POST", "/v1/secrets", {"name": "TOKEN", "value": VALUE, "hosts": [bound.name]})
        s.api("PUT", "/v1/secrets/OTHER", {"value": OTHER, "hosts": ["elsewhere.example"]})
        yield s


@pytest.fixture(scope="module")
def box(server):
    s = server.create(memory_mb=384, disk_gb=1, secrets=["TOKEN", "OTHER"])
    yield s
    s.destroy()


@pytest.fixture(autouse=True)
def nothing_seen(outside):
    for host in outside:
        host.seen.clear()
        host.ws.clear()


def curl(box, url, *args, user="root"):
    return box.exec("curl -sS -m 30 -i " + " ".join(args) + f" '{url}'", user=user)["output"]


def refused(output, rule):
    assert f"X-Caged-Refused: {rule}" in output, output
    assert VALUE not in output and OTHER not in output


def sent(host):
    return repr(host.seen) + repr(host.ws)


def test_header_gets_the_value_and_its_reflection_is_masked(box, outside):
    url = f"https://{outside[0].name}/echo"
    for header in ("Authorization: Bearer $TOKEN", "x-api-key: $TOKEN", "PRIVATE-TOKEN: $TOKEN"):
        out = curl(box, url, f'-H "{header}"', "--compressed", "-r 0-5000")
        assert " 200 " in out and VALUE not in out and "*" * len(VALUE) in out, out
        headers = outside[0].seen[-1][2]
        assert headers[header.split(":")[0]] == header.split(": ")[1].replace("$TOKEN", VALUE)
        assert headers["Accept-Encoding"] == "identity" and "Range" not in headers


def memory_of(pid):
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            start, end = (int(x, 16) for x in line.split()[0].split("-"))
            if line.split()[1].startswith("rw"):
                for at in range(start, end, 8 << 20):
                    try:
                        memory.seek(at)
                        yield memory.read(min(8 << 20, end - at))
                    except (OSError, ValueError):
                        break


def test_real_values_are_nowhere_in_the_memory_of_the_guest(server, box, outside):
    curl(box, f"https://{outside[0].name}/echo", '-H "Authorization: $TOKEN"')
    assert VALUE in sent(outside[0])
    disk = (server.state / "sandboxes" / box.id / "disk.img").stat()
    vmms = []
    for process in pathlib.Path("/proc").iterdir():
        try:
            files = {(f.stat().st_dev, f.stat().st_ino) for f in (process / "fd").iterdir()} if process.name.isdigit() else ()
            if (disk.st_dev, disk.st_ino) in files and "warden" not in (process / "comm").read_text():
                vmms.append(process.name)
        except OSError:
            continue
    assert vmms, "no VMM was found"
    seen = 0
    for pid in vmms:
        for piece in memory_of(pid):
            seen += piece.count(b"caged_ph_TOKEN_")
            assert VALUE.encode() not in piece
    assert seen > 0, "the search reads the guest's memory"


def test_real_values_are_not_in_a_snapshot_nor_in_what_a_crash_would_leave(server, box, outside):
    """Disk and memory of the guest as they are kept, unpacked: the placeholder is there, the value is not."""
    curl(box, f"https://{outside[0].name}/echo", '-H "A: $TOKEN"')
    made = server.api("POST", box.path + "/snapshots", {"memory": True})
    try:
        kept = [p for p in (server.state / "snapshots").rglob("*") if p.is_file()]
        assert kept
        values = placeholders = 0
        for path in kept:
            with path.open("rb") as f:
                head = f.read(4)
            command = ["zstd", "-dcq", path] if head == b"\x28\xb5\x2f\xfd" else ["cat", path]
            text = subprocess.Popen(command, stdout=subprocess.PIPE)
            found = subprocess.run(["grep", "-a", "-o", "-e", VALUE, "-e", "caged_ph_TOKEN_"], stdin=text.stdout, capture_output=True, text=True).stdout
            text.wait()
            values += found.count(VALUE)
            placeholders += found.count("caged_ph_TOKEN_")
        assert values == 0 and placeholders > 0, (values, placeholders, kept)
    finally:
        server.api("DELETE", f"/v1/snapshots/{made['id']}")
    for pid, line in product.processes_naming(box.id).items():
        if "caged-warden" in line:
            limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
            assert [row for row in limits.split("\n") if row.startswith("Max core file size")][0].split()[4:6] == ["0", "0"]


def test_basic_authentication_gets_the_value(box, outside):
    out = curl(box, f"https://{outside[0].name}/base64", '-u "me:$TOKEN"')
    assert " 200 " in out and VALUE not in out
    assert outside[0].seen[-1][2]["Authorization"].startswith("Basic ")
    assert "caged_ph" not in sent(outside[0])


def test_private_git_clone_and_push_without_the_token_in_the_guest(box, outside):
    box.run("cd /tmp && rm -rf p && git clone -q https://x-access-token:$TOKEN@%s/git/p.git && cat p/a.txt" % outside[0].name)
    assert box.run("cat /tmp/p/a.txt") == "private text"
    box.run("cd /tmp/p && echo more > b.txt && git add . && git -c user.name=g -c user.email=g@g commit -qm two && git push -q origin main")
    assert "two" in subprocess.run(["git", "-C", outside[0].repos / "p.git", "log", "--format=%s", "main"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("args, rule", [
    (["-X GET", "-G", "--data-urlencode", '"t=$TOKEN"'], "placeholder_in_url"),
    (['-H "Host: $TOKEN"'], "host_mismatch"),
    (["-H 'Host: elsewhere.example'"], "host_mismatch"),
    (['-d "t=$TOKEN"'], "placeholder_in_body"),
    (['-H "Transfer-Encoding: chunked"', '-d "t=$TOKEN"'], "placeholder_in_body"),
    (['-F "f=$TOKEN;filename=x.bin"'], "placeholder_in_body"),
    (['-e "$TOKEN"'], "placeholder_in_header"),
    (['-H "A: $OTHER"'], "placeholder_elsewhere"),
    (["-H 'Transfer-Encoding: chunked'", "-H 'Content-Length: 3'", "-d abc"], "smuggling"),
    (["-X TRACE", '-H "A: $TOKEN"'], "method"),
    (["--http2", "--request-target", f"https://{tlshost.NAME}/"], "target"),
])
def test_what_is_no_header_for_that_host_is_refused(box, outside, args, rule):
    out = curl(box, f"https://{outside[0].name}/x", *args)
    refused(out, rule)
    assert VALUE not in sent(outside[0]) and OTHER not in sent(outside[0]) and "caged_ph" not in sent(outside[0])


def test_gzip_of_the_placeholder_is_no_secret_and_is_not_swapped(box, outside):
    box.run('printf "$TOKEN" | gzip > /tmp/b.gz')
    curl(box, f"https://{outside[0].name}/x", "-H 'Content-Encoding: gzip'", "--data-binary @/tmp/b.gz")
    assert VALUE not in sent(outside[0])


def test_reflections_in_pieces_or_compressed_never_reach_the_guest(box, outside):
    out = curl(box, f"https://{outside[0].name}/chunked", '-H "A: $TOKEN"')
    assert " 200 " in out and VALUE not in out and "*" * len(VALUE) in out
    refused(curl(box, f"https://{outside[0].name}/gzip", '-H "A: $TOKEN"'), "encoded_response")


def test_redirect_to_another_host_carries_the_placeholder_only(box, outside):
    out = curl(box, f"https://{outside[0].name}/redirect", "-L", "--location-trusted", "-k", "--http1.1", '-H "Authorization: $TOKEN"',
               f"-H 'X-To: https://{outside[1].name}/got'")
    assert VALUE in sent(outside[0])
    assert VALUE not in out and VALUE not in sent(outside[1])


def test_another_host_is_passed_unread(box, outside):
    out = curl(box, f"https://{outside[1].name}/x", "--http1.1", "-k", "-v", '-H "A: $TOKEN"')
    assert "Caged CA" not in out and " 200 " in out, out
    assert VALUE not in sent(outside[1]) and "caged_ph_TOKEN" in sent(outside[1])


def test_the_guest_trusts_whom_the_operator_trusts(server, box, outside):
    """Unread TLS of a host with a certificate of the operator's own CA, without -k: the other way round nobody would do it."""
    out = curl(box, f"https://{outside[1].name}/x", "--http1.1", "-v")
    assert " 200 " in out and "Caged CA" not in out, out
    here = box.run("cat $NODE_EXTRA_CA_CERTS; echo; echo @@; cat $SSL_CERT_FILE").split("@@\n")
    for host in outside:
        body = "".join(host.ca.read_text().split("-----")[2].split())
        assert all(body in "".join(text.split()) for text in here)
    box.run("cd /tmp && rm -f none && touch none")
    out = curl(box, f"https://{outside[1].name}/x", "--http1.1", "--cacert /tmp/none")
    assert " 200 " not in out, out


def test_websocket(box, outside):
    for word, held in (("hello", False), ("$TOKEN", True)):
        script = f"""( printf 'GET /ws HTTP/1.1\\r\\nHost: {outside[0].name}\\r\\nAuthorization: '"$TOKEN"'\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n'
printf 'Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n'; sleep 2
w="{word}"; printf '\\x81\\x'$(printf %02x $((128 + ${{#w}})))'\\x00\\x00\\x00\\x00'"$w"; sleep 2 ) |
openssl s_client -quiet -connect {outside[0].name} -servername {tlshost.NAME} 2>/dev/null"""
        out = box.exec(script, user="root")["output"]
        if "not found" in out:
            pytest.skip("the template has no openssl")
        assert "101 Switching" in out and VALUE not in out, out
    assert "hello" in repr(outside[0].ws) and "caged_ph" not in repr(outside[0].ws)


def test_real_values_are_nowhere_in_the_guest(box, outside):
    curl(box, f"https://{outside[0].name}/echo", '-H "A: $TOKEN"')
    assert box.run("printf %s $TOKEN").startswith("caged_ph_TOKEN_")
    # searched for backwards, so that the search does not find itself
    found = box.exec(f"cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | rev | grep -c -a -F {VALUE[::-1]}; "
                     f"printf %s {VALUE[::-1]} | rev | grep -r -l -F -f - /etc /root /home /workspace /var /run 2>/dev/null", user="root")["output"]
    assert found.strip() == "0", found


def test_real_values_are_nowhere_on_the_host(server, box, outside):
    curl(box, f"https://{outside[0].name}/echo", '-H "A: $TOKEN"')
    box.exec(f"echo {VALUE}")  # argv, the output of a command, typed by somebody who knows it
    box.exec("echo x", env={"E": VALUE})
    product.wait_for("the refusal is recorded", lambda: [e for e in box.events("network") if e["data"].get("event") == "secret"])
    found = subprocess.run(["grep", "-r", "-l", "-a", "-F", VALUE, str(server.state)], capture_output=True, text=True).stdout
    assert found == "", found
    assert "[REDACTED:TOKEN]" in repr(box.events("command"))
    for line in server.api("GET", "/v1/secrets"):
        assert "value" not in line and VALUE not in repr(line)
    used = {s["name"]: s for s in server.api("GET", "/v1/secrets")}["TOKEN"]
    assert used["last_used"] and used["hosts"] == [outside[0].name]


def test_what_was_refused_and_swapped_is_recorded(box, outside):
    refused(curl(box, f"https://{outside[0].name}/u?t=$TOKEN".replace("'", '"'), '-d "t=$TOKEN"'), "placeholder_in_body")
    told = [e["data"] for e in box.events("network") if e["data"].get("event") == "secret"]
    assert {"verdict", "secret", "name", "conn"} <= set(told[0])
    assert any(t["verdict"] == "refuse" and t["rule"] == "placeholder_in_body" and t["secret"] == "TOKEN" for t in told)
    assert any(t["verdict"] == "allow" and t["secret"] == "TOKEN" for t in told)
    assert any(t["verdict"] == "redact" and t["secret"] == "TOKEN" for t in told)
    assert "caged_ph_TOKEN" not in repr(told)


def test_two_sandboxes_have_different_placeholders_and_a_foreign_one_is_worthless(server, box, outside):
    second = server.create(memory_mb=256, disk_gb=1, secrets=["TOKEN"])
    try:
        mine, theirs = box.run("printf %s $TOKEN"), second.run("printf %s $TOKEN")
        assert mine != theirs
        out = curl(second, f"https://{outside[0].name}/echo", f"-H 'A: {mine}'")
        assert VALUE not in sent(outside[0]) and mine in out
    finally:
        second.destroy()
