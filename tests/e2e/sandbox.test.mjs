// A whole sandbox life in a browser, with a real guest: create, type in the terminal, see the file,
// edit it, see the difference, replay what happened, destroy.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { axe, launch, loaded, open, Server, shot } from "./lib.mjs";

const MARK = "a7-marker";

describe("a sandbox in the browser", { timeout: 900_000 }, () => {
  let server, browser, page, id;
  before(async () => {
    server = new Server().start();
    browser = await launch();
    page = await open(browser, server);
    page.setDefaultTimeout(90_000);
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  const tab = async (name) => {
    await page.getByRole("navigation", { name: "Views of this sandbox" }).getByRole("link", { name }).click();
  };
  const screen = () => page.evaluate(() => document.querySelector(".term-view .xterm-rows")?.textContent ?? "");
  const type = async (text) => {
    await page.locator(".term-view .xterm-helper-textarea").focus();
    await page.keyboard.type(`${text}\n`);
  };
  const seen = (text) => page.waitForFunction((t) => document.querySelector(".term-view .xterm-rows")?.textContent.includes(t), text);

  test("the form says what is wrong, and the same as a command", async () => {
    await page.goto(`${server.url}/new`);
    await page.getByLabel("Name").fill("e2e box");
    await page.getByLabel("Memory, MB").fill("7");
    await page.getByText("A whole number of MB, 128 to 8192").waitFor();
    assert.equal(await page.getByRole("button", { name: "Create" }).isDisabled(), true);
    await page.getByLabel("Memory, MB").fill("256");
    await page.getByLabel("Disk, GB").fill("1");
    await page.getByLabel("Budget, $").fill("2.5");
    await page.getByLabel("Environment").fill("COLOUR=it's blue");
    const command = await page.getByLabel("Command", { exact: true }).innerText();
    assert.equal(command.trim(), "caged run --template minimal --name 'e2e box' --memory 256 --disk 1 --budget 2.5 --env 'COLOUR=it'\\''s blue'");
    assert.deepEqual(await axe(page), []);
    await shot(page, "create-light");
    await page.getByRole("button", { name: "Create" }).click();
    await page.waitForURL(/\/sandboxes\/cage-/);
    id = new URL(page.url()).pathname.split("/")[2];
  });

  test("a shell opens by itself, and what is typed runs in there", async () => {
    await page.getByText("running", { exact: true }).waitFor();
    await page.locator(".term-view .xterm-rows").waitFor();
    await seen("$");
    await type(`echo "$COLOUR"; mkdir -p src && printf 'one\\ntwo\\n' > src/${MARK}.txt && git init -q . && git add -A && git -c user.name=T -c user.email=t@t.invalid commit -qm base; echo "so""-far"`);
    await seen("so-far");
    assert.match(await screen(), /it's blue/);
    await shot(page, "terminal-light");
    assert.deepEqual(await axe(page), []);
  });

  test("another page and back leaves the shell as it was; a second one is its own", async () => {
    await type("KEPT=still-here");
    await page.getByRole("link", { name: "Sandboxes" }).click();
    await page.getByRole("link", { name: "e2e box" }).waitFor();
    assert.deepEqual(await axe(page), []);
    await shot(page, "list-light");
    await page.getByRole("link", { name: "e2e box" }).click();
    await type("echo $KEPT");
    await seen("still-here");
    await page.getByRole("button", { name: "New terminal" }).click();
    await seen("$");
    await type("echo second-${KEPT:-empty}");
    await seen("second-empty");
  });

  test("a restart of the server and a reload of the page lose neither the shell nor a line of it", async () => {
    await page.getByRole("tab", { name: "Shell 1" }).click();
    await seen("still-here");
    await type("for i in 1 2 3 4 5 6 7 8 9; do echo step-$i; sleep 0.7; done; echo all-steps-$KEPT");
    await seen("step-2");
    server.stop();
    await page.getByText("The connection is gone, the shell goes on.").waitFor();
    await page.getByText("The server does not answer.").waitFor();
    server.start();
    await seen("all-steps-still-here");
    await page.getByText("Live", { exact: true }).waitFor();
    assert.deepEqual((await screen()).match(/step-\d/g).slice(-9), [1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => `step-${n}`));
    await page.reload();
    await page.getByRole("tab", { name: "Shell 1" }).click();
    await seen("still-here");
    await type("echo once-$((40 + 2))-$KEPT");
    await seen("once-42-still-here");
  });

  test("many lines are asked about before they are pasted", async () => {
    const paste = () => page.evaluate(() => {
      const data = new DataTransfer();
      data.setData("text/plain", "echo pasted-1\necho pasted-2\n");
      document.querySelector(".term-view .xterm-helper-textarea").dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
    });
    await paste();
    await page.getByRole("heading", { name: "Paste 2 lines?" }).waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    assert.doesNotMatch(await screen(), /pasted-1/);
    await paste();
    await page.getByRole("button", { name: "Paste", exact: true }).click();
    await seen("pasted-2");
  });

  test("the file is in the browser of files, is edited there, and git sees the difference", async () => {
    await tab("Files");
    await page.getByRole("button", { name: "src", exact: true }).click();
    await page.getByRole("button", { name: new RegExp(MARK) }).click();
    await page.locator(".cm-content").waitFor();
    assert.match(await page.locator(".cm-content").innerText(), /one\s+two/);
    await page.locator(".cm-content").click();
    await page.keyboard.press("Control+End");
    await page.keyboard.type("three\n");
    await page.getByText("not saved").waitFor();
    await page.keyboard.press("Control+s");
    await page.getByText(`${MARK}.txt saved`).waitFor();
    await shot(page, "files-light");
    assert.deepEqual(await axe(page), []);
    const text = await (await fetch(`${server.url}/v1/sandboxes/${id}/files/content?path=/workspace/src/${MARK}.txt`, { headers: { Authorization: `Bearer ${server.key}` } })).text();
    assert.equal(text, "one\ntwo\nthree\n");
    await tab("Changes");
    await page.locator("tr.add", { hasText: "three" }).waitFor();
    await shot(page, "changes-light");
    assert.deepEqual(await axe(page), []);
  });

  test("the timeline has it all, and goes back to a moment", async () => {
    await tab("Timeline");
    await page.getByRole("region", { name: "Events" }).waitFor();
    await page.getByLabel("Find in events").fill(`${MARK}`);
    await page.locator(".event", { hasText: `/workspace/src/${MARK}.txt` }).first().waitFor();
    await page.locator(".event", { hasText: `/workspace/src/${MARK}.txt` }).first().click();
    await page.getByText("told from inside the sandbox: evidence").or(page.getByText("seen by the host: proof")).first().waitFor();
    await shot(page, "timeline-event-light");
    assert.deepEqual(await axe(page), []);
    await page.getByLabel("Find in events").fill("");
    const slider = page.getByRole("slider", { name: "Moment" });
    await slider.press("Home");
    await page.getByText("No terminal had shown anything by then.").waitFor();
    await slider.press("End");
    await page.waitForFunction(() => document.querySelector(".screen .xterm-rows")?.textContent.includes("pasted-2"));
    await page.getByRole("button", { name: "Follow live" }).click();
    await shot(page, "timeline-light");
    assert.deepEqual(await axe(page), []);
  });

  test("cost, network, metrics, trust, snapshots and settings have something to say, also to axe", async () => {
    for (const name of ["Cost", "Trust", "Network", "Metrics", "Snapshots", "Settings"]) {
      await tab(name);
      await loaded(page);
      if (name === "Metrics") await page.locator(".uplot").first().waitFor();
      await page.waitForTimeout(300);
      assert.deepEqual(await axe(page), [], name);
      await shot(page, `${name.toLowerCase()}-light`);
    }
    await tab("Cost");
    await page.getByRole("button", { name: "Change the budget" }).click();
    await page.getByLabel("Dollars for models and machine together").fill("4");
    await page.getByRole("button", { name: "Set", exact: true }).click();
    await page.getByText("The budget is $4.00 now").waitFor();
    assert.equal((await server.api("GET", `/v1/sandboxes/${id}`)).budget, 4);
  });

  test("destroying is asked about, and leaves the record to be replayed", async () => {
    await page.getByRole("button", { name: "Destroy" }).first().click();
    await page.getByRole("heading", { name: /Destroy e2e box/ }).waitFor();
    assert.deepEqual(await axe(page), []);
    await page.getByRole("dialog").getByRole("button", { name: "Destroy" }).click();
    await page.getByText("destroyed", { exact: true }).first().waitFor();
    assert.equal((await server.api("GET", `/v1/sandboxes/${id}`)).status, "destroyed");
    await page.goto(`${server.url}/sandboxes/${id}/timeline?t=1`);
    await page.getByRole("region", { name: "Events" }).waitFor();
    await page.getByRole("button", { name: "To the end" }).click();
    await page.waitForFunction(() => document.querySelector(".screen .xterm-rows")?.textContent.includes("pasted-2"));
    await shot(page, "replay-light");
  });

  test("no page logged an error, broke the policy or asked another host", () => {
    assert.deepEqual([page.wrong, page.outside], [[], []]);
  });
});
