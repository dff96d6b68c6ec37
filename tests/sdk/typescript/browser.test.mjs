// The same files in a browser, on a page of the server's own origin.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { launch, root } from "../../e2e/lib.mjs";

test("the client runs in a browser: commands, terminals, events", { timeout: 300_000 }, async (t) => {
  const browser = await launch();
  t.after(() => browser.close());
  const page = await browser.newPage();
  const base = process.env.CAGED_API_URL;
  await page.route("**/sdk-under-test/*", (route) => {
    const name = new URL(route.request().url()).pathname.split("/").pop();
    return route.fulfill({ contentType: "text/javascript", body: readFileSync(`${root}/sdk/typescript/dist/${name}`) });
  });
  await page.goto(`${base}/health`);
  const told = await page.evaluate(
    async ({ apiKey, box, baseUrl }) => {
      const { Caged, NotFoundError } = await import("/sdk-under-test/index.js");
      const caged = new Caged({ apiKey, baseUrl });
      const stream = await caged.sandboxes.execStream(box, "echo from a browser");
      const shell = await caged.sandboxes.terminal(box);
      shell.send("exit 5\n");
      let first;
      for await (const event of caged.events.stream({ sandboxId: box })) {
        first = event.sequence;
        if (first) break;
      }
      const missing = await caged.sandboxes.get("cage-zzzzzzzz").catch((e) => e instanceof NotFoundError);
      return [await stream.text(), await shell.wait(), first, missing];
    },
    { apiKey: process.env.CAGED_API_KEY, box: process.env.CAGED_TEST_BOX, baseUrl: base },
  );
  assert.deepEqual(told, ["from a browser\n", 5, 1, true]);
});
