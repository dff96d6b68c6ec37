import { describe, expect, test } from "vitest";
import { actWords } from "../src/lib/acts";
import { kinds } from "../src/lib/events";
import { columnsFor, countsOf, densityOf, PAGE, Pages, typesOf } from "../src/lib/record";
import { screenLines } from "../src/lib/past";
import type { Line } from "../src/lib/types";

const line = (seq: number, data = {}): Line => ({ sandbox_id: "cage-a", seq, t: seq * 1e6, ts: "2026-01-01T00:00:00Z", type: "terminal", src: "host", session: null, data });

describe("a window on a record", () => {
  test("pages that were looked at last are kept, and no more than a bound of them", () => {
    const pages = new Pages();
    for (let i = 0; i < 1_000_000; i += 50) {
      pages.put(i, line(i + 1));
      pages.get(0);
    }
    expect(pages.size).toBeLessThanOrEqual(60);
    expect(pages.get(0)?.seq).toBe(1);
    expect(pages.get(999_950)?.seq).toBe(999_951);
    expect(pages.get(PAGE * 2000)).toBeUndefined();
  });
  test("counts by kind are those of the types, and rows of the ledger are no costs to be told", () => {
    const counts = countsOf({ command: 4, file_op: 10, content: 3, cost: 1, ledger: 99, dns: 2, network: 5, lifecycle: 1 });
    expect([counts.command, counts.file, counts.cost, counts.ledger, counts.network, counts.system, counts.llm]).toEqual([4, 13, 1, 99, 7, 1, 0]);
    expect(Object.keys(typesOf).sort()).toEqual(kinds.map((k) => k.kind).sort());
  });
  test("the track shows every event once, however wide it is, and leaves open what is not told yet", () => {
    const slots: number[] = Array.from({ length: 640 }, (_, i) => (i % 7 === 0 ? 3 : 0));
    const all = slots.reduce((a, b) => a + b, 0);
    for (const columns of [1, 100, 400, 640]) expect(columnsFor(slots, 1, columns).reduce((a, b) => a + b, 0)).toBe(all);
    const half = columnsFor(slots, 0.5, 200);
    expect(half.slice(100).every((n) => n === 0)).toBe(true);
    expect(Array.from(columnsFor([1, 2], 1, 4))).toEqual([1, 1, 2, 2]);
    expect([...densityOf({ slots: { file_op: [1, 0], content: [2, 5] } } as never).get("file")!]).toEqual([3, 5]);
  });
  test("a screen is made of the last of what was shown", () => {
    const lines = Array.from({ length: 300 }, (_, i) => line(i + 1, { text: "x".repeat(10_000) }));
    const kept = screenLines({ rows: 24, cols: 80, lines });
    expect(kept.length).toBe(209);
    expect(kept[kept.length - 1]!.seq).toBe(300);
  });
});

describe("the audit log in words", () => {
  test("says what was done to what", () => {
    expect(["DELETE /v1/sandboxes/{id}", "POST /v1/sandboxes/{id}/pause", "PUT /v1/secrets/{name}", "POST /v1/account/keys", "DELETE /v1/sandboxes/{id}/ports/{port}/protect", "POST /v1/notifications/read-all"].map(actWords)).toEqual([
      "sandbox deleted", "sandboxes: pause", "secret set", "key made", "ports: protect taken back", "notifications: read all",
    ]);
  });
});
