// The client without a guest: what it sends, what it sends again, what it makes of answers. The server is a real one
// of node:http that answers by a script.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import * as sdk from "../../../sdk/typescript/dist/index.js";
import { EventReader } from "../../../sdk/typescript/dist/sse.js";

/** A client whose server gives these answers in turn; and the list of what it was asked. A string breaks the connection. */
async function scripted(t, answers, options = {}) {
  const asked = [];
  const left = [...answers];
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    asked.push({ method: request.method, url: request.url, headers: request.headers, body: Buffer.concat(parts) });
    const answer = left.shift();
    if (answer === "break" || answer === undefined) return request.socket.destroy();
    if (answer === "silence") return;
    response.writeHead(answer.status ?? 200, answer.headers ?? {});
    response.end(answer.text ?? (answer.json === undefined ? "" : JSON.stringify(answer.json)));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const baseUrl = `http://127.0.0.1:${server.address().port}`;
  return { client: new sdk.Caged({ apiKey: "caged_sk_x", baseUrl, ...options }), asked };
}

const problem = (status, code = "invalid", headers = {}) => ({
  status,
  headers,
  json: { type: "t", title: "Title", status, detail: "what is wrong", error: "e", reason: { code, message: "m", action: "a" } },
});

for (const [status, code, kind] of [
  [400, "invalid", sdk.ValidationError], [422, "invalid", sdk.ValidationError], [401, "unauthorized", sdk.AuthError],
  [403, "policy_denied", sdk.AuthError], [403, "plan_limit_reached", sdk.PlanLimitError], [404, "not_found", sdk.NotFoundError],
  [409, "conflict", sdk.ConflictError], [429, "rate_limited", sdk.RateLimitError], [500, "internal", sdk.ServerError],
  [501, "not_available_yet", sdk.NotAvailableError],
])
  test(`a problem ${status} ${code} becomes the error of its kind`, async (t) => {
    const { client } = await scripted(t, [problem(status, code, { "X-Request-Id": "r1" })], { retries: 0 });
    const error = await client.sandboxes.get("cage-a").catch((e) => e);
    assert.equal(error.constructor, kind);
    assert.equal(error.name, kind.name);
    assert.ok(error instanceof sdk.CagedAPIError && error instanceof sdk.CagedError);
    assert.deepEqual([error.status, error.message, error.code, error.reason.action], [status, "what is wrong", code, "a"]);
    assert.equal(error.problem.title, "Title");
    assert.equal(error.requestId, "r1");
  });

test("errors of other shapes are told as well as they can be", async (t) => {
  for (const [text, detail] of [
    ['{"error":"old"}', "old"], ['{"title":"T"}', "T (HTTP 500)"], ["plain\n", "plain"], ["", "HTTP 500"], ["[1]", "[1]"],
    ['{"detail":7,"error":"e"}', "e"], ["[".repeat(100000), "[".repeat(1000)],
  ]) {
    const { client } = await scripted(t, [{ status: 500, text }]);
    const error = await client.health().catch((e) => e);
    assert.ok(error instanceof sdk.ServerError);
    assert.equal(error.detail, detail);
    assert.equal(error.reason, undefined);
  }
});

test("idempotent requests are repeated and others never", async (t) => {
  const ok = { json: [] };
  let { client, asked } = await scripted(t, ["break", problem(503), ok]);
  assert.deepEqual(await client.sandboxes.list(), []);
  assert.equal(asked.length, 3);
  ({ client, asked } = await scripted(t, [problem(503), ok]));
  await assert.rejects(client.sandboxes.create("minimal"), sdk.ServerError);
  assert.equal(asked.length, 1);
  ({ client, asked } = await scripted(t, ["break", ok]));
  await assert.rejects(client.sandboxes.exec("cage-a", "true"), sdk.CagedConnectionError);
  assert.equal(asked.length, 1);
  ({ client, asked } = await scripted(t, [problem(500), ok])); // a bug of the server does not pass
  await assert.rejects(client.sandboxes.list(), sdk.ServerError);
  assert.equal(asked.length, 1);
  ({ client, asked } = await scripted(t, Array(9).fill(problem(503)), { retries: 2 }));
  await assert.rejects(client.sandboxes.list(), sdk.ServerError);
  assert.equal(asked.length, 3);
});

test("Retry-After is obeyed, and a long one is left to the caller", async (t) => {
  let { client, asked } = await scripted(t, [problem(429, "rate_limited", { "Retry-After": "0" }), { json: [] }]);
  assert.deepEqual(await client.sandboxes.list(), []);
  ({ client, asked } = await scripted(t, [problem(429, "rate_limited", { "Retry-After": "3600" })]));
  const error = await client.sandboxes.list().catch((e) => e);
  assert.ok(error instanceof sdk.RateLimitError);
  assert.deepEqual([error.retryAfter, asked.length], [3_600_000, 1]);
});

