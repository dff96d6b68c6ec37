// The client against a real server and a real guest: CAGED_API_URL, CAGED_API_KEY, and CAGED_TEST_BOX, a running sandbox.
// CAGED_TEST_SOCKET=own takes this package's WebSocket where Node has one of its own.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import * as sdk from "../../../sdk/typescript/dist/index.js";
import { NodeWebSocket } from "../../../sdk/typescript/dist/nodesocket.js";

const box = process.env.CAGED_TEST_BOX;
const caged = new sdk.Caged();
const limit = { timeout: 300_000 };

test("commands run and their outcome is told", limit, async () => {
  let done = await caged.sandboxes.exec(box, "echo out; echo err >&2; exit 3");
  assert.deepEqual([done.exit_code, done.stdout, done.stderr], [3, "out\n", "err\n"]);
  done = await caged.sandboxes.exec(box, null, { argv: ["sh", "-c", "cat; echo $A; pwd"], env: { A: "b" }, cwd: "/tmp", stdin: "in\n" });
  assert.equal(done.output, "in\nb\n/tmp\n");
  assert.equal((await caged.sandboxes.exec(box, "sleep 60", { timeout_ms: 300 })).timed_out, true);
  await assert.rejects(caged.sandboxes.exec(box, "sleep 61", { timeout: 500 }), sdk.CagedTimeoutError);
});

test("sandboxes are listed and refusals are typed", limit, async () => {
  assert.ok((await caged.sandboxes.list()).some((s) => s.id === box));
  const got = await caged.sandboxes.get(box);
  assert.deepEqual([got.status, got.template], ["running", "minimal"]);
  const error = await caged.sandboxes.get("cage-zzzzzzzz").catch((e) => e);
  assert.ok(error instanceof sdk.NotFoundError && error.code === "not_found" && error.requestId);
  await assert.rejects(caged.sandboxes.create("no-such-template"), sdk.ValidationError);
  await assert.rejects(new sdk.Caged({ apiKey: "caged_sk_wrong" }).sandboxes.list(), sdk.AuthError);
  await assert.rejects(caged.sandboxes.terminal("cage-zzzzzzzz"), sdk.NotFoundError);
  const { key, info } = await caged.account.createKey("reader", "read");
  await assert.rejects(new sdk.Caged({ apiKey: key }).sandboxes.exec(box, "true"), (e) => e instanceof sdk.AuthError && e.status === 403);
  await caged.account.revokeKey(info.id);
});

test("files go up and down byte by byte", limit, async () => {
  await caged.files.write(box, "ts/b.txt", "grüße\n");
  assert.equal(await caged.files.read(box, "/workspace/ts/b.txt"), "grüße\n");
  const blob = randomBytes(1_000_000);
  await caged.files.upload(box, "/tmp/blob", blob);
  assert.ok(blob.equals(await caged.files.download(box, "/tmp/blob")));
  async function* parts() {
    for (let i = 0; i < blob.length; i += 70_000) yield blob.subarray(i, i + 70_000);
  }
  await caged.files.upload(box, "/tmp/parts", parts());
  const down = [];
  for await (const part of caged.files.streamDownload(box, "/tmp/parts")) down.push(part);
  assert.ok(blob.equals(Buffer.concat(down)));
  await caged.files.mkdir(box, "ts2/d");
  await caged.files.rename(box, "ts/b.txt", "ts2/d/e.txt");
  assert.deepEqual((await caged.files.list(box, "ts2/d")).map((e) => [e.name, e.path, e.size]), [["e.txt", "/workspace/ts2/d/e.txt", 8]]);
  const tar = [];
  for await (const part of caged.files.archive(box, "ts2")) tar.push(part);
  await caged.files.unpack(box, Buffer.concat(tar), "/tmp/unpacked");
  assert.match(await caged.sandboxes.exec(box, "find /tmp/unpacked -name e.txt").then((d) => d.output), /e\.txt/);
  await caged.files.delete(box, "ts2", { recursive: true });
  await assert.rejects(caged.files.read(box, "ts2/d/e.txt"), sdk.NotFoundError);
});

