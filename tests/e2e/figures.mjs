// Figures of the dashboard, as JSON: node tests/e2e/figures.mjs [EVENTS]. A record of many events in a browser,
// a terminal that floods, how soon a page can be used, how much it jumps. make bench prints them.
import { spawnSync } from "node:child_process";
import { launch, loaded, open, Server } from "./lib.mjs";
import { largeSandbox } from "./large.mjs";

const EVENTS = Number(process.argv[2] ?? 1_000_000);
const FLOOD_MS = 8000;
const figures = { events: EVENTS };
const note = (name, value) => {
  figures[name] = Math.round(value * 100) / 100;
  if (process.env.CAGED_VERBOSE) console.error(name, figures[name]);
};
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

/** What moved without being asked to, as browsers count it. */
const watchShifts = () => {
  globalThis.__shift = 0;
  new PerformanceObserver((list) => {
    for (const e of list.getEntries()) {
      if (e.hadRecentInput) continue;
      globalThis.__shift += e.value;
      (globalThis.__moved ??= []).push([e.value.toFixed(3), ...e.sources.map((x) => x.node?.className || x.node?.nodeName)]);
    }
  }).observe({ type: "layout-shift", buffered: true });
};

/** Frames while something goes on: how many a second, and the longest pause between two. */
const frames = (page, ms) =>
  page.evaluate(
    (length) =>
      new Promise((done) => {
        const begin = performance.now();
        let before = begin;
        let n = 0;
        let longest = 0;
        const step = (now) => {
          n++;
          longest = Math.max(longest, now - before);
          before = now;
          if (now - begin < length) requestAnimationFrame(step);
          else done({ fps: (n * 1000) / (now - begin), longest });
        };
        requestAnimationFrame(step);
      }),
    ms,
  );

async function heapMb(page) {
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("HeapProfiler.collectGarbage");
  const { usedSize } = await cdp.send("Runtime.getHeapUsage");
  await cdp.detach();
  return usedSize / 1e6;
}

async function timed(work) {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}

const rowsShown = (page) => page.locator(".event:not(.waiting)").first().waitFor();

async function large(server, browser) {
  const id = await largeSandbox(server, EVENTS);
  note("index_s", (await timed(() => server.api("GET", `/v1/sandboxes/${id}/replay/summary?slots=640`))) / 1000);
  note("summary_ms", median(await samples(9, () => server.api("GET", `/v1/sandboxes/${id}/replay/summary?slots=640`))));
  const page = await open(browser, server);
  await page.addInitScript(watchShifts);
  let bytes = 0;
  page.on("response", (r) => void r.body().then((b) => (bytes += b.length), () => undefined));
  await page.goto(`${server.url}/sandboxes/${id}/timeline`);
  await rowsShown(page);
  await page.goto("about:blank");
  bytes = 0;
  note("first_rows_ms", await timed(async () => {
    await page.goto(`${server.url}/sandboxes/${id}/timeline`);
    await rowsShown(page);
  }));
  await page.locator(".moment .tiles").waitFor();
  note("first_bytes_mb", bytes / 1e6);
  note("first_heap_mb", await heapMb(page));
  const slider = page.getByRole("slider", { name: "Moment" });
  const box = await slider.boundingBox();
  const seeks = [];
  for (const part of [0.1, 0.9, 0.35, 0.6, 0.02, 0.75, 0.5])
    seeks.push(
      await timed(async () => {
        await page.mouse.click(box.x + box.width * part, box.y + 20);
        await page.waitForFunction(() => !document.querySelector(".event.waiting") && document.querySelector(".event.on"));
      }),
    );
  note("seek_ms", median(seeks));
  // through the list as fast as a hand can pull
  const list = page.getByRole("region", { name: "Events" });
  const scrolling = page.evaluate((length) => {
    const el = document.querySelector(".virtual");
    return new Promise((done) => {
      const begin = performance.now();
      const step = (now) => {
        el.scrollTop = ((now - begin) / length) * el.scrollHeight;
        if (now - begin < length) requestAnimationFrame(step);
        else done();
      };
      requestAnimationFrame(step);
    });
  }, 4000);
  const scroll = await frames(page, 4000);
  await scrolling;
  note("scroll_fps", scroll.fps);
  note("scroll_longest_frame_ms", scroll.longest);
  await list.locator(".event:not(.waiting)").first().waitFor();
  note("heap_mb", await heapMb(page));
  note("dom_rows", await page.locator(".event").count());
  await page.getByLabel("Speed").selectOption("16");
  await page.getByRole("button", { name: "Play", exact: true }).click();
  const play = await frames(page, 4000);
  note("play_fps", play.fps);
  note("play_longest_frame_ms", play.longest);
  note("timeline_shift", await page.evaluate(() => globalThis.__shift));
  if (process.env.CAGED_VERBOSE) console.error(await page.evaluate(() => JSON.stringify(globalThis.__moved ?? [])));
  await page.context().close();
}