test("a destroy whose answer was lost has worked", async (t) => {
  let { client, asked } = await scripted(t, ["break", problem(404)]);
  await client.sandboxes.destroy("cage-a");
  assert.equal(asked.length, 2);
  ({ client } = await scripted(t, [problem(404)]));
  await assert.rejects(client.sandboxes.destroy("cage-a"), sdk.NotFoundError);
});

test("a timeout is told with its milliseconds, and an abort is the caller's own", async (t) => {
  let { client, asked } = await scripted(t, ["silence"]);
  const error = await client.sandboxes.exec("cage-a", "sleep 9", { timeout: 50 }).catch((e) => e);
  assert.ok(error instanceof sdk.CagedTimeoutError);
  assert.deepEqual([error.timeout, asked.length], [50, 1]);
  ({ client } = await scripted(t, ["silence"]));
  const mine = new Error("mine");
  assert.equal(await client.sandboxes.exec("cage-a", "x", { signal: AbortSignal.abort(mine) }).catch((e) => e), mine);
});

test("a server that is not there is a connection error", async () => {
  const client = new sdk.Caged({ apiKey: "k", baseUrl: "http://127.0.0.1:1", retries: 0 });
  await assert.rejects(client.health(), sdk.CagedConnectionError);
  await assert.rejects(client.sandboxes.terminal("cage-a"), sdk.CagedConnectionError);
});

test("identifiers cannot leave their place", async (t) => {
  const { client, asked } = await scripted(t, [{ json: {} }]);
  await client.sandboxes.get("a/../b?c#d e");
  assert.equal(asked[0].url, "/v1/sandboxes/a%2F..%2Fb%3Fc%23d%20e");
  for (const bad of ["", ".", "..", null, undefined]) assert.throws(() => client.sandboxes.get(bad), sdk.CagedError);
});

test("what goes over the wire", async (t) => {
  const { client, asked } = await scripted(t, [{ status: 201, json: { id: "cage-a", novel: [1] } }, { json: {} }, { json: {} }]);
  const made = await client.sandboxes.create("minimal", { cpus: 2, env: { A: "b" }, budget: undefined });
  assert.deepEqual([made.id, made.novel], ["cage-a", [1]]);
  assert.deepEqual(JSON.parse(asked[0].body), { template: "minimal", cpus: 2, env: { A: "b" } });
  assert.equal(asked[0].headers.authorization, "Bearer caged_sk_x");
  assert.equal(asked[0].headers["user-agent"], `@caged-dev/sdk/${sdk.VERSION}`);
  await client.files.write("cage-a", "/a b", "text");
  assert.equal(asked[1].url, "/v1/sandboxes/cage-a/files/content?path=%2Fa+b");
  await client.events.ingest([{ type: "llm_call", payload: { model: "m" } }]);
  const [event] = JSON.parse(asked[2].body).events;
  assert.ok(event.type === "llm_call" && !Number.isNaN(Date.parse(event.timestamp)));
});

test("the calls of sessions, alerts, notifications and billing go where the contract has them", async (t) => {
  const { client, asked } = await scripted(t, Array(30).fill({ json: { url: "u", unread_count: 3, notifications: [] } }));
  await client.sessions.list({ perPage: 5 });
  await client.sessions.listBySandbox("cage-a");
  await client.sessions.get("sess-a");
  await client.sessions.replay("sess-a", { afterSeq: 4, limit: 10, type: "command" });
  await client.sessions.replaySummary("sess-a");
  await client.alerts.list({ limit: 2, offset: 4 });
  await client.alerts.get("alert-a");
  await client.alerts.resolve("alert-a");
  await client.alerts.listRules();
  await client.alerts.updateRule("rule-a", { enabled: false });
  await client.notifications.listUnread();
  assert.equal(await client.notifications.unreadCount(), 3);
  await client.notifications.markRead("n");
  await client.notifications.markAllRead();
  await client.notifications.getConfig();
  await client.notifications.updateConfig({ slack_webhook_url: "__clear__" });
  await client.billing.getSubscription();
  await client.billing.getUsage();
  assert.equal(await client.billing.createCheckout("pro"), "u");
  await client.billing.createPortal();
  await client.billing.cancel();
  await client.sandboxes.trustScores("cage-a");
  await client.sandboxes.protectPort("cage-a", 3000, "geheim");
  assert.deepEqual(asked.map((a) => `${a.method} ${a.url}`), [
    "GET /v1/sessions?page=1&per_page=5", "GET /v1/sandboxes/cage-a/sessions", "GET /v1/sessions/sess-a",
    "GET /v1/sessions/sess-a/replay?after_seq=4&limit=10&type=command", "GET /v1/sessions/sess-a/replay/summary",
    "GET /v1/alerts?limit=2&offset=4", "GET /v1/alerts/alert-a", "POST /v1/alerts/alert-a/resolve", "GET /v1/alerts/rules",
    "PUT /v1/alerts/rules/rule-a", "GET /v1/notifications?unread=true", "GET /v1/notifications/unread-count",
    "POST /v1/notifications/n/read", "POST /v1/notifications/read-all", "GET /v1/notifications/config",
    "PUT /v1/notifications/config", "GET /v1/billing/subscription", "GET /v1/billing/usage", "POST /v1/billing/checkout",
    "POST /v1/billing/portal", "POST /v1/billing/cancel", "GET /v1/trust/sandboxes/cage-a",
    "POST /v1/sandboxes/cage-a/ports/3000/protect",
  ]);
});

