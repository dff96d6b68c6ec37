"""The Python client without a guest: what it sends, what it sends again, what it makes of answers."""

import inspect
import json
import pickle
import shutil
import subprocess
import sys
import zipfile

import httpx
import pytest

import caged as sdk
from caged import sse
from conftest import ROOT


def scripted(*answers, **options):
    """A client whose server gives these answers in turn; and the list of what it was asked."""
    asked, left = [], list(answers)

    def handle(request):
        asked.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return sdk.Caged("caged_sk_x", "http://h", transport=httpx.MockTransport(handle), **options), asked


def problem(status, code="invalid", headers=None, **more):
    body = {"type": "t", "title": "Title", "status": status, "detail": "what is wrong", "error": "what is wrong",
            "reason": {"code": code, "message": "m", "action": "a"}, **more}
    return httpx.Response(status, json=body, headers=headers)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    waits = []
    monkeypatch.setattr("caged._sync.transport.time.sleep", waits.append)
    return waits


@pytest.mark.parametrize("status, code, kind", [
    (400, "invalid", sdk.ValidationError), (422, "invalid", sdk.ValidationError), (401, "unauthorized", sdk.AuthError),
    (403, "policy_denied", sdk.AuthError), (403, "plan_limit_reached", sdk.PlanLimitError),
    (404, "not_found", sdk.NotFoundError), (409, "conflict", sdk.ConflictError),
    (429, "rate_limited", sdk.RateLimitError), (500, "internal", sdk.ServerError),
    (501, "not_available_yet", sdk.NotAvailableError),
])
def test_a_problem_becomes_the_error_of_its_kind(status, code, kind):
    client, _ = scripted(problem(status, code), retries=0)
    with pytest.raises(sdk.CagedAPIError) as e:
        client.sandboxes.get("cage-a")
    assert type(e.value) is kind and e.value.status == status and str(e.value) == "what is wrong"
    assert e.value.reason.code == code == e.value.code and e.value.problem["title"] == "Title"
    again = pickle.loads(pickle.dumps(e.value))
    assert type(again) is kind and again.problem == e.value.problem


@pytest.mark.parametrize("body, detail", [
    ('{"error":"old"}', "old"), ('{"title":"T"}', "T (HTTP 500)"), ("plain\n", "plain"), ("", "HTTP 500"),
    ("[1]", "[1]"), ('{"detail":7,"error":"e"}', "e"), ("[" * 100000, "[" * 1000),
])
def test_errors_of_other_shapes_are_told_as_well_as_they_can_be(body, detail):
    client, _ = scripted(httpx.Response(500, text=body))
    with pytest.raises(sdk.ServerError) as e:
        client.health()
    assert e.value.detail == detail and e.value.reason is None


def test_idempotent_requests_are_repeated_and_others_never():
    ok = httpx.Response(200, json=[])
    client, asked = scripted(httpx.ConnectError("no"), problem(503), ok)
    assert client.sandboxes.list() == [] and len(asked) == 3
    client, asked = scripted(problem(503), ok)
    with pytest.raises(sdk.ServerError):
        client.sandboxes.create("minimal")
    assert len(asked) == 1
    client, asked = scripted(httpx.ReadError("broken"), ok)
    with pytest.raises(sdk.CagedConnectionError):
        client.sandboxes.exec("cage-a", "true")
    assert len(asked) == 1
    client, asked = scripted(problem(500), ok)  # a bug of the server does not pass
    with pytest.raises(sdk.ServerError):
        client.sandboxes.list()
    assert len(asked) == 1
    client, asked = scripted(*[problem(503)] * 9)
    with pytest.raises(sdk.ServerError):
        client.sandboxes.list()
    assert len(asked) == 4


def test_retry_after_is_what_is_waited_and_a_long_one_is_left_to_the_caller(no_waiting):
    client, _ = scripted(problem(429, headers={"Retry-After": "7"}), httpx.Response(200, json=[]))
    client.sandboxes.list()
    assert no_waiting == [7.0]
    client, asked = scripted(problem(429, headers={"Retry-After": "3600"}))
    with pytest.raises(sdk.RateLimitError) as e:
        client.sandboxes.list()
    assert e.value.retry_after == 3600 and len(asked) == 1
    assert [0 < sdk._wire.pause_before(n, None) <= 8 for n in range(1, 9)] == [True] * 8


def test_a_destroy_whose_answer_was_lost_has_worked():
    client, asked = scripted(httpx.ReadError("broken"), problem(404))
    client.sandboxes.destroy("cage-a")
    assert len(asked) == 2
    client, _ = scripted(problem(404))
    with pytest.raises(sdk.NotFoundError):
        client.sandboxes.destroy("cage-a")


def test_a_timeout_is_told_with_its_seconds():
    client, _ = scripted(httpx.ReadTimeout("late"))
    with pytest.raises(sdk.CagedTimeoutError) as e:
        client.sandboxes.exec("cage-a", "sleep 9", timeout=2.5)
    assert e.value.timeout == 2.5


def test_identifiers_cannot_leave_their_place():
    client, asked = scripted(httpx.Response(200, json={}))
    client.sandboxes.get("a/../b?c#d e")
    assert asked[0].url.raw_path == b"/v1/sandboxes/a%2F..%2Fb%3Fc%23d%20e"
    for bad in ("", ".", "..", None):
        with pytest.raises(sdk.CagedError):
            client.sandboxes.get(bad)


