import { describe, expect, test } from "vitest";
import { diffTexts } from "../src/lib/linediff";

/** A text put together again from the lines that a side of the difference has. */
const flat = (d: ReturnType<typeof diffTexts>) => d.hunks.flatMap((h) => h.lines.map((l) => `${{ add: "+", del: "-", same: " ", note: "\\" }[l.kind]}${l.text}`));

describe("the difference of two texts", () => {
  test("a changed line stands between three lines before and behind, with both numbers", () => {
    const a = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
    const d = diffTexts("f", a, a.replace("5", "five"));
    expect(flat(d)).toEqual([" 2", " 3", " 4", "-5", "+five", " 6", " 7", " 8"]);
    expect([d.added, d.removed, d.status, d.hunks[0]!.head]).toEqual([1, 1, "modified", "@@ -2 +2 @@"]);
    expect(d.hunks[0]!.lines[3]).toEqual({ kind: "del", text: "5", old: 5, now: null });
  });
  test("far changes are hunks of their own, near ones one", () => {
    const list = Array.from({ length: 40 }, (_, i) => `l${i}`);
    const far = [...list];
    far[2] = "x";
    far[30] = "y";
    expect(diffTexts("f", list.join("\n"), far.join("\n")).hunks.length).toBe(2);
    const near = [...list];
    near[2] = "x";
    near[6] = "y";
    expect(diffTexts("f", list.join("\n"), near.join("\n")).hunks.length).toBe(1);
  });
  test("new and emptied files, equal texts, a missing line end", () => {
    expect([diffTexts("f", "", "a\nb\n").status, diffTexts("f", "a\n", "").status]).toEqual(["added", "deleted"]);
    expect(diffTexts("f", "a\n", "a\n").hunks).toEqual([]);
    expect(flat(diffTexts("f", "a", "a\nb"))).toEqual([" a", "+b"]);
  });
  test("of random texts both sides come out again, also where nothing fits", () => {
    let seed = 7;
    const next = (n: number) => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % n;
    for (let round = 0; round < 200; round++) {
      const a = Array.from({ length: next(30) }, () => String(next(6)));
      const b = Array.from({ length: next(30) }, () => String(next(6)));
      const d = diffTexts("f", a.join("\n"), b.join("\n"));
      // what is between hunks is the same on both sides: fill it from a
      const side = (kind: "del" | "add") => d.hunks.flatMap((h) => h.lines.filter((l) => l.kind === kind).map((l) => [kind === "del" ? l.old : l.now, l.text]));
      for (const [no, text] of side("del")) expect(a[(no as number) - 1]).toBe(text);
      for (const [no, text] of side("add")) expect(b[(no as number) - 1]).toBe(text);
      const left = a.filter((_, i) => !side("del").some(([no]) => no === i + 1));
      const right = b.filter((_, i) => !side("add").some(([no]) => no === i + 1));
      expect(left).toEqual(right);
    }
    const many = (p: string) => Array.from({ length: 4000 }, (_, i) => `${p}${i}`).join("\n");
    expect(diffTexts("f", many("a"), many("b")).added).toBe(4000);
  });
});