test("a replay is read part by part to its end", async (t) => {
  const part = (events, has_more, next_seq) => ({ json: { events, has_more, next_seq, total: 3 } });
  const { client, asked } = await scripted(t, [part([{ sequence: 1 }, { sequence: 2 }], true, 2), part([{ sequence: 3 }], false, 3)]);
  const seen = [];
  for await (const event of client.sessions.replayAll("sess-a")) seen.push(event.sequence);
  assert.deepEqual(seen, [1, 2, 3]);
  assert.match(asked[1].url, /after_seq=2/);
});

test("keys and addresses that are none are refused at once", () => {
  for (const apiKey of ["", " ", "a b", "ä"]) assert.throws(() => new sdk.Caged({ apiKey }), sdk.CagedError);
  for (const baseUrl of ["h", "ftp://h", "http://", "http://h?x"]) assert.throws(() => new sdk.Caged({ apiKey: "k", baseUrl }), sdk.CagedError);
});

test("event streams are cut into events, however the bytes come", () => {
  const text = [": hello", "id: cage-a:1", "event: command", 'data: {"seq":1,', 'data:"sandbox_id":"cage-a","t":"ü"}', "", "",
    "data: not json", "", "event: sandbox", 'data: {"id":"cage-a","status":"running"}', "", ""].join("\r\n");
  const bytes = new TextEncoder().encode(text);
  for (const size of [1, 2, 3, 7, 1000]) {
    const reader = new EventReader();
    const found = [];
    for (let i = 0; i < bytes.length; i += size) found.push(...reader.feed(bytes.subarray(i, i + size)));
    assert.equal(found.length, 2);
    assert.deepEqual([found[0].id, found[0].type, found[0].sequence, found[0].sandbox_id, found[0].data.t], ["cage-a:1", "command", 1, "cage-a", "ü"]);
    assert.deepEqual([found[1].id, found[1].sandbox_id, found[1].sequence], [undefined, "cage-a", undefined]);
  }
});

test("an event stream that breaks goes on after the last event", async (t) => {
  const lines = (...numbers) => numbers.map((n) => `id: cage-a:${n}\nevent: x\ndata: {"seq":${n}}\n\n`).join("");
  const end = 'event: sandbox\ndata: {"id":"cage-a","status":"destroyed"}\n\n';
  const { client, asked } = await scripted(t, [{ text: lines(1, 2) }, "break", { text: lines(3) + end }]);
  const seen = [];
  for await (const event of client.events.stream({ sandboxId: "cage-a" })) seen.push(event.sequence);
  assert.deepEqual(seen, [1, 2, 3, undefined]);
  assert.deepEqual(asked.map((a) => a.headers["last-event-id"]), [undefined, "cage-a:2", "cage-a:2"]);
});

test("every name of the contract is there", () => {
  const names = {
    sandboxes: "create list get exec execStream terminal mcp pause resume destroy logs ports trustScores trustScore fork",
    files: "list read write gitDiff upload download",
    snapshots: "list create get delete download restore downloadUrl",
    account: "get listKeys createKey revokeKey listSessions revokeSession",
    sessions: "list listBySandbox get replay replaySummary",
    events: "ingest stream", secrets: "list set delete",
    alerts: "list get resolve listRules updateRule",
    notifications: "list listUnread unreadCount markRead markAllRead getConfig updateConfig",
    billing: "getSubscription getUsage createCheckout createPortal cancel",
  };
  const client = new sdk.Caged({ apiKey: "k" });
  for (const [space, methods] of Object.entries(names))
    for (const name of methods.split(" ")) assert.equal(typeof client[space][name], "function", `${space}.${name}`);
  assert.equal(typeof client.socketTicket, "function");
  const has = (kind, words) => words.split(" ").forEach((name) => assert.equal(typeof kind.prototype[name], "function", name));
  has(sdk.TerminalSession, "send resize onOutput onClose onError close");
  has(sdk.ExecStream, "text kill close");
  has(sdk.MCPClient, "initialize listTools callTool listResources readResource listPrompts getPrompt ping onNotification onClose close");
  assert.equal(typeof sdk.ExecStream.prototype[Symbol.asyncIterator], "function");
});
