"""Previews: what a guest serves, seen by a visitor. By name (an origin of its own) and by path, with passwords and links."""

import contextlib
import hashlib
import os
import re
import socket

import httpx
import pytest

import product

WEB = r"""
use IO::Socket::INET; $SIG{CHLD} = 'IGNORE'; $| = 1;
my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 64, ReuseAddr => 1) or die "listen: $!";
sub ok { my ($c, $body, $more) = @_; print $c "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-From: guest\r\n" . ($more // '') . "Content-Length: " . length($body) . "\r\n\r\n$body" }
while (my $c = $s->accept) {
    next if fork;
    my $in = ''; while ($in !~ /\r\n\r\n/ and sysread($c, my $b, 65536)) { $in .= $b }
    my ($head, $rest) = $in =~ /^(.*?\r\n\r\n)(.*)$/s;
    my ($method, $path) = $head =~ /^(\S+) (\S+)/;
    if ($path =~ m{^/body}) {
        if ($head =~ /content-length: (\d+)/i) { while (length $rest < $1 and sysread($c, my $b, 65536)) { $rest .= $b } }
        else { while ($rest !~ /\r\n0\r\n\r\n$/ and sysread($c, my $b, 65536)) { $rest .= $b }
               my $all = ''; while ($rest =~ s/^([0-9a-f]+)\r\n//i and hex $1) { $all .= substr($rest, 0, hex($1), ''); $rest =~ s/^\r\n// } $rest = $all }
        ok($c, $rest);
    } elsif ($path eq '/until-end') { print $c "HTTP/1.1 200 OK\r\n\r\n" . ('x' x 3000000) }
    elsif ($path eq '/chunked') { print $c "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n" }
    elsif ($path eq '/smuggle') { print $c "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"; sleep 1 }
    elsif ($path eq '/both') { print $c "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" }
    elsif ($path eq '/garbage') { print $c "220 smtp ready\r\n" }
    elsif ($path eq '/cut') { print $c "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf" }
    elsif ($path eq '/redirect') { print $c "HTTP/1.1 302 Found\r\nLocation: http://localhost:$ARGV[0]/there?x=1\r\nContent-Length: 0\r\n\r\n" }
    elsif ($path eq '/cookie') { ok($c, 'set', "Set-Cookie: a=1; Domain=localhost; Path=/\r\nStrict-Transport-Security: max-age=9\r\n") }
    elsif ($path eq '/socket') { print $c "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Socket: yes\r\n\r\nfirst"; while (sysread($c, my $b, 65536)) { print $c "<$b>" } }
    else { ok($c, $head) }
    close $c; exit;
}
"""
CONFIG = "previews: {listen: '127.0.0.1:0', requests_per_minute: 120}\n"


@pytest.fixture(scope="module")
def server():
    with product.Server(config=CONFIG) as s:
        yield s


@pytest.fixture(scope="module")
def box(server):
    s = server.create(memory_mb=256, disk_gb=1)
    s.exec("cat > /tmp/web.pl", stdin=WEB)
    for port in (3000, 5000, 8000, 8080):
        assert s.exec(f"setsid perl /tmp/web.pl {port} >/tmp/{port}.log 2>&1 </dev/null & sleep 1; cat /tmp/{port}.log")["output"] == ""
    product.wait_for("the ports are seen", lambda: {3000, 5000, 8000, 8080} <= set(ports(server, s)))
    yield s
    s.destroy()


def ports(server, box):
    return {p["port"]: p for p in server.api("GET", f"{box.path}/ports")}


class Visitor:
    """Somebody who knows the address and has no key; keeps no cookies, so that each test says which it sends."""

    def __init__(self, server, box, port):
        self.host = f"{box.id}-{port}.preview.localhost:{server.url.rsplit(':')[-1]}"
        self.http = httpx.Client(base_url=server.url, headers={"Host": self.host}, timeout=120)

    def __call__(self, method, path, **kw):
        self.http.cookies.clear()
        return self.http.request(method, path, **kw)

    def get(self, path, **kw):
        return self("GET", path, **kw)


