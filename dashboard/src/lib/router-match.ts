// Which pattern a path fits. Pure.

/** "/sandboxes/:id/:tab" against a path; null when it is another. */
export function match(pattern: string, path: string): Record<string, string> | null {
  const want = pattern.split("/");
  const have = path.split("/");
  if (want.length !== have.length) return null;
  const found: Record<string, string> = {};
  for (let i = 0; i < want.length; i++) {
    const w = want[i]!;
    if (w.startsWith(":")) {
      try {
        found[w.slice(1)] = decodeURIComponent(have[i]!);
      } catch {
        return null;
      }
    } else if (w !== have[i]) return null;
  }
  return found;
}
