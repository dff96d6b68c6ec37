// Live copies of a sandbox, and the way to them.
import { get, send } from "./api";
import { duration, plural, visible } from "./format";
import { putSandbox, refresh } from "./live";
import { go } from "./router";
import type { Sandbox } from "./types";
import { confirmed, toast } from "../ui/parts";

interface Forked {
  sandboxes: Sandbox[];
  stall_ms: number;
  failed: number;
  error: string | null;
}

export async function forkOf(s: Sandbox, body: { count?: number; name?: string } = {}): Promise<boolean> {
  try {
    const made = await send<Forked>("POST", `/v1/sandboxes/${s.id}/fork`, body);
    for (const f of made.sandboxes) putSandbox(f);
    void refresh();
    if (made.failed) toast(`${plural(made.failed, "fork")} could not be made: ${made.error ?? "no reason was told"}`, "bad");
    const first = made.sandboxes[0];
    if (!first) return false;
    toast(`${made.sandboxes.length === 1 ? "This is a fork" : `These are ${made.sandboxes.length} forks`} of ${visible(s.name ?? s.id)}; it stood still for ${duration(made.stall_ms)}`);
    go(made.sandboxes.length === 1 ? `/sandboxes/${first.id}` : "/");
    return true;
  } catch (e) {
    toast((e as Error).message, "bad");
    return false;
  }
}

interface Kept {
  id: string;
  name: string | null;
  status: string;
  created_at: string;
}

/** A sandbox as another was at a moment: of the newest snapshot before it, since a past that nobody kept is gone. */
export async function forkFrom(s: Sandbox, wallMs: number): Promise<void> {
  try {
    const kept = await get<Kept[]>(`/v1/sandboxes/${s.id}/snapshots`);
    const before = kept.filter((x) => x.status === "completed" && Date.parse(x.created_at) <= wallMs).sort((a, b) => Date.parse(b.created_at) - Date.parse(a.created_at))[0];
    if (!before) {
      toast("No snapshot was taken up to this moment: only what was kept can be gone back to", "bad");
      return;
    }
    const gap = wallMs - Date.parse(before.created_at);
    const text = `It begins with the snapshot ${before.name ?? before.id}, taken ${duration(gap)} before this moment.`;
    if (!(await confirmed("A new sandbox from here?", text, "Make it"))) return;
    const made = await send<Sandbox>("POST", "/v1/sandboxes", { template: s.template, snapshot_id: before.id, name: `${s.name ?? s.id} again`.slice(0, 64), cpus: s.cpus, memory_mb: s.memory_mb, disk_gb: s.disk_gb }, { wait: false });
    putSandbox(made);
    go(`/sandboxes/${made.id}`);
  } catch (e) {
    toast((e as Error).message, "bad");
  }
}