def test_what_goes_over_the_wire():
    client, asked = scripted(httpx.Response(201, json={"id": "cage-a", "status": "running", "novel": [1]}))
    made = client.sandboxes.create("minimal", cpus=2, env={"A": "b"}, budget=None)
    assert made.id == "cage-a" and made.raw["novel"] == [1] and made.total_cost == 0
    assert json.loads(asked[0].content) == {"template": "minimal", "cpus": 2, "env": {"A": "b"}}
    assert asked[0].headers["authorization"] == "Bearer caged_sk_x"
    assert asked[0].headers["user-agent"] == f"caged-python/{sdk.__version__}"
    client, asked = scripted(httpx.Response(200, json={"status": "ok", "path": "/a b"}))
    client.files.write("cage-a", "/a b", "text")
    assert asked[0].url.params["path"] == "/a b" and json.loads(asked[0].content) == {"content": "text"}


def test_a_client_without_a_key_or_with_a_wrong_address_is_refused(monkeypatch):
    monkeypatch.delenv("CAGED_API_KEY", raising=False)
    for arguments in [(), ("",), ("a\nb",), ("k", "ftp://h"), ("k", "h:80")]:
        with pytest.raises(sdk.CagedError):
            sdk.Caged(*arguments)
    monkeypatch.setenv("CAGED_API_KEY", "caged_sk_env")
    monkeypatch.setenv("CAGED_API_URL", "https://h.example/")
    assert sdk.Caged().base_url == "https://h.example"
    assert "caged_sk_env" not in repr(sdk.Caged())


def test_event_streams_are_read_as_the_standard_says():
    reader, got = sse.EventReader(), []
    for line in [": hello", "id: cage-a:1", "event: command", 'data: {"seq":1,', 'data:"sandbox_id":"cage-a"}', "",
                 "", "data: not json", "", "event: sandbox", 'data: {"id":"cage-a","status":"running"}', ""]:
        got.append(reader.feed(line))
    first, second = [e for e in got if e]
    assert (first.id, first.type, first.sequence, first.sandbox_id) == ("cage-a:1", "command", 1, "cage-a")
    assert second.id is None and second.sandbox_id == "cage-a" and second.sequence is None


def test_an_event_stream_that_breaks_goes_on_after_the_last_event():
    def stream(*numbers, end=False):
        lines = [f'id: cage-a:{n}\nevent: x\ndata: {{"seq":{n}}}\n\n' for n in numbers]
        if end:
            lines.append('event: sandbox\ndata: {"id":"cage-a","status":"destroyed"}\n\n')
        return httpx.Response(200, text="".join(lines))

    client, asked = scripted(stream(1, 2), httpx.ConnectError("no"), stream(3, end=True))
    assert [e.sequence for e in client.events.stream("cage-a")] == [1, 2, 3, None]
    assert "last-event-id" not in asked[0].headers
    assert [a.headers["last-event-id"] for a in asked[1:]] == ["cage-a:2"] * 2


def test_the_wheel_builds_with_its_readme_and_installs(tmp_path):
    """By pip, from the index that it is configured for; without one this is skipped."""
    shutil.copytree(ROOT / "sdk" / "python", tmp_path / "sdk")
    pip = tmp_path / "venv" / "bin" / "pip"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    built = subprocess.run([pip, "wheel", "-q", "--no-deps", "-w", tmp_path / "out", tmp_path / "sdk"], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip(f"hatchling cannot be had here: {built.stderr[-300:]}")
    assert built.returncode == 0, built.stderr
    wheel, = (tmp_path / "out").glob("caged_sdk-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as content:
        about, = (content.read(n).decode() for n in content.namelist() if n.endswith("/METADATA"))
        assert "# caged-sdk" in about and "caged/py.typed" in content.namelist()
    subprocess.run([pip, "install", "-q", "--no-deps", "--no-index", wheel], check=True, timeout=120)
    told = subprocess.run([tmp_path / "venv" / "bin" / "pip", "show", "caged-sdk"], capture_output=True, text=True, timeout=60).stdout
    assert "Name: caged-sdk" in told and "httpx" in told and "websockets" in told


def test_every_name_of_the_contract_is_there():
    names = {
        "sandboxes": "create list get exec exec_stream terminal mcp pause resume destroy logs ports trust_scores fork "
                     "protect_port unprotect_port share_port network",
        "files": "list read write git_diff upload download",
        "snapshots": "list create get delete download restore download_url",
        "account": "get list_keys create_key revoke_key list_sessions revoke_session",
        "sessions": "list list_by_sandbox get replay replay_summary",
        "events": "ingest stream", "secrets": "list set delete",
        "alerts": "list get resolve list_rules update_rule",
        "notifications": "list list_unread unread_count mark_read mark_all_read get_config update_config",
        "billing": "get_subscription get_usage create_checkout create_portal cancel export_usage list_invoices get_invoice",
        "teams": "list create get delete members invite join set_role remove leave",
    }
    for client in (sdk.Caged("k"), sdk.AsyncCaged("k")):
        for space, methods in names.items():
            for name in methods.split():
                assert callable(getattr(getattr(client, space), name)), (space, name)
        assert callable(client.socket_ticket)
    for name in ("exec_stream", "terminal", "mcp"):
        assert inspect.iscoroutinefunction(getattr(sdk.Caged("k").sandboxes, name))
    for name in "send resize on_output on_close on_error close".split():
        assert hasattr(sdk.TerminalSession, name)
    for name in "text kill close __aiter__".split():
        assert hasattr(sdk.ExecStream, name)
    for name in ("initialize list_tools call_tool list_resources read_resource list_prompts get_prompt ping "
                 "on_notification on_close close").split():
        assert hasattr(sdk.MCPClient, name)


def test_the_blocking_client_is_the_one_written_from_the_other():
    done = subprocess.run([sys.executable, ROOT / "sdk/python/unasync", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
