import { describe, expect, test } from "vitest";
import { overlay, pointsByRule, type TrustRule } from "../src/lib/rules";

const rule = (id: string): TrustRule => ({ id, severity: "minor", points: 10, cap: 30, cooldown: 60, once_per_host: false, enabled: true, explain: null });
const bands = { alert: 70, critical: 50, pause: 30 };

describe("tuning of the rules of trust", () => {
  test("the file names what differs and nothing else", () => {
    const rules = [rule("a.one"), rule("b.two"), rule("c.three")];
    expect(overlay(rules, new Map(), bands, bands)).toBe("");
    expect(overlay(rules, new Map([["a.one", { points: 10, enabled: true }]]), bands, bands)).toBe("");
    expect(overlay(rules, new Map([["b.two", { points: 2, cap: 30 }], ["c.three", { enabled: false }]]), bands, { ...bands, pause: 0 })).toBe(
      "bands: {pause: 0}\nrules:\n  - id: b.two\n    points: 2\n  - id: c.three\n    enabled: false\n",
    );
  });
  test("points add up by rule, whichever sign they are told with", () => {
    expect([...pointsByRule([{ rule: "a", points: 5 }, { rule: "b", points: -3 }, { rule: "a", points: -5 }])]).toEqual([["a", 10], ["b", 3]]);
  });
});
