// What the sandboxes of an account add up to. Pure.
import { kindOfWork } from "./select";
import type { Sandbox } from "./types";

export interface AccountSums {
  total: number;
  models: number;
  machine: number;
  hourly: number;
  running: number;
  byWork: { name: string; sandboxes: number; machine: number; models: number }[];
  byDay: { day: string; machine: number; models: number }[];
}

const DAY_MS = 86_400_000;

function dayOf(ms: number): string {
  const d = new Date(ms);
  return `${d.getFullYear()}-${String(d.getMonth() + 1).padStart(2, "0")}-${String(d.getDate()).padStart(2, "0")}`;
}

export function accountSums(all: Sandbox[], days: number, now: number): AccountSums {
  const byDay = new Map<string, { machine: number; models: number }>();
  for (let i = days - 1; i >= 0; i--) byDay.set(dayOf(now - i * DAY_MS), { machine: 0, models: 0 });
  const out: AccountSums = { total: 0, models: 0, machine: 0, hourly: 0, running: 0, byWork: [], byDay: [] };
  const byWork = new Map<string, AccountSums["byWork"][number]>();
  for (const s of all) {
    if (s.status === "running") {
      out.running++;
      const hours = s.started_at ? (now - Date.parse(s.started_at)) / 3_600_000 : 0;
      if (hours > 0) out.hourly += s.cost / hours;
    }
    const slot = byDay.get(dayOf(Date.parse(s.created_at)));
    if (!slot) continue;
    slot.machine += s.cost;
    slot.models += s.llm_cost;
    const name = kindOfWork(s);
    const w = byWork.get(name) ?? { name, sandboxes: 0, machine: 0, models: 0 };
    byWork.set(name, w);
    w.sandboxes++;
    w.machine += s.cost;
    w.models += s.llm_cost;
    out.machine += s.cost;
    out.models += s.llm_cost;
  }
  out.total = out.machine + out.models;
  out.byWork = [...byWork.values()].sort((a, b) => b.machine + b.models - a.machine - a.models);
  out.byDay = [...byDay].map(([day, v]) => ({ day, ...v }));
  return out;
}
