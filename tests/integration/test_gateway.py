"""The budget's bound through the real gateway, with its ledger on disk: what a truthful model server billed is
compared with the limit. The gateway runs without a sandbox (tests/lib/gateway.c), so that a thousand calls cost no guest.
"""

import asyncio
import hashlib
import json
import pathlib
import socket
import subprocess
import sys

import httpx
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lib"))
import modelserver
import product

HAIKU = (1.0, 5.0)  # dollars per million tokens of claude-haiku-4-5


class Gateway:
    def __init__(self, folder, model, budget, mode="flow"):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.process = subprocess.Popen(
            [ROOT / "build/tests/gateway", ROOT / "data/prices.json", folder, model.url,
             str(-1 if budget is None else round(budget * 1e9)), mode],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def state(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def idle(self):
        """Its state when no call is open any more."""
        return product.wait_for("no call is open", lambda: (lambda s: s if s["open"] == 0 else None)(self.state()), every=0.005)

    def closed(self):
        """The last lines of all calls that came: they follow what the client saw."""
        def told():
            lines = [json.loads(x) for f in sorted(self.folder.glob("*.jsonl")) for x in f.read_bytes().split(b"\n")[:-1]]
            ends = [x["data"] for x in lines if x.get("type") == "llm_call" and x["data"]["event"] == "close"]
            return ends if len(ends) == self.state()["calls"] else None
        return product.wait_for("each call has its last line", told)


def body(**more):
    return {"model": "claude-haiku-4-5", "max_tokens": 4000, "stream": True,
            "messages": [{"role": "user", "content": "x" * 2000}], **more}


async def one(url, data):
    """Status and bytes of one call, over a connection of its own."""
    host, port = url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    raw = json.dumps(data).encode()
    writer.write(b"POST /run-test/v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                 b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(raw), raw))
    await writer.drain()
    got = await reader.read(-1)
    writer.close()
    return int(got.split()[1]) if got else 0, got


def many(gateway, n, data):
    async def run():
        return await asyncio.gather(*(one(gateway.url, data) for _ in range(n)))

    return asyncio.run(asyncio.wait_for(run(), 240))


@pytest.mark.parametrize("mode", ["strict", "flow"])
def test_a_thousand_parallel_calls_never_cost_more_than_the_budget(tmp_path, mode):
    with modelserver.ModelServer(words=1000) as model, Gateway(tmp_path / "r", model, 1.0, mode) as gateway:
        answers = many(gateway, 1000, body())
        state = gateway.state()
        billed = model.bill.cost(*HAIKU)
        assert billed <= 1.0
        assert billed > 0.5, "the budget was not used"
        assert {status for status, _ in answers} == {200, 400}
        assert state["settled"] <= 10**9 and state["held"] == 0
        assert round(billed * 1e9) <= state["settled"]  # the ledger never says less than the bill


def test_a_body_that_ends_after_a_later_ones_is_a_call_like_any_other(tmp_path):
    with modelserver.ModelServer() as model, Gateway(tmp_path / "r", model, 1.0) as gateway:
        host, port = gateway.url.split("/")[2].split(":")
        raw = json.dumps(body()).encode()
        with socket.create_connection((host, int(port))) as first:
            first.sendall(b"POST /run-test/v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                          b"Content-Length: %d\r\n\r\n%s" % (len(raw), raw[:10]))
            assert many(gateway, 1, body())[0][0] == 200
            first.sendall(raw[10:])
            assert b" 200 " in first.makefile("rb").readline()
        assert len({c["call"] for c in gateway.closed()}) >= 1


def test_a_stream_that_ignores_its_cap_is_cut_before_the_budget_is_passed(tmp_path):
    with modelserver.ModelServer(mode="endless") as model, Gateway(tmp_path / "r", model, 0.02) as gateway:
        [(status, got)] = many(gateway, 1, body())
        assert status == 200 and b"event: error" in got
        assert model.bill.cost(*HAIKU) <= 0.02
        assert gateway.state()["cut"] == 1


@pytest.mark.parametrize("mode", ["nousage", "zero", "negative", "text", "huge", "cut", "error"])
def test_whatever_the_provider_says_of_usage_the_ledger_charges_at_least_the_bill(tmp_path, mode):
    with modelserver.ModelServer(mode=mode, words=50) as model, Gateway(tmp_path / "r", model, 1.0) as gateway:
        many(gateway, 1, body())
        state = gateway.idle()
        assert state["held"] == 0
        if mode != "zero":  # an explicit zero is the provider's word
            assert state["settled"] >= round(model.bill.cost(*HAIKU) * 1e9)
        assert state["settled"] < 10**9


@pytest.mark.parametrize("mode", ["500", "429"])
def test_what_a_provider_refuses_costs_nothing(tmp_path, mode):
    with modelserver.ModelServer(mode=mode) as model, Gateway(tmp_path / "r", model, 1.0) as gateway:
        [(status, _)] = many(gateway, 1, body())
        assert status == int(mode)
        assert gateway.state()["settled"] == 0


@pytest.mark.parametrize("data, why", [
    (b'{"model":"claude-haiku-4-5","max_tokens":1,"max_tokens":100000,"messages":[]}', "twice"),
    (b'{"model":"claude-haiku-4-5","Max_Tokens":100000,"messages":[]}', "another case"),
    (b'{"model":"claude-haiku-4-5","max\\u005ftokens":9,"messages":[]}', "escape"),
    (b'{"model":"nobody-knows-this","max_tokens":10,"messages":[]}', "no price is known"),
    (b'{"max_tokens":10,"messages":[]}', "model is missing"),
    (b"[" * 5000, "nested"),
    (b"not json", "JSON"),
])
def test_bodies_that_cannot_be_bounded_are_refused_in_the_vendors_words_and_reach_no_provider(tmp_path, data, why):
    with modelserver.ModelServer() as model, Gateway(tmp_path / "r", model, 1.0) as gateway:
        answer = httpx.post(gateway.url + "/v1/messages", content=data)
        assert answer.status_code == 400
        assert answer.json()["type"] == "error" and why in answer.json()["error"]["message"]
        assert model.requests == [] and gateway.state()["settled"] == 0


def test_only_paths_of_model_apis_pass_and_only_with_the_run_token(tmp_path):
    with modelserver.ModelServer() as model, Gateway(tmp_path / "r", model, None) as gateway:
        for path in ("/v1/files", "/v1/organizations", "/v1/messages/../files", "/", "/v1/messages/batches"):
            assert httpx.post(gateway.url + path, json=body()).status_code == 400, path
        stranger = gateway.url.replace("run-test", "run-other")
        assert httpx.post(stranger + "/v1/messages", json=body()).status_code == 401
        assert httpx.get(gateway.url + "/v1/responses", headers={"Upgrade": "websocket", "Connection": "Upgrade"}
                         ).status_code == 426
        assert model.requests == []


def test_the_guests_credentials_are_dropped_and_the_providers_key_is_put_in(tmp_path):
    with modelserver.ModelServer() as model, Gateway(tmp_path / "r", model, None) as gateway:
        httpx.post(gateway.url + "/v1/messages", json=body(), headers={
            "x-api-key": "sk-guest", "Authorization": "Bearer guest", "Cookie": "a=b", "anthropic-version": "2023-06-01"})
        seen = {k.lower(): v for k, v in model.requests[0]["headers"].items()}
        assert seen["x-api-key"] == "sk-real" and "authorization" not in seen and "cookie" not in seen
        assert seen["anthropic-version"] == "2023-06-01" and seen["accept-encoding"] == "identity"


def test_an_event_is_a_chunk_none_is_joined_or_split(tmp_path):
    with modelserver.ModelServer(words=30) as model, Gateway(tmp_path / "r", model, None) as gateway:
        [(_, got)] = many(gateway, 1, body())
        payload = got.split(b"\r\n\r\n", 1)[1]
        chunks = []
        while payload:
            size, _, payload = payload.partition(b"\r\n")
            chunks.append(payload[:int(size, 16)])
            payload = payload[int(size, 16) + 2:]
        assert all(c.startswith(b"event: ") and c.count(b"\n\n") == 1 for c in chunks[:-1]) and len(chunks) > 30


def test_what_was_sent_and_answered_is_kept_under_its_hash_however_many_calls_end_at_once(tmp_path):
    """More bytes at once than wait for a worker, so that the loop keeps some of them itself."""
    texts = [f"{i} " + "x%d " % i * 20000 for i in range(60)]
    with modelserver.ModelServer(words=3) as model, Gateway(tmp_path / "r", model, 50.0) as gateway:

        async def run():
            return await asyncio.gather(*(one(gateway.url, body(messages=[{"role": "user", "content": t}])) for t in texts))

        answers = asyncio.run(asyncio.wait_for(run(), 240))
        assert {status for status, _ in answers} == {200}
        ends = gateway.closed()
        kept = {}
        for name in {c[k] for c in ends for k in ("request_blob", "reply_blob")}:
            raw = subprocess.run(["zstd", "-dcq", tmp_path / "r/blobs" / f"{name}.zst"], check=True, capture_output=True).stdout
            assert hashlib.sha256(raw).hexdigest() == name
            kept[name] = raw
        assert sorted(json.loads(kept[c["request_blob"]])["messages"][0]["content"] for c in ends) == sorted(texts)
        assert all(b"message_stop" in kept[c["reply_blob"]] for c in ends)


def test_a_client_that_hangs_up_is_settled_and_frees_its_hold(tmp_path):
    with modelserver.ModelServer(mode="slow", words=100) as model, Gateway(tmp_path / "r", model, 1.0) as gateway:
        host, port = gateway.url.split("/")[2].split(":")
        raw = json.dumps(body()).encode()
        with socket.create_connection((host, int(port))) as s:
            s.sendall(b"POST /run-test/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(raw), raw))
            s.recv(100)
        state = gateway.idle()
        assert state["held"] == 0
        assert state["settled"] >= round(model.bill.calls[0]["input"] * HAIKU[0] * 1000)
