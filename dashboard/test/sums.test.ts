import { describe, expect, test } from "vitest";
import { kind, landmark } from "../src/lib/events";
import { Sums } from "../src/lib/sums";
import type { Line } from "../src/lib/types";

let seq = 0;
const line = (type: string, data: Record<string, unknown>): Line => ({ sandbox_id: "cage-a", seq: ++seq, t: seq * 1e9, ts: "2026-01-01T00:00:00Z", type, src: "host", session: null, data });
const call = (id: number, cost: number) => [line("llm_call", { event: "open", call: id, model: "m" }), line("llm_call", { event: "close", call: id, status: "ok", cost_nusd: cost, tokens_in: 1, tokens_out: 2 })];
const write = (path: string, op = "write", more = {}) => line("file_op", { op, path, ...more });
const sum = (lines: Line[]) => {
  const s = new Sums();
  for (const l of lines) s.add(l);
  return s;
};

describe("what a record adds up to", () => {
  test("a call's price goes to the files that changed before the next one, and none of it twice", () => {
    const s = sum([...call(1, 100), write("/workspace/a"), write("/workspace/b"), write("/workspace/a"), ...call(2, 40), ...call(3, 60), write("/workspace/x", "rename", { to: "/workspace/b" }), write("/workspace/.git/index"), write("/tmp/c")]);
    expect([...s.fileCosts()]).toEqual([["/workspace/a", 50], ["/workspace/b", 150]]);
    expect([...s.fileCosts().values()].reduce((a, b) => a + b, 0)).toBe(s.llmNusd);
  });
  test("machine time is what the ledger says, row by row", () => {
    expect(sum([line("cost", { event: "ledger", row: { row: "compute", nusd: 5 } }), line("cost", { event: "ledger", row: { row: "settle", nusd: 9 } }), line("cost", { event: "ledger", row: { row: "compute", nusd: 6 } })]).machineNusd).toBe(11);
  });
  test("the last verdict on a name counts", () => {
    const s = sum([line("dns", { event: "query", name: "A.com", verdict: "deny", rule: "mode none" }), line("dns", { event: "query", name: "a.com", verdict: "allow" })]);
    expect([...s.lookups]).toEqual([["a.com", { count: 2, verdict: "allow", rule: "", lastMs: expect.any(Number) }]]);
  });
  test("deductions keep their evidence, and what is no number in it is dropped", () => {
    const s = sum([line("trust", { event: "pack", pack: "default" }), line("trust", { event: "deduction", rule: "r", points: 20, score: 80, what: "w", evidence: [3, "4", 5], hits: 2 })]);
    expect([s.score, s.deductions.length, s.deductions[0]!.evidence]).toEqual([80, 1, [3, 5]]);
  });
});

describe("finding in a record", () => {
  test("a jump goes to beginnings: not to the close of a call, nor to a file that was only read", () => {
    expect([landmark(call(9, 1)[0]!, "llm"), landmark(call(9, 1)[1]!, "llm"), landmark(write("/a", "read"), "file"), landmark(write("/a"), "file"), landmark(line("trust", { event: "pack" }), "trust")]).toEqual([true, false, false, true, false]);
  });
  test("a row of the ledger each second is no alert about costs", () => {
    expect([kind(line("cost", { event: "ledger" })), kind(line("cost", { event: "budget_warning" }))]).toEqual(["ledger", "cost"]);
  });
});