async function samples(n, work) {
  const out = [];
  for (let i = 0; i < n; i++) out.push(await timed(work));
  return out;
}

async function flood(server, browser, viewport, name) {
  const id = (await server.create({ name: "flood" })).id;
  const page = await open(browser, server, { viewport });
  page.setDefaultTimeout(90_000);
  await page.addInitScript(watchShifts);
  await page.goto(`${server.url}/sandboxes/${id}`);
  await page.locator(".term-view .xterm-rows", { hasText: "$" }).waitFor();
  note(`${name}_idle_fps`, (await frames(page, 2000)).fps);
  await page.locator(".term-view .xterm-helper-textarea").focus();
  await page.keyboard.type("yes 'the quick brown fox jumps over the lazy dog' | head -c 400000000\n");
  await page.locator(".term-view .xterm-rows", { hasText: "lazy dog" }).first().waitFor();
  const f = await frames(page, FLOOD_MS);
  note(`${name}_fps`, f.fps);
  note(`${name}_longest_frame_ms`, f.longest);
  note(`${name}_heap_mb`, await heapMb(page));
  await page.keyboard.press("Control+c");
  note(`${name}_shift`, await page.evaluate(() => globalThis.__shift));
  await page.context().close();
  await server.api("DELETE", `/v1/sandboxes/${id}`);
}

async function load(server, browser) {
  const shifts = {};
  for (const [name, path] of [["list", "/"], ["create", "/new"], ["cost", "/cost"], ["trust", "/trust"], ["account", "/account"]]) {
    const usable = [];
    for (let i = 0; i < 5; i++) {
      const page = await open(browser, server);
      await page.addInitScript(watchShifts);
      usable.push(
        await timed(async () => {
          await page.goto(server.url + path);
          await page.locator("main :is(h1, h2)").first().waitFor();
          await page.getByRole("link", { name: "New sandbox" }).first().waitFor();
          await loaded(page);
        }),
      );
      await page.waitForTimeout(500);
      shifts[name] = Math.max(shifts[name] ?? 0, await page.evaluate(() => globalThis.__shift));
      await page.context().close();
    }
    note(`${name}_usable_ms`, median(usable));
    note(`${name}_shift`, shifts[name]);
  }
}

const server = new Server("golden: {snapshots: off}\nlimits: {requests_per_minute: 1000000}\n").start();
const browser = await launch();
try {
  await load(server, browser);
  await large(server, browser);
  await flood(server, browser, { width: 1360, height: 850 }, "flood");
  await flood(server, browser, { width: 3840, height: 2160 }, "flood_4k");
  figures.browser = browser.version();
  figures.cores = Number(spawnSync("nproc", { encoding: "utf8" }).stdout);
  console.log(JSON.stringify(figures));
} finally {
  await browser.close();
  await server.close();
}
