import { describe, expect, test } from "vitest";
import { Pump } from "../src/lib/pump";

/** A terminal that draws when it is told to; each piece takes as long as it has bytes. */
function terminal() {
  const later: (() => void)[] = [];
  const shown: string[] = [];
  const sizes: number[] = [];
  let now = 0;
  const pump = new Pump({
    write(data, done) {
      const text = typeof data === "string" ? data : new TextDecoder().decode(data);
      if (typeof data !== "string") sizes.push(data.length);
      shown.push(text);
      now += text.length / 5000;
      later.push(done);
    },
    next: (run) => later.push(run),
    now: () => now,
  });
  return { pump, shown, sizes, run: () => { while (later.length) later.shift()!(); } };
}
const bytes = (s: string) => new TextEncoder().encode(s);

describe("output on its way to a terminal", () => {
  test("what is typed is shown at once, and everything in its order", () => {
    const t = terminal();
    t.pump.push(bytes("a"));
    expect(t.shown).toEqual(["a"]);
    for (let i = 0; i < 5000; i++) t.pump.push(bytes(`line ${i}\n`));
    t.run();
    expect(t.shown.join("")).toBe(`a${Array.from({ length: 5000 }, (_, i) => `line ${i}\n`).join("")}`);
  });
  test("pieces become as large as there is time for, and no larger", () => {
    const t = terminal();
    for (let i = 0; i < 60; i++) t.pump.push(bytes("x".repeat(50_000)));
    t.run();
    expect(Math.max(...t.sizes.slice(-20))).toBeLessThan(60_000);
    expect(Math.min(...t.sizes.slice(10, 20))).toBeGreaterThan(20_000);
  });
  test("of a flood that nobody can read the end is shown, from the beginning of a line, and what is missing is said", () => {
    const t = terminal();
    for (let i = 0; i < 2000; i++) t.pump.push(bytes(`${i}:${"y".repeat(10_000)}\n`));
    t.run();
    const text = t.shown.join("");
    expect(text.length).toBeLessThan(7 << 20);
    expect(text.endsWith(`1999:${"y".repeat(10_000)}\n`)).toBe(true);
    expect(text).toMatch(/\r\n\[\d+ bytes came faster than they can be drawn; they are in the record\]\r\n\d+:y/);
  });
});
