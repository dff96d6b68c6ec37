"""Alerts' rules and the ways out of notifications, against real receivers on loopback: a webhook that fails first,
chats, a mail server. What an alert is raised by needs guests: tests/vm/test_trust.py."""

import hashlib
import hmac
import http.server
import json
import socketserver
import threading

import product
import pytest

SECRET = "s3cret-of-the-webhook"


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps what is posted; `answers` are the status codes to give, then 200."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.got, self.answers = [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path="/hook"):
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.server.got.append({"path": self.path, "headers": dict(self.headers), "body": body})
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.server.url("/elsewhere"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Mailbox(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Smtp)
        self.mails = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Smtp(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as a client needs that sends one mail."""

    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        mail = {"to": []}
        self.say("220 mailbox ESMTP")
        for line in self.rfile:
            word = line.split(b" ")[0].split(b"\r")[0].upper()
            if word == b"DATA":
                self.say("354 go on")
                lines = []
                for text in self.rfile:
                    if text == b".\r\n":
                        break
                    lines.append(text[1:] if text.startswith(b"..") else text)
                mail["text"] = b"".join(lines).decode()
                self.server.mails.append(mail)
            elif word == b"MAIL":
                mail["from"] = line.decode()
            elif word == b"RCPT":
                mail["to"].append(line.decode())
            elif word == b"QUIT":
                self.say("221 bye")
                return
            self.say("250 fine")


@pytest.fixture(scope="module")
def receiver():
    return Receiver()


@pytest.fixture(scope="module")
def mailbox():
    return Mailbox()


@pytest.fixture(scope="module")
def server(mailbox):
    config = f"""
notify:
  allow: [127.0.0.1/32]
  smtp_url: smtp://127.0.0.1:{mailbox.server_address[1]}
  from: caged@example.com
  retry_seconds: 1
"""
    with product.Server(config=config) as s:
        yield s


def channels(server, **config):
    return server.api("PUT", "/v1/notifications/config", config)


def send_test(server):
    server.api("POST", "/v1/notifications/test")


def test_rules_are_there_and_take_only_numbers_that_make_sense(server):
    rules = {r["type"]: r for r in server.api("GET", "/v1/alerts/rules")}
    assert {"budget_exceeded", "cost_anomaly", "agent_stuck", "error_spike", "trust_score_low"} <= set(rules)
    rule = rules["trust_score_low"]
    assert rule["enabled"] is True and rule["config"]["score_threshold"] == 0
    path = f"/v1/alerts/rules/{rule['id']}"
    changed = server.api("PUT", path, {"enabled": False, "config": {"score_threshold": 80}})
    assert (changed["enabled"], changed["config"]["score_threshold"]) == (False, 80)
    assert {r["type"]: r for r in server.api("GET", "/v1/alerts/rules")}["trust_score_low"] == changed
    assert server.api("PUT", path, {"enabled": True})["config"]["score_threshold"] == 80
    for wrong in ({"config": {"score_threshold": 101}}, {"config": {"score_threshold": "80"}}, {"config": {"x": 1}}, {"enabled": 1}):
        with pytest.raises(product.Refused) as refused:
            server.api("PUT", path, wrong)
        assert refused.value.status == 400
    with pytest.raises(product.Refused) as refused:
        server.api("GET", "/v1/alerts/alert-abcdefghij")
    assert refused.value.status == 404
    assert server.api("GET", "/v1/alerts?limit=1000") == {"alerts": [], "total": 0, "limit": 50, "offset": 0}
    assert "trust_score_low" in server.cli("alerts", "rules").stdout


def test_a_webhook_is_signed_and_tried_again_until_it_is_taken(server, receiver):
    receiver.answers[:] = [500, 429]
    receiver.got.clear()
    channels(server, webhook_url=receiver.url(), webhook_secret=SECRET, enabled_channels=["webhook"])
    send_test(server)
    product.wait_for("the third try", lambda: len(receiver.got) >= 3)
    assert len({got["headers"]["X-Caged-Delivery"] for got in receiver.got}) == 1
    for got in receiver.got:
        parts = dict(p.split("=", 1) for p in got["headers"]["X-Caged-Signature"].split(","))
        signed = f"{parts['t']}.{got['body']}".encode()
        assert hmac.compare_digest(parts["v1"], hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest())
    assert json.loads(receiver.got[0]["body"])["type"] == "test"


def test_a_refusal_is_final_and_told_and_a_redirect_is_not_followed(server, receiver):
    for answer in (404, 302):
        receiver.answers[:] = [answer]
        receiver.got.clear()
        channels(server, webhook_url=receiver.url(), enabled_channels=["webhook"])
        before = server.api("GET", "/v1/notifications/unread-count")["unread_count"]
        send_test(server)
        product.wait_for("it is told", lambda b=before: server.api("GET", "/v1/notifications/unread-count")["unread_count"] > b)
        newest = server.api("GET", "/v1/notifications")["notifications"][0]
        assert str(answer) in newest["message"] and newest["channel"] == "in_app"
        assert [got["path"] for got in receiver.got] == ["/hook"]


def test_slack_discord_and_mail_get_what_they_understand(server, receiver, mailbox):
    receiver.got.clear()
    channels(server, slack_webhook_url=receiver.url("/slack"), discord_webhook_url=receiver.url("/discord"),
          email_address="ops@example.com", enabled_channels=["slack", "discord", "email", "in_app"])
    send_test(server)
    product.wait_for("all three", lambda: len(receiver.got) >= 2 and mailbox.mails)
    bodies = {got["path"]: json.loads(got["body"]) for got in receiver.got}
    assert "Test notification" in bodies["/slack"]["text"]
    assert "Test notification" in bodies["/discord"]["content"] and bodies["/discord"]["allowed_mentions"] == {"parse": []}
    mail = mailbox.mails[-1]
    assert "ops@example.com" in mail["to"][0] and "caged@example.com" in mail["from"]
    head, body = mail["text"].split("\r\n\r\n", 1)
    assert "Subject: [caged] Test notification" in head and "what an alert of Caged looks like" in body


def test_what_is_unread_is_counted_and_can_be_read(server):
    channels(server, enabled_channels=["in_app"])
    send_test(server)
    listed = server.api("GET", "/v1/notifications?unread=true")
    assert listed["unread_count"] == len(listed["notifications"]) >= 1
    server.api("POST", f"/v1/notifications/{listed['notifications'][0]['id']}/read")
    assert server.api("GET", "/v1/notifications/unread-count")["unread_count"] == listed["unread_count"] - 1
    server.api("POST", "/v1/notifications/read-all")
    assert server.api("GET", "/v1/notifications?unread=true") == {"notifications": [], "unread_count": 0}


def test_secrets_of_channels_are_never_shown_nor_stored_in_the_clear(server, receiver):
    url = receiver.url("/very-secret-path-xyzw")
    shown = channels(server, slack_webhook_url=url, webhook_secret=SECRET)
    assert shown["slack_webhook_configured"] is True and shown["slack_webhook_hint"] == "...xyzw"
    assert "very-secret-path" not in json.dumps(shown) and SECRET not in json.dumps(shown)
    for file in server.state.glob("server.db*"):
        assert b"very-secret-path" not in file.read_bytes() and SECRET.encode() not in file.read_bytes()
    assert channels(server, slack_webhook_url="__clear__")["slack_webhook_configured"] is False
    for wrong in ({"email_address": "a@b\r\nBcc: x"}, {"webhook_url": "file:///etc/passwd"}, {"webhook_url": "http://a b/"},
                  {"enabled_channels": ["pigeon"]}, {"webhook_secret": "short"}, {"email_address": 5}):
        with pytest.raises(product.Refused) as refused:
            channels(server, **wrong)
        assert refused.value.status == 400


def test_a_message_that_had_not_arrived_is_sent_after_a_kill(server, receiver):
    receiver.answers[:] = [503] * 2
    receiver.got.clear()
    channels(server, webhook_url=receiver.url("/late"), webhook_secret=SECRET, enabled_channels=["webhook"])
    send_test(server)
    product.wait_for("the first try", lambda: receiver.got)
    server.kill()
    receiver.answers.clear()
    seen = len(receiver.got)
    server.start()
    product.wait_for("it comes again", lambda: len(receiver.got) > seen)
    assert len({got["headers"]["X-Caged-Delivery"] for got in receiver.got}) == 1
    assert server.api("GET", "/v1/notifications/config")["enabled_channels"] == ["webhook"]


def test_without_the_operators_word_messages_go_to_public_addresses_only(receiver):
    receiver.got.clear()
    with product.Server() as s:
        for url in (receiver.url(), receiver.url().replace("127.0.0.1", "localhost"), receiver.url().replace("127.0.0.1", "0x7f000001")):
            channels(s, webhook_url=url, webhook_secret=SECRET, enabled_channels=["webhook"])
            before = s.api("GET", "/v1/notifications/unread-count")["unread_count"]
            send_test(s)
            product.wait_for("it is told", lambda b=before: s.api("GET", "/v1/notifications/unread-count")["unread_count"] > b)
            assert "notify.allow" in s.api("GET", "/v1/notifications")["notifications"][0]["message"]
    assert receiver.got == []


def test_operators_rules_of_trust_that_are_wrong_are_refused_with_their_line(tmp_path):
    rules = tmp_path / "mine.yaml"
    rules.write_text("version: 1\nrules:\n  - id: mine\n    points: many\n")
    s = product.Server(config=f"trust: {{rules: {rules}}}\n")
    with pytest.raises(AssertionError) as refused:
        s.start()
    assert f"{rules}:4: points" in str(refused.value)
