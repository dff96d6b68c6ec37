// Snapshots of a sandbox, and new sandboxes from it.
import { useState } from "preact/hooks";
import { ApiError, get, send } from "../lib/api";
import { bytes, visible } from "../lib/format";
import { forkOf } from "../lib/fork";
import { putSandbox, refresh } from "../lib/live";
import { go } from "../lib/router";
import type { Sandbox } from "../lib/types";
import { useLoad } from "../lib/use";
import { Button, confirmed, Empty, Failure, Field, Loading, toast, When } from "../ui/parts";
import { FormDialog, Table } from "../ui/table";

interface Snapshot {
  id: string;
  name: string | null;
  description?: string | null;
  status: string;
  trigger?: string;
  size_bytes?: number;
  created_at: string;
}

export function SnapshotsPanel({ s }: { s: Sandbox }) {
  const loaded = useLoad((signal) => get<Snapshot[]>(`/v1/sandboxes/${s.id}/snapshots`, undefined, signal), [s.id, s.status]);
  const [naming, setNaming] = useState<string | null>(null);
  const [memory, setMemory] = useState(false);
  const [forking, setForking] = useState<{ name: string; count: string } | null>(null);
  const [busy, setBusy] = useState<string | null>(null);
  const alive = s.status === "running" || s.status === "paused";
  const act = async (what: string, run: () => Promise<unknown>, done: string) => {
    setBusy(what);
    try {
      await run();
      toast(done);
      loaded.reload();
      void refresh();
    } catch (e) {
      toast((e as Error).message, "bad");
    }
    setBusy(null);
  };
  const wrongCount = forking && !/^([1-9]|[1-5]\d|6[0-4])$/.test(forking.count) ? "1 to 64" : null;
  const fork = async () => {
    setBusy("fork");
    if (await forkOf(s, { count: Number(forking!.count), ...(forking!.name ? { name: forking!.name } : {}) })) setForking(null);
    setBusy(null);
  };
  const begin = async (x: Snapshot) => {
    setBusy(`b${x.id}`);
    try {
      const made = await send<Sandbox>("POST", "/v1/sandboxes", { template: s.template, snapshot_id: x.id, name: `${x.name ?? x.id} again`.slice(0, 64), cpus: s.cpus, memory_mb: s.memory_mb, disk_gb: s.disk_gb }, { wait: false });
      putSandbox(made);
      go(`/sandboxes/${made.id}`);
    } catch (e) {
      toast((e as Error).message, "bad");
    }
    setBusy(null);
  };
  if (loaded.error)
    return loaded.error instanceof ApiError && loaded.error.absent ? (
      <Empty icon="camera" title="This server has no snapshots">
        <p>{visible(loaded.error.message)}</p>
      </Empty>
    ) : (
      <Failure error={loaded.error} retry={loaded.reload} />
    );
  if (!loaded.data) return <Loading what="snapshots" />;
  const restore = async (x: Snapshot) => {
    const sure = await confirmed("Restore this snapshot?", "The files of this sandbox become those of the snapshot; what is there now is lost.", "Restore", true);
    if (sure) await act(`r${x.id}`, () => send("POST", `/v1/snapshots/${x.id}/restore`, { target_sandbox_id: s.id }), "Restored");
  };
  const remove = async (x: Snapshot) => {
    const sure = await confirmed("Delete this snapshot?", x.name || x.id, "Delete", true);
    if (sure) await act(`d${x.id}`, () => send("DELETE", `/v1/snapshots/${x.id}`), "Deleted");
  };
  const acts = (x: Snapshot) => (
    <>
      <Button kind="quiet" class="small" busy={busy === `b${x.id}`} disabled={x.status !== "completed"} onClick={() => void begin(x)}>
        New sandbox
      </Button>
      {alive && (
        <Button kind="quiet" class="small" busy={busy === `r${x.id}`} onClick={() => void restore(x)}>
          Restore
        </Button>
      )}
      <Button kind="quiet" class="small icon-only danger-hover" icon="trash" aria-label={`Delete ${visible(x.name || x.id)}`} onClick={() => void remove(x)} />
    </>
  );
  return (
    <div class="stack">
      <div class="row">
        <span class="grow" />
        {alive && (
          <>
            <Button icon="fork" busy={busy === "fork"} onClick={() => setForking({ name: "", count: "1" })}>
              Fork…
            </Button>
            <Button kind="primary" icon="camera" busy={busy === "make"} onClick={() => setNaming("")}>
              Take a snapshot
            </Button>
          </>
        )}
      </div>
      {loaded.data.length === 0 ? (
        <Empty icon="camera" title="No snapshot yet">
          <p>A snapshot keeps the sandbox as it is now. It can be restored, or be the beginning of another sandbox.</p>
        </Empty>
      ) : (
        <Table
          label="Snapshots"
          rows={loaded.data}
          keyOf={(x) => x.id}
          columns={[
            {
              title: "Name",
              as: "wrap",
              cell: (x) => (
                <>
                  <strong>{visible(x.name || x.id)}</strong>
                  {x.description && <span class="sub">{visible(x.description)}</span>}
                </>
              ),
            },
            { title: "State", cell: (x) => <span class={`chip ${x.status === "completed" ? "ok" : x.status === "failed" ? "bad" : "info"}`}>{x.status}</span> },
            { title: "Made by", hide: "s", cell: (x) => <span class="dim">{visible(x.trigger ?? "")}</span> },
            { title: "Size", as: "number", cell: (x) => (x.size_bytes === undefined ? "–" : bytes(x.size_bytes)) },
            { title: "Age", cell: (x) => <When at={x.created_at} /> },
            { title: "Actions", as: "acts", cell: acts },
          ]}
        />
      )}
      {naming !== null && (
        <FormDialog
          title="Take a snapshot"
          submit="Take it"
          onSubmit={() => {
            setNaming(null);
            void act("make", () => send("POST", `/v1/sandboxes/${s.id}/snapshots`, { ...(naming ? { name: naming } : {}), memory }), "Taken");
          }}
          onClose={() => setNaming(null)}
        >
            <Field label="Name">{(id) => <input id={id} maxLength={64} value={naming} onInput={(e) => setNaming(e.currentTarget.value)} />}</Field>
            <label class="check">
              <input type="checkbox" checked={memory} onChange={(e) => setMemory(e.currentTarget.checked)} /> With its memory: programs go on where they were
            </label>
        </FormDialog>
      )}
      {forking && (
        <FormDialog title={`Fork ${visible(s.name ?? s.id)}`} submit="Fork" icon="fork" busy={busy === "fork"} disabled={!!wrongCount} onSubmit={() => void fork()} onClose={() => setForking(null)}>
            <p class="dim">Live copies from this moment on: files, memory, running programs. Each has its own identity, record and costs.</p>
            <Field label="How many" error={wrongCount}>
              {(id) => <input id={id} inputMode="numeric" value={forking.count} onInput={(e) => setForking({ ...forking, count: e.currentTarget.value.trim() })} />}
            </Field>
            <Field label="Name" hint="Of several with -1, -2 … behind it">
              {(id) => <input id={id} maxLength={40} value={forking.name} onInput={(e) => setForking({ ...forking, name: e.currentTarget.value })} />}
            </Field>
        </FormDialog>
      )}
    </div>
  );
}
