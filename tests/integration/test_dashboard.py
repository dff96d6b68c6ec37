"""How the server hands out the dashboard: which paths, which headers, and what it never gives out."""

import gzip

import httpx
import pytest

import product

BUILT = product.STAGE / "share" / "caged" / "dashboard" / "index.html"
pytestmark = pytest.mark.skipif(not BUILT.exists(), reason="the dashboard is not built here (no node)")
BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


def fetch(server, path, method="GET", **headers):
    return httpx.request(method, server.url + path, headers={**BROWSER, **headers})


def asset(suffix):
    return next(f"/assets/{p.name}" for p in (BUILT.parent / "assets").iterdir() if p.name.endswith(suffix))


def test_pages_are_one_file_that_is_asked_for_anew_each_time(server):
    for path in ("/", "/sandboxes/cage-abcdefgh", "/device?code=BCDF-GHJK", "/login", "/signup", "/no/such/page"):
        answer = fetch(server, path)
        assert answer.status_code == 200, path
        assert answer.text == BUILT.read_text()
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"


def test_a_page_may_load_from_this_server_alone_and_be_framed_by_nobody(server):
    for path in ("/", asset(".js")):
        headers = fetch(server, path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_files_named_by_their_content_are_kept_for_ever_and_packed_when_wished(server):
    path = asset(".js")
    plain = fetch(server, path, **{"Accept-Encoding": "identity"})
    assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-encoding" not in plain.headers and plain.headers["vary"] == "Accept-Encoding"
    assert plain.content == (BUILT.parent / path[1:]).read_bytes()
    with httpx.stream("GET", server.url + path, headers={"Accept-Encoding": "br, GZIP;q=0.8"}) as packed:
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(b"".join(packed.iter_raw())) == plain.content
    refused = fetch(server, path, **{"Accept-Encoding": "gzip;q=0, identity"})
    assert "content-encoding" not in refused.headers


def test_head_has_the_headers_and_no_body(server):
    for path in ("/", asset(".css")):
        answer = fetch(server, path, "HEAD", **{"Accept-Encoding": "identity"})
        assert answer.status_code == 200 and answer.content == b""
        assert int(answer.headers["content-length"]) == len(fetch(server, path).content)


def test_nothing_but_the_dashboards_own_files_can_be_named(server):
    secret = server.state / "owner.key"
    for path in (
        f"/{secret}", "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/assets/../../data/prices.json",
        "/assets/..%2f..%2fdata%2fprices.json", "/assets//etc/passwd", "/assets/%00index.js", "/assets/", "/index.html.gz",
        asset(".js") + ".gz", "/assets/no-such.js",
    ):
        host, port = server.info["listen"].rsplit(":", 1)
        answer = raw_get(host, int(port), path)
        assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), (path, answer[:200])
        assert b"caged_sk_" not in answer and b"root:" not in answer


def raw_get(host, port, path):
    """As it is written here: a client library would tidy the path."""
    import socket

    with socket.create_connection((host, port), timeout=20) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        got = b""
        while part := s.recv(65536):
            got += part
        return got


def test_the_api_comes_first_and_its_errors_stay_its_own(server):
    assert fetch(server, "/health").json()["status"] == "ok"
    for path, status in (("/v1/sandboxes", 401), ("/v1/no/such/thing", 404), ("/v1", 404), ("/health/more", 404)):
        answer = fetch(server, path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
    assert fetch(server, "/", "POST").status_code == 404
    assert fetch(server, "/login", "DELETE").status_code == 405
    # who is no browser is told that there is nothing
    assert httpx.get(server.url + "/no/such/page").status_code == 404


def test_another_host_name_gets_nothing(server):
    assert fetch(server, "/", Host="evil.example").status_code == 421
