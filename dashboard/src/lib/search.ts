// Finding by typing: every letter in order; words' beginnings and runs of letters count more.

/** Higher is better; -1: not there. */
export function score(needle: string, hay: string): number {
  const n = needle.toLowerCase();
  const h = hay.toLowerCase();
  let at = 0;
  let sum = 0;
  let run = 0;
  for (const c of n) {
    if (c === " ") continue;
    const found = h.indexOf(c, at);
    if (found < 0) return -1;
    run = found === at ? run + 1 : 0;
    const begins = found === 0 || !/[a-z0-9]/.test(h[found - 1]!);
    sum += 1 + run * 2 + (begins ? 3 : 0) - Math.min(1, (found - at) / 20);
    at = found + 1;
  }
  return sum;
}

export function rank<T>(needle: string, items: T[], text: (item: T) => string): T[] {
  if (!needle.trim()) return items;
  return items
    .map((item, i) => ({ item, i, s: score(needle, text(item)) }))
    .filter((x) => x.s >= 0)
    .sort((a, b) => b.s - a.s || a.i - b.i)
    .map((x) => x.item);
}