@pytest.fixture
def visit(server, box):
    return Visitor(server, box, 3000)


def test_a_port_is_seen_under_its_name_and_the_guest_under_localhost(server, box, visit):
    assert ports(server, box)[3000]["preview_url"] == f"http://{visit.host}"
    seen = visit.get("/a/b?c=%20d", headers={"X-Mine": "1", "Cookie": "x=1; caged_preview=secret; y=2", "Origin": f"http://{visit.host}"})
    assert seen.status_code == 200, seen.text
    assert seen.headers["x-from"] == "guest" and "x-request-id" not in seen.headers
    head = seen.text.lower()
    assert head.startswith("get /a/b?c=%20d http/1.1\r\nhost: localhost:3000\r\n") and "x-mine: 1" in head
    assert "secret" not in head and "cookie: x=1; y=2\r\n" in head and "origin: http://localhost:3000\r\n" in head
    assert f"x-forwarded-host: {visit.host}" in head and "x-forwarded-for: 127.0.0.1" in head and "authorization" not in head
    # nothing of the API answers there, whatever key comes along
    assert visit.get("/v1/account").text.startswith("GET /v1/account HTTP/1.1")
    # HTTP is relayed as it is, whatever it says of connections
    assert "keep-alive" not in visit.get("/", headers={"Connection": "x-hop", "X-Hop": "1"}).text and visit("HEAD", "/").text == ""
    assert visit("OPTIONS", "/o").text.startswith("OPTIONS /o ")


@pytest.mark.parametrize("name", ["cage-aaaaaaaa-3000", "cage-aaaaaaaa", "x-3000", "cage-aaaaaaaa-99999", "cage-aaaaaaaa-0"])
def test_names_of_nothing_show_nothing(server, name):
    host = f"{name}.preview.localhost:{server.url.rsplit(':')[-1]}"
    assert httpx.get(server.url + "/v1/account", headers={"Host": host, "Authorization": f"Bearer {server.key}"}).status_code == 404


def test_bodies_and_answers_of_every_framing_come_whole(visit):
    blob = os.urandom(1_500_000)
    assert visit("POST", "/body", content=blob).content == blob
    assert visit("POST", "/body", content=(blob[i:i + 40_000] for i in range(0, 400_000, 40_000))).content == blob[:400_000]
    assert visit.get("/until-end").content == b"x" * 3_000_000
    assert visit.get("/chunked").text == "hello"
    with pytest.raises(httpx.RemoteProtocolError):
        visit.get("/cut")


def test_a_guest_cannot_answer_for_others(server, visit):
    with contextlib.closing(socket.create_connection(server.url.removeprefix("http://").rsplit(":"))) as s:
        s.sendall(f"GET /smuggle HTTP/1.1\r\nHost: {visit.host}\r\n\r\n".encode())
        first = s.recv(65536)
        while not first.endswith(b"\r\n\r\nok"):
            first += s.recv(65536)
        s.sendall(f"GET /health HTTP/1.1\r\nHost: {server.url.removeprefix('http://')}\r\nConnection: close\r\n\r\n".encode())
        rest = b"".join(iter(lambda: s.recv(65536), b""))
    assert b"poison" not in first + rest and b'"status":"ok"' in rest
    for path in ("/garbage", "/both"):
        answer = visit.get(path)
        assert answer.status_code == 502 and "does not speak" in answer.text
    assert Visitor(server, type("", (), {"id": visit.host.split("-3000")[0]}), 4200).get("/").status_code == 502


def test_redirects_and_cookies_stay_with_the_preview(visit):
    assert visit.get("/redirect").headers["location"] == "/there?x=1"
    answer = visit.get("/cookie")
    assert answer.headers["set-cookie"] == "a=1; Path=/" and "strict-transport-security" not in answer.headers


