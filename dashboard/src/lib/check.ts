// What a form can know to be wrong before the server is asked. Pure.
import type { Recipe } from "./recipe";

function whole(v: number, min: number, max: number, unit: string): string | null {
  if (Number.isInteger(v) && (v === 0 || (v >= min && v <= max))) return null;
  return `A whole number of ${unit}, ${min} to ${max}`;
}

export function checkRecipe(r: Recipe): Record<string, string> {
  const wrong: Record<string, string | null> = {
    name: r.name.length > 64 ? "At most 64 characters" : null,
    cpus: whole(r.cpus, 1, 8, "processors"),
    memory_mb: whole(r.memory_mb, 128, 8192, "MB"),
    disk_gb: whole(r.disk_gb, 1, 50, "GB"),
    budget: Number.isNaN(r.budget) || r.budget < 0 || r.budget > 1e6 ? "Dollars, not negative" : null,
    timeout: r.timeout === null || (Number.isInteger(r.timeout) && r.timeout >= 0 && r.timeout <= 2_592_000) ? null : "Whole seconds; 0: never",
    repo_commit: r.repo_commit && !/^[0-9a-f]{7,64}$/i.test(r.repo_commit) ? "A commit's hash" : null,
    repo: r.repo && !/^(https?|git|ssh):\/\/\S+$/.test(r.repo) ? "A URL: https://…, git://… or ssh://…" : null,
    allowlist: r.network_mode === "allowlist" && r.allowlist.length === 0 ? "At least one host" : null,
  };
  return Object.fromEntries(Object.entries(wrong).filter((e): e is [string, string] => e[1] !== null));
}

export function parseEnv(text: string): { pairs: [string, string][]; error: string | null } {
  const pairs: [string, string][] = [];
  const seen = new Set<string>();
  for (const line of text.split("\n")) {
    if (!line.trim()) continue;
    const cut = line.indexOf("=");
    const name = cut < 0 ? line.trim() : line.slice(0, cut).trim();
    if (cut < 0) return { pairs, error: `"${name.slice(0, 40)}" has no value: NAME=value` };
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) return { pairs, error: `"${name.slice(0, 40)}" is no name of a variable` };
    if (seen.has(name)) return { pairs, error: `${name} stands twice` };
    seen.add(name);
    pairs.push([name, line.slice(cut + 1)]);
  }
  return { pairs, error: null };
}
