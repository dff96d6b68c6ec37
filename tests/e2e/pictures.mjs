// Makes the pictures of README.md: node tests/e2e/pictures.mjs docs/images. A real server, a real guest, the
// example's failing test; what the model says is a script, everything else happens.
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { launch, loaded, open, Provider, root, Server } from "./lib.mjs";

const out = process.argv[2] ?? join(root, "docs/images");
mkdirSync(out, { recursive: true });
const tool = (command) => ({ type: "tool_use", id: "toolu_1", name: "Bash", input: { command } });
const steps = [
  { say: "I run the tests first, to see what fails.", command: "./test.sh", tokens: [4210, 96] },
  { say: "The last number is missing: the loop ends at `-lt`, one too early. I change it to `-le` and run the tests again.", command: "sed -i 's/-lt/-le/' fizz.sh && ./test.sh", tokens: [5480, 171] },
  { say: "All five tests pass now. The loop in `fizz.sh` compared with `-lt`, so that the last number was never printed; with `-le` it is. Nothing else had to change.", command: null, tokens: [6120, 148] },
];

const provider = await new Provider().start();
const server = new Server(`network:\n  allow: ['127.0.0.1/32']\nproviders:\n  anthropic: {base_url: '${provider.url}'}\n`).start();
const browser = await launch();
try {
  const box = await server.create({ name: "fix-the-tests", budget: 0.5, network_mode: "allowlist", allowlist: ["github.com"] });
  const put = (path, content) => server.api("PUT", `/v1/sandboxes/${box.id}/files/content`, { path, content });
  for (const name of readdirSync(join(root, "examples/fizz"))) await put(`/workspace/${name}`, readFileSync(join(root, "examples/fizz", name), "utf8"));
  await server.exec(box.id, "sh setup.sh");

  const page = await open(browser, server, { viewport: { width: 1280, height: 760 }, colorScheme: "dark" });
  page.setDefaultTimeout(60_000);
  const visit = async (path) => {
    await page.goto(server.url + path);
    await page.getByText("Live", { exact: true }).waitFor();
    await loaded(page);
  };
  await visit(`/sandboxes/${box.id}`);
  const rows = page.locator(".term-view .xterm-rows");
  await page.locator(".term-view .xterm-rows", { hasText: "$" }).waitFor();

  const messages = [{ role: "user", content: "The tests of this folder fail. Find out why, fix it, and say what was wrong." }];
  for (const step of steps) {
    const reply = [{ type: "text", text: step.say }, ...(step.command ? [tool(step.command)] : [])];
    provider.reply = reply;
    provider.usage = { input_tokens: step.tokens[0], output_tokens: step.tokens[1] };
    await put("/tmp/question.json", JSON.stringify({ model: "claude-sonnet-4-5", max_tokens: 2000, stream: true, system: "You are a careful engineer.", tools: [{ name: "Bash", input_schema: { type: "object" } }], messages }));
    await server.exec(box.id, 'curl -sN "$ANTHROPIC_BASE_URL/v1/messages" -H "x-api-key: $ANTHROPIC_API_KEY" -H "content-type: application/json" -d @/tmp/question.json');
    if (!step.command) continue;
    await page.locator(".term-view .xterm-helper-textarea").focus();
    await page.keyboard.type(`${step.command}\n`);
    await rows.getByText("fizz 15 says fifteen lines").nth(messages.length === 1 ? 0 : 1).waitFor();
    const result = await server.exec(box.id, "./test.sh");
    messages.push({ role: "assistant", content: reply }, { role: "user", content: [{ type: "tool_result", tool_use_id: "toolu_1", content: result.output }] });
  }
  await server.exec(box.id, "curl -s -m 3 https://get.tools.example/install | sh");
  await page.locator(".term-view .xterm-helper-textarea").focus();
  await page.keyboard.type("git diff --stat && git status --short\n");
  await rows.getByText("1 file changed").waitFor();
  await page.screenshot({ path: join(out, "terminal.png") });

  await page.emulateMedia({ colorScheme: "light" });
  await visit(`/sandboxes/${box.id}/timeline?t=0`);
  for (let i = 0; i < 3; i++) await page.getByRole("button", { name: "model call" }).click();
  await page.getByText("All five tests pass now", { exact: false }).waitFor();
  await page.locator("summary", { hasText: "from before" }).click();
  await page.screenshot({ path: join(out, "timeline.png") });

  await visit(`/sandboxes/${box.id}/trust`);
  await page.getByRole("button", { name: /^Evidence: / }).first().click();
  await page.locator(".evidence li").first().waitFor();
  await page.locator(".uplot").waitFor();
  await page.screenshot({ path: join(out, "trust.png") });
} finally {
  await browser.close();
  await server.close();
  provider.close();
}
