// Live copies of a sandbox, and the way to them.
import { send } from "./api";
import { duration, plural, visible } from "./format";
import { putSandbox, refresh } from "./live";
import { go } from "./router";
import type { Sandbox } from "./types";
import { toast } from "../ui/parts";

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
