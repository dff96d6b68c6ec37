// Signing in and the list, without any guest: what a person sees first.
import assert from "node:assert/strict";
import { gunzipSync } from "node:zlib";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { axe, dashboard, launch, open, Server, shot } from "./lib.mjs";

const FIRST_LOAD_MAX = 200 * 1024;

describe("signing in", { timeout: 180_000 }, () => {
  let server, browser;
  before(async () => {
    server = new Server().start();
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  test("the first load is at most 200 KB over the wire, and packed files are what they stand for", async () => {
    const page = await open(browser, server);
    let bytes = 0;
    const cdp = await page.context().newCDPSession(page);
    await cdp.send("Network.enable");
    cdp.on("Network.loadingFinished", (e) => (bytes += e.encodedDataLength));
    await page.goto(server.url);
    await page.getByRole("heading", { name: "No sandbox yet" }).waitFor();
    assert.ok(bytes > 5_000 && bytes < FIRST_LOAD_MAX, `${bytes} bytes`);
    for (const name of readdirSync(join(dashboard, "assets")).filter((n) => n.endsWith(".gz"))) {
      const path = join(dashboard, "assets", name);
      assert.deepEqual(gunzipSync(readFileSync(path)), readFileSync(path.slice(0, -3)), name);
      assert.ok(statSync(path).size > 0);
    }
    await page.context().close();
  });

  test("a wrong key is told, the right one opens the list, and a reload stays inside", async () => {
    const page = await open(browser, server, { key: null });
    await page.goto(`${server.url}/account/keys`);
    await page.getByRole("heading", { name: "Sign in to Caged" }).waitFor();
    assert.deepEqual(await axe(page), []);
    await shot(page, "signin-light");
    await page.getByLabel("API key", { exact: true }).fill("caged_sk_" + "a".repeat(32));
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("This key is not known here").waitFor();
    await page.getByLabel("API key", { exact: true }).fill(server.key);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("Live", { exact: true }).waitFor();
    await page.reload();
    await page.getByText("Live", { exact: true }).waitFor();
    assert.equal(await page.evaluate(() => localStorage.getItem("caged.token")), null, "not kept without being asked");
    await page.goto(server.url);
    await page.getByRole("heading", { name: "No sandbox yet" }).waitFor();
    assert.deepEqual(await axe(page), []);
    await shot(page, "first-light");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("heading", { name: "Sign in to Caged" }).waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.getItem("caged.token")), null);
    assert.deepEqual([page.wrong, page.outside], [[], []]);
    await page.context().close();
  });

  test("the palette finds a page by some of its letters, with keys alone", async () => {
    const page = await open(browser, server);
    await page.goto(server.url);
    await page.getByText("Live", { exact: true }).waitFor();
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox").fill("shortc");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Keyboard shortcuts" }).waitFor();
    assert.equal(new URL(page.url()).pathname, "/shortcuts");
    assert.deepEqual(await axe(page), []);
    assert.deepEqual([page.wrong, page.outside], [[], []]);
    await page.context().close();
  });
});
