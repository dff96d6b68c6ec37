// Rules of trust as somebody tunes them: what differs from those in force, as the file that an operator lays
// over the default ones. Pure.

export interface TrustRule {
  id: string;
  severity: string;
  points: number;
  cap: number;
  cooldown: number;
  once_per_host: boolean;
  enabled: boolean;
  explain: string | null;
}

export interface Bands {
  alert: number;
  critical: number;
  pause: number;
}

export type Edit = Partial<Pick<TrustRule, "enabled" | "points" | "cap">>;

/** Members that an edit changes; empty: none. */
export function changesOf(rule: TrustRule, edit: Edit | undefined): Edit {
  const out: Edit = {};
  if (edit?.enabled !== undefined && edit.enabled !== rule.enabled) out.enabled = edit.enabled;
  if (edit?.points !== undefined && edit.points !== rule.points) out.points = edit.points;
  if (edit?.cap !== undefined && edit.cap !== rule.cap) out.cap = edit.cap;
  return out;
}

/** The file; empty when nothing differs. Ids are words of the rules' own language and need no quotes. */
export function overlay(rules: TrustRule[], edits: Map<string, Edit>, bands: Bands, edited: Bands): string {
  const lines: string[] = [];
  const levels = (["alert", "critical", "pause"] as const).filter((k) => bands[k] !== edited[k]);
  if (levels.length) lines.push(`bands: {${levels.map((k) => `${k}: ${edited[k]}`).join(", ")}}`);
  const changed = rules.map((r) => [r.id, changesOf(r, edits.get(r.id))] as const).filter(([, c]) => Object.keys(c).length > 0);
  if (changed.length) lines.push("rules:");
  for (const [id, c] of changed) {
    lines.push(`  - id: ${id}`);
    for (const [key, value] of Object.entries(c)) lines.push(`    ${key}: ${value}`);
  }
  return lines.length ? `${lines.join("\n")}\n` : "";
}

/** Points by rule, of many deductions. */
export function pointsByRule(deductions: { rule: string; points: number }[]): Map<string, number> {
  const out = new Map<string, number>();
  for (const d of deductions) out.set(d.rule, (out.get(d.rule) ?? 0) + Math.abs(d.points));
  return out;
}
