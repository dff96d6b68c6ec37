// Which sandboxes a list shows, and in which order. Pure.
import type { Sandbox } from "./types";

export type SortKey = "name" | "status" | "cost" | "trust" | "memory" | "created";

export function ended(s: Sandbox): boolean {
  return s.status === "destroyed";
}

/** The agent that works there where one is known, else what it is made of. */
export function kindOfWork(s: Sandbox): string {
  return s.agent_type ?? [s.template, ...(s.agents ?? [])].join(" + ");
}

export function filterSandboxes(all: Sandbox[], text: string, show: string): Sandbox[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return all.filter((s) => {
    if (show === "live" && ended(s)) return false;
    if (show === "ended" && !ended(s)) return false;
    const hay = [s.id, s.name, s.template, s.repo_url, s.repo_branch, s.agent_type, ...(s.agents ?? []), s.status].filter(Boolean).join(" ").toLowerCase();
    return words.every((w) => hay.includes(w));
  });
}

const order = ["running", "pending", "paused", "error", "destroyed"];

const keys: Record<SortKey, (s: Sandbox) => string | number> = {
  name: (s) => (s.name ?? s.id).toLowerCase(),
  status: (s) => order.indexOf(s.status),
  cost: (s) => s.total_cost,
  trust: (s) => s.trust_score ?? -1,
  memory: (s) => s.memory_mb,
  created: (s) => Date.parse(s.created_at),
};

export function sortSandboxes(list: Sandbox[], by: SortKey, down: boolean): Sandbox[] {
  const key = keys[by] ?? keys.created;
  return [...list].sort((a, b) => {
    const x = key(a);
    const y = key(b);
    const c = x < y ? -1 : x > y ? 1 : a.id < b.id ? -1 : 1;
    return down ? -c : c;
  });
}
