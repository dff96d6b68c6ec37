import { describe, expect, test } from "vitest";
import { ago, bytes, clock, duration, usd, visible } from "../src/lib/format";
import { match } from "../src/lib/router-match";
import { rank, score } from "../src/lib/search";
import { filterSandboxes, sortSandboxes } from "../src/lib/select";
import { SseParser, type SseEvent } from "../src/lib/sse-parser";
import type { Sandbox } from "../src/lib/types";

describe("numbers for people", () => {
  test("money keeps what matters of small sums", () => {
    expect([0, 0.0000521, 0.0123, 1.5, -2, null].map(usd)).toEqual(["$0.00", "$0.000052", "$0.012", "$1.50", "−$2.00", "–"]);
  });
  test("bytes and times", () => {
    expect([0, 1023, 1024, 200 * 1024, 3 * 2 ** 30].map(bytes)).toEqual(["0 B", "1023 B", "1.0 KiB", "200 KiB", "3.0 GiB"]);
    expect([12, 4200, 61_000, 3_700_000, 200_000_000].map(duration)).toEqual(["12 ms", "4.2 s", "1 min 01 s", "1 h 01 min", "2 d 7 h"]);
    expect([0, 61_540, 3_661_000].map(clock)).toEqual(["0:00.0", "1:01.5", "1:01:01"]);
    expect(ago(1000, 1000)).toBe("just now");
    expect(ago(0, 7_200_000)).toBe("2 h ago");
    expect(ago(null)).toBe("never");
  });
  test("what could turn or hide text is made visible", () => {
    expect(visible("a\u202eb\u200b\u0007\n")).toBe("a\\u202eb\\u200b␇␊");
    expect(visible("<b>ü – 漢字</b>")).toBe("<b>ü – 漢字</b>");
  });
});

describe("addresses", () => {
  test("a pattern takes its parts decoded, and nothing longer or broken", () => {
    expect(match("/sandboxes/:id/:tab", "/sandboxes/cage-a%20b/files")).toEqual({ id: "cage-a b", tab: "files" });
    expect(match("/sandboxes/:id", "/sandboxes/a/b")).toBeNull();
    expect(match("/sandboxes/:id", "/sandboxes/%E0%A4%A")).toBeNull();
  });
});

describe("finding", () => {
  test("words' beginnings win, missing letters lose", () => {
    expect(score("xyz", "sandbox")).toBe(-1);
    expect(rank("ak", ["bank", "API keys", "ask"], (s) => s)[0]).toBe("API keys");
    expect(rank(" ", ["b", "a"], (s) => s)).toEqual(["b", "a"]);
  });
});

const box = (id: string, more: Partial<Sandbox>): Sandbox => ({
  id,
  status: "running",
  template: "minimal",
  cpus: 1,
  memory_mb: 256,
  disk_gb: 1,
  network_mode: "none",
  created_at: "2026-01-01T00:00:00Z",
  cost: 0,
  llm_cost: 0,
  total_cost: 0,
  isolation: { vmm: "qemu", accel: null, rootless: false, warnings: [] },
  ...more,
});

describe("the list", () => {
  const all = [
    box("cage-a", { name: "Zebra", total_cost: 2 }),
    box("cage-b", { status: "destroyed", repo_url: "https://git.example/fizz" }),
    box("cage-c", { name: "ant", total_cost: 1, created_at: "2026-01-02T00:00:00Z" }),
  ];
  test("live, ended, and every word must be somewhere", () => {
    expect(filterSandboxes(all, "", "live").map((s) => s.id)).toEqual(["cage-a", "cage-c"]);
    expect(filterSandboxes(all, "FIZZ destroyed", "all").map((s) => s.id)).toEqual(["cage-b"]);
    expect(filterSandboxes(all, "fizz zebra", "all")).toEqual([]);
  });
  test("an order does not depend on case, and leaves its input alone", () => {
    expect(sortSandboxes(all, "name", false).map((s) => s.id)).toEqual(["cage-c", "cage-b", "cage-a"]);
    expect(sortSandboxes(all, "cost", true).map((s) => s.id)).toEqual(["cage-a", "cage-c", "cage-b"]);
    expect(all[0]!.id).toBe("cage-a");
  });
});

describe("server-sent events", () => {
  test("any cut of the stream gives the same events", () => {
    const text = ': hello\n\nid: cage-a:7\nevent: command\ndata: {"a":1}\n\ndata: one\r\ndata: two\r\n\r\nid: 9\n\n';
    const whole: SseEvent[] = [];
    new SseParser().push(text, (e) => whole.push(e));
    expect(whole).toEqual([
      { id: "cage-a:7", event: "command", data: '{"a":1}' },
      { id: undefined, event: "message", data: "one\ntwo" },
    ]);
    for (let cut = 0; cut <= text.length; cut++) {
      const parts: SseEvent[] = [];
      const p = new SseParser();
      p.push(text.slice(0, cut), (e) => parts.push(e));
      p.push(text.slice(cut), (e) => parts.push(e));
      expect(parts).toEqual(whole);
    }
  });
});