def test_a_websocket_goes_through_byte_by_byte(server, visit):
    with contextlib.closing(socket.create_connection(server.url.removeprefix("http://").rsplit(":"))) as s:
        s.sendall(f"GET /socket HTTP/1.1\r\nHost: {visit.host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\nearly".encode())
        seen = b""
        while b"<early>" not in seen:
            seen += s.recv(65536)
        head, _, rest = seen.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ") and b"X-Socket: yes" in head and rest == b"first<early>"
        blob = os.urandom(300_000)
        s.sendall(blob)
        echo = b""
        while len(echo.replace(b"<", b"").replace(b">", b"")) < len(blob.replace(b"<", b"").replace(b">", b"")):
            echo += s.recv(65536)
    assert hashlib.sha256(re.sub(rb"[<>]", b"", echo)).digest() == hashlib.sha256(re.sub(rb"[<>]", b"", blob)).digest()
    assert visit.get("/socket").status_code == 502  # a 101 that nobody asked for


def test_a_password_and_links_that_end(server, box):
    visit, path = Visitor(server, box, 5000), f"{box.path}/ports/5000"
    early = server.api("POST", path + "/share", {"expires_in": 600})
    port = server.api("POST", path + "/protect", {"password": "geheim & lang"})
    assert port["protected"] is True and port["port"] == 5000 and port["preview_url"] == f"http://{visit.host}"
    assert ports(server, box)[5000]["protected"] is True

    def shut(answer):
        return answer.status_code == 401 and "password" in answer.text and "HTTP/1.1" not in answer.text

    assert shut(visit.get("/")) and shut(visit("POST", "/body", content=b"x"))
    assert shut(visit.get("/?" + early["url"].partition("?")[2]))  # shared before the password
    assert shut(visit("POST", "/.caged/enter", data={"password": "falsch"}))
    answer = visit("POST", "/.caged/enter", data={"password": "geheim & lang"})
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    assert "HttpOnly" in answer.headers["set-cookie"] and "SameSite=Lax" in answer.headers["set-cookie"]
    cookie = answer.headers["set-cookie"].split(";")[0]
    seen = visit.get("/in", headers={"Cookie": cookie + "; own=1"})
    assert seen.status_code == 200 and cookie.split("=")[1] not in seen.text and "own=1" in seen.text

    server.kill()  # what was acknowledged holds
    server.start()
    visit = Visitor(server, box, 5000)
    assert shut(visit.get("/")) and visit.get("/in", headers={"Cookie": cookie}).status_code == 200
    assert shut(Visitor(server, box, 5000).get("/", headers={"Cookie": cookie[:-1] + ("0" if cookie[-1] != "0" else "1")}))

    link = server.api("POST", path + "/share", {"expires_in": 3600})
    query = link["url"].partition("?")[2]
    answer = visit.get("/deep?a=1&" + query + "&b=2", headers={"Accept": "text/html"})
    assert answer.status_code == 303 and answer.headers["location"] == "/deep?a=1&b=2" and "caged_preview=" in answer.headers["set-cookie"]
    assert visit.get("/api?" + query).text.startswith("GET /api HTTP/1.1")  # a program keeps no cookies
    other = Visitor(server, box, 8080)
    server.api("POST", f"{box.path}/ports/8080/protect", {"password": "another one"})
    assert shut(other.get("/?" + query))  # a link is for one port
    short = server.api("POST", path + "/share", {"expires_in": 1})["url"].partition("?")[2]
    product.wait_for("the link has ended", lambda: shut(visit.get("/?" + short)), every=1)

    server.api("POST", path + "/protect", {"password": "a newer one"})
    assert shut(visit.get("/", headers={"Cookie": cookie})) and shut(visit.get("/?" + query))
    server.api("DELETE", path + "/protect")
    assert visit.get("/").status_code == 200 and ports(server, box)[5000]["protected"] is False
    for body in ({}, {"password": ""}, {"password": 7}, {"password": "x" * 257}):
        with pytest.raises(product.Refused) as e:
            server.api("POST", path + "/protect", body)
        assert e.value.status == 400