for (const [how, client] of [["the platform's or own", caged], ["own", new sdk.Caged({ webSocket: NodeWebSocket })]]) {
  test(`output streams as it is written and a command can be ended (socket: ${how})`, limit, async () => {
    let stream = await client.sandboxes.execStream(box, "echo one; read x; echo $x >&2; exit 4", { stdin: true });
    const parts = stream.channels();
    assert.deepEqual((await parts.next()).value, [1, "one\n"]); // before the command has ended
    assert.equal(stream.exitCode, null);
    stream.send("two\n");
    assert.deepEqual((await parts.next()).value, [2, "two\n"]);
    assert.equal((await parts.next()).done, true);
    assert.equal(stream.exitCode, 4);
    stream = await client.sandboxes.execStream(box, "printf 'gr\\303'; sleep 0.3; printf '\\274n'");
    assert.deepEqual([await stream.text(), stream.exitCode, stream.stdout], ["grün", 0, "grün"]);
    stream = await client.sandboxes.execStream(box, "head -c 3000000 /dev/zero | tr '\\0' x");
    assert.equal((await stream.text()).length, 3_000_000);
    stream = await client.sandboxes.execStream(box, "wc -c", { stdin: true });
    for (let i = 0; i < 4; i++) stream.send(new Uint8Array(100_000));
    stream.eof();
    assert.equal((await stream.text()).trim(), "400000");
    stream = await client.sandboxes.execStream(box, "echo begun; exec sleep 1000");
    for await (const _ of stream) stream.kill();
    assert.ok(stream.exitCode !== 0 && stream.signal);
  });

  test(`a terminal takes keys, a size and tells its end (socket: ${how})`, limit, async () => {
    const shell = await client.sandboxes.terminal(box, { rows: 30, cols: 90 });
    let closed = 0;
    shell.onClose(() => closed++);
    shell.send("stty size; echo a''b\n");
    let seen = "";
    for await (const text of shell) {
      seen += text;
      if (/ab\r?\n/.test(seen)) break;
    }
    assert.match(seen, /30 90/);
    let later = "";
    shell.onOutput((text) => (later += text));
    shell.resize(41, 101);
    shell.send("stty size; exit 7\n");
    assert.equal(await shell.wait(), 7);
    assert.match(later, /41 101/);
    assert.deepEqual([shell.closed, closed], [true, 1]);
    assert.throws(() => shell.send("x"), sdk.CagedConnectionError);
  });

  test(`the tools of MCP are called (socket: ${how})`, limit, async () => {
    const mcp = await client.sandboxes.mcp(box);
    assert.ok((await mcp.initialize()).serverInfo);
    await mcp.ping();
    assert.ok((await mcp.listTools()).some((tool) => tool.name === "terminal_exec"));
    await mcp.callTool("filesystem_write", { path: "m.txt", content: "über" });
    const [read, ran] = await Promise.all([
      mcp.callTool("filesystem_read", { path: "m.txt" }),
      mcp.callTool("terminal_exec", { command: "echo $((6 * 7))" }),
    ]);
    assert.equal(read.content[0].text, "über");
    assert.match(ran.content[0].text, /42/);
    await assert.rejects(mcp.call("no/such"), (e) => e instanceof sdk.MCPError && e.code === -32601);
    assert.deepEqual((await mcp.callTool("filesystem_read", { path: "none" })).isError, true);
    await mcp.close();
    assert.equal(mcp.closed, true);
    await assert.rejects(mcp.ping(), sdk.CagedConnectionError);
  });
}

test("events come live, once each, and go on where one stopped", limit, async () => {
  const seen = [];
  const stop = new AbortController();
  for await (const event of caged.events.stream({ sandboxId: box, signal: stop.signal })) {
    if (event.id) seen.push(event);
    if (seen.length === 5) void caged.sandboxes.exec(box, "echo marker-17");
    if (JSON.stringify(event.data).includes("marker-17")) break;
  }
  const numbers = seen.map((e) => e.sequence);
  assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b));
  assert.equal(numbers[0], 1);
  for await (const event of caged.events.stream({ sandboxId: box, lastEventId: seen[4].id })) {
    if (!event.id) continue;
    assert.equal(event.sequence, numbers[5]);
    break;
  }
  assert.ok((await caged.sandboxes.logs(box, { tail: 5 })).length > 0);
});

test("git says what changed", limit, async () => {
  await caged.sandboxes.exec(box, "git init -q tg && cd tg && git config user.email a@b && git config user.name n && echo 1 >f && git add f && git commit -qm m && echo 2 >f && echo 3 >n");
  const diff = await caged.files.gitDiff(box, "/workspace/tg");
  assert.deepEqual(diff.files.map((f) => [f.path, f.status]).sort(), [["f", "modified"], ["n", "untracked"]]);
  assert.match(diff.diff, /\+2/);
});
