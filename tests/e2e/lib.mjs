// What the tests in a browser share: a real server with a state directory of its own, the API as the
// test sees it, Debian's chromium. A page that logs an error, throws or breaks the policy fails the test.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, chmodSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const stage = process.env.CAGED_STAGE ?? process.env.STAGE ?? join(root, "stage");
const require = createRequire(join(root, "dashboard/package.json"));
export const { chromium } = require("playwright-core");
export const axeSource = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
export const dashboard = join(stage, "share/caged/dashboard");

const images =
  process.env.CAGED_IMAGE_DIR ??
  (process.getuid() === 0
    ? "/var/lib/caged/images"
    : join(process.env.XDG_STATE_HOME ?? join(process.env.HOME, ".local/state"), "caged/images"));

/** A provider of models, as far as a call of Anthropic's API goes: says what `reply` has, bills what `usage` has. */
export class Provider {
  reply = [{ type: "text", text: "done" }];
  usage = { input_tokens: 1000, output_tokens: 500 };

  async start() {
    this.http = createServer((request, response) => {
      request.resume();
      request.on("end", () => this.answer(response));
    });
    await new Promise((done) => this.http.listen(0, "127.0.0.1", done));
    this.url = `http://127.0.0.1:${this.http.address().port}`;
    return this;
  }

  answer(response) {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const tell = (type, more) => response.write(`event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`);
    tell("message_start", { message: { id: "m", type: "message", role: "assistant", model: "claude-sonnet-4-5", content: [], usage: { input_tokens: this.usage.input_tokens, output_tokens: 1 } } });
    this.reply.forEach((block, index) => {
      const tool = block.type === "tool_use";
      tell("content_block_start", { index, content_block: tool ? { ...block, input: {} } : { ...block, text: "" } });
      tell("content_block_delta", { index, delta: tool ? { type: "input_json_delta", partial_json: JSON.stringify(block.input) } : { type: "text_delta", text: block.text } });
      tell("content_block_stop", { index });
    });
    tell("message_delta", { delta: { stop_reason: "end_turn" }, usage: this.usage });
    tell("message_stop", {});
    response.end();
  }

  close() {
    this.http?.closeAllConnections();
    this.http?.close();
  }
}

export class Server {
  /** With a configuration (YAML) where a test needs one. */
  constructor(config) {
    this.dir = mkdtempSync(join(tmpdir(), "caged-e-"));
    chmodSync(this.dir, 0o755);
    this.state = join(this.dir, "state");
    this.listen = "127.0.0.1:0";
    this.config = [];
    if (config) {
      writeFileSync(join(this.dir, "server.yaml"), config);
      this.config = ["--config", join(this.dir, "server.yaml")];
    }
    this.env = { ...process.env, CAGED_STATE_DIR: this.state, CAGED_IMAGE_DIR: images, NO_COLOR: "1" };
    delete this.env.CAGED_API_URL;
    delete this.env.CAGED_API_KEY;
  }

  caged(...args) {
    const done = spawnSync(join(stage, "bin/caged"), args, { env: this.env, encoding: "utf8", timeout: 120_000 });
    if (done.status !== 0) throw new Error(`caged ${args.join(" ")}: ${done.stdout}${done.stderr}`);
    return done.stdout;
  }

  start() {
    this.caged("server", "start", "--state-dir", this.state, "--listen", this.listen, ...this.config);
    const info = JSON.parse(readFileSync(join(this.state, "server.json"), "utf8"));
    this.listen = info.listen; // the same port again after a restart
    this.url = `http://${info.listen}`;
    this.key = readFileSync(join(this.state, "owner.key"), "utf8").trim();
    return this;
  }

  stop() {
    this.caged("server", "stop");
  }

  async api(method, path, body) {
    const response = await fetch(this.url + path, {
      method,
      headers: { Authorization: `Bearer ${this.key}`, ...(body ? { "Content-Type": "application/json" } : {}) },
      body: body ? JSON.stringify(body) : undefined,
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  async exec(id, command) {
    return this.api("POST", `/v1/sandboxes/${id}/exec`, { command });
  }

  create(body = {}) {
    return this.api("POST", "/v1/sandboxes", { template: "minimal", memory_mb: 256, disk_gb: 1, ...body });
  }

  async close() {
    for (const s of await this.api("GET", "/v1/sandboxes").catch(() => []))
      await this.api("DELETE", `/v1/sandboxes/${s.id}`).catch(() => {});
    try {
      this.stop();
    } catch {
      // it is gone already
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export function launch() {
  const path = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
  if (!path) throw new Error("chromium is missing: make setup installs it");
  return chromium.launch({ executablePath: path, args: ["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"] });
}

/** A tab that remembers what went wrong in it, and which addresses outside of the server it asked for. */
export async function open(browser, server, { key = server.key, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 850 }, reducedMotion: "reduce", ...options });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: server.url });
  if (key) await context.addInitScript((k) => sessionStorage.setItem("caged.token", k), key);
  const page = await context.newPage();
  page.wrong = [];
  page.outside = [];
  page.on("pageerror", (e) => page.wrong.push(String(e)));
  page.on("console", (m) => {
    // the browser's own notes on failed fetches are the tests' own doing (401, 404 by design)
    if (m.type() === "error" && !m.text().startsWith("Failed to load resource")) page.wrong.push(`${m.text()} (${m.location().url}:${m.location().lineNumber}:${m.location().columnNumber})`);
  });
  page.on("request", (r) => {
    const url = new URL(r.url());
    if (url.origin !== server.url && !["data:", "blob:"].includes(url.protocol)) page.outside.push(r.url());
  });
  return page;
}

/** Waits until no part of the page is still loading; a page can have several such parts at once. */
export async function loaded(page) {
  await page.waitForFunction(() => !document.querySelector(".loading"));
}

/** What axe finds against WCAG 2.2 A and AA, as lines. */
export async function axe(page) {
  await page.evaluate(axeSource); // not by a script element: the page's policy would refuse it, rightly
  const found = await page.evaluate(() =>
    globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }),
  );
  return found.violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target.join(" ")} ${n.failureSummary?.split("\n")[1] ?? ""}`));
}

/** Where screenshots go when somebody wants to look: CAGED_SHOTS=folder. */
export async function shot(page, name) {
  const folder = process.env.CAGED_SHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
}