def test_the_command_line_protects_and_shares(server, box):
    visit = Visitor(server, box, 5000)
    assert visit.host in server.cli("ports", box.id).stdout
    said = server.cli("ports", box.id, "protect", "5000", input="from the command line\n").stdout
    assert visit.host in said and visit.get("/").status_code == 401
    link = server.cli("ports", box.id, "share", "5000", "--seconds", "60").stdout.strip()
    assert visit.get("/?" + link.partition("?")[2]).status_code == 200
    server.cli("ports", box.id, "unprotect", "5000")
    assert visit.get("/").status_code == 200
    for words in (("protect",), ("open", "5000"), ("share", "5000", "--seconds", "soon")):
        assert server.cli("ports", box.id, *words, check=False).returncode == 2
    assert server.cli("ports", box.id, "share", "0", check=False).returncode == 1


def test_wrong_passwords_are_slowed_down(server, box):
    server.api("POST", f"{box.path}/ports/8080/protect", {"password": "right"})
    visit = Visitor(server, box, 8080)
    codes = [visit("POST", "/.caged/enter", data={"password": f"wrong {n}"}).status_code for n in range(12)]
    assert codes == [401] * 10 + [429] * 2
    assert visit("POST", "/.caged/enter", data={"password": "right"}).status_code == 429


def test_previews_by_path_are_walled_off_from_each_other(server, box):
    url = ports(server, box)[3000]["preview_path_url"]
    assert re.fullmatch(rf"http://127\.0\.0\.1:\d+/{box.id}-3000/", url) and url.split("/")[2] != server.url.split("/")[2]
    seen = httpx.get(url + "x?y=1", headers={"Cookie": "of=another", "Origin": "null"})
    assert seen.text.startswith("GET /x?y=1 HTTP/1.1") and "of=another" not in seen.text
    assert f"x-forwarded-prefix: /{box.id}-3000" in seen.text.lower()
    policy = seen.headers["content-security-policy"]
    assert policy.startswith("sandbox ") and "allow-same-origin" not in policy and seen.headers["access-control-allow-origin"] == "null"
    assert "set-cookie" not in httpx.get(url + "cookie").headers
    assert httpx.get(url[:-1]).headers["location"] == f"/{box.id}-3000/"
    assert httpx.get(url + "redirect").headers["location"] == f"/{box.id}-3000/there?x=1"
    assert httpx.get(url, headers={"Host": "evil.example"}).status_code == 404
    assert httpx.get(url.rsplit(box.id)[0] + "v1/sandboxes", headers={"Authorization": f"Bearer {server.key}"}).status_code == 404
    server.api("POST", f"{box.path}/ports/3000/protect", {"password": "pass"})
    assert httpx.get(url).status_code == 401
    answer = httpx.post(url + ".caged/enter", data={"password": "pass"})
    inside = answer.headers["location"]
    assert answer.status_code == 303 and inside.startswith(f"/{box.id}-3000/~") and "set-cookie" not in answer.headers
    base = url.rsplit(f"/{box.id}")[0]
    assert httpx.get(base + inside + "page").text.startswith("GET /page HTTP/1.1")
    assert httpx.get(base + inside + "redirect").headers["location"] == inside + "there?x=1"
    shared = server.api("POST", f"{box.path}/ports/3000/share")["path_url"]
    assert httpx.get(shared).status_code == 200
    server.api("DELETE", f"{box.path}/ports/3000/protect")


def test_a_port_is_asked_only_so_often(server, box):
    visit = Visitor(server, box, 8000)
    codes = [visit("POST" if n % 2 else "GET", "/.caged/enter" if n % 2 else "/").status_code for n in range(122)]
    assert codes[:120].count(200) == 120 and codes[120:] == [429, 429]
    assert Visitor(server, box, 3000).get("/").status_code == 200
