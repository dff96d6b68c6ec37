// One sandbox: its head with what can be done to it, and a tab for each way of looking at it.
import { useEffect, useState } from "preact/hooks";
import { get, send } from "../lib/api";
import { duration, visible } from "../lib/format";
import { putSandbox, refresh, sandboxes } from "../lib/live";
import { useSampling } from "../lib/samples";
import { useStore } from "../lib/store";
import type { Sandbox } from "../lib/types";
import { useTitle } from "../lib/use";
import { Icon } from "../ui/icons";
import { lazy } from "../ui/lazy";
import { BudgetBar, Button, CopyButton, Empty, Failure, Loading, StatusChip, TabLinks, toast, TrustBadge, When } from "../ui/parts";
import { forkOf } from "../lib/fork";
import { destroyAll } from "./sandboxes";

const TerminalPanel = lazy(() => import("./terminal").then((m) => m.TerminalPanel), "the terminal");
const FilesPanel = lazy(() => import("./files").then((m) => m.FilesPanel), "files");
const ChangesPanel = lazy(() => import("./changes").then((m) => m.ChangesPanel), "changes");
const TimelinePanel = lazy(() => import("./timeline").then((m) => m.TimelinePanel), "the timeline");
const SpendingPanel = lazy(() => import("./spending").then((m) => m.SpendingPanel), "costs");
const MetricsPanel = lazy(() => import("./metrics").then((m) => m.MetricsPanel), "metrics");
const NetworkPanel = lazy(() => import("./network").then((m) => m.NetworkPanel), "the network");
const SandboxTrustPanel = lazy(() => import("./trust-panel").then((m) => m.SandboxTrustPanel), "trust");
const SnapshotsPanel = lazy(() => import("./snapshots").then((m) => m.SnapshotsPanel), "snapshots");
const SettingsPanel = lazy(() => import("./settings").then((m) => m.SettingsPanel), "settings");

const tabs = [
  { id: "terminal", title: "Terminal", icon: "term" },
  { id: "files", title: "Files", icon: "folder" },
  { id: "changes", title: "Changes", icon: "diff" },
  { id: "timeline", title: "Timeline", icon: "list" },
  { id: "cost", title: "Cost", icon: "dollar" },
  { id: "trust", title: "Trust", icon: "shield" },
  { id: "network", title: "Network", icon: "net" },
  { id: "metrics", title: "Metrics", icon: "chart" },
  { id: "snapshots", title: "Snapshots", icon: "camera" },
  { id: "settings", title: "Settings", icon: "gear" },
];

function panel(tab: string, s: Sandbox) {
  switch (tab) {
    case "terminal":
      return <TerminalPanel key={s.id} s={s} />;
    case "files":
      return <FilesPanel key={s.id} s={s} />;
    case "changes":
      return <ChangesPanel key={s.id} s={s} />;
    case "timeline":
      return <TimelinePanel key={s.id} s={s} />;
    case "cost":
      return <SpendingPanel key={s.id} s={s} />;
    case "trust":
      return <SandboxTrustPanel key={s.id} s={s} />;
    case "network":
      return <NetworkPanel key={s.id} s={s} />;
    case "metrics":
      return <MetricsPanel key={s.id} s={s} />;
    case "snapshots":
      return <SnapshotsPanel key={s.id} s={s} />;
    case "settings":
      return <SettingsPanel key={s.id} s={s} />;
    default:
      return (
        <Empty icon="search" title="There is no such tab">
          <a href={`/sandboxes/${s.id}`}>Its terminal</a>
        </Empty>
      );
  }
}

function Making({ s }: { s: Sandbox }) {
  if (s.status !== "pending") return null;
  return (
    <div class="making card" role="status">
      <span class="spinner" aria-hidden="true" />
      <div class="grow">
        <strong>{s.phase ? `Making it: ${visible(s.phase)}` : "Making it…"}</strong>
        <span class="bar">
          <span class="fill ok" style={{ width: `${Math.max(4, s.percent ?? 4)}%` }} />
        </span>
      </div>
    </div>
  );
}

function Trouble({ s }: { s: Sandbox }) {
  return (
    <>
      {s.error && (
        <div class="failure column">
          <strong>
            <Icon name="warn" /> {visible(s.error.text)}
          </strong>
          {s.error.console && (
            <details>
              <summary>Last lines of its console</summary>
              <pre tabIndex={0}>{s.error.console}</pre>
            </details>
          )}
        </div>
      )}
      {s.init?.status === "failed" && (
        <div class="note warn">
          <Icon name="warn" />
          <details>
            <summary>The init script failed (exit {s.init.exit_code}); the sandbox runs all the same</summary>
            <pre tabIndex={0}>{visible(s.init.output_tail ?? "").replace(/␊/g, "\n")}</pre>
          </details>
        </div>
      )}
    </>
  );
}

function Actions({ s }: { s: Sandbox }) {
  const [busy, setBusy] = useState<string | null>(null);
  const act = async (what: string, done: string) => {
    setBusy(what);
    try {
      await send("POST", `/v1/sandboxes/${s.id}/${what}`, {});
      toast(done);
      void refresh();
    } catch (e) {
      toast((e as Error).message, "bad");
    }
    setBusy(null);
  };
  return (
    <div class="row">
      {s.status === "running" && (
        <Button icon="pause" busy={busy === "pause"} onClick={() => void act("pause", "Paused; memory and disk are kept")}>
          Pause
        </Button>
      )}
      {s.status === "paused" && (
        <Button kind="primary" icon="play" busy={busy === "resume"} onClick={() => void act("resume", "It goes on where it was")}>
          Resume
        </Button>
      )}
      {(s.status === "running" || s.status === "paused") && (
        <Button
          icon="fork"
          busy={busy === "fork"}
          title="A live copy of it, from this moment on"
          onClick={() => {
            setBusy("fork");
            void forkOf(s).finally(() => setBusy(null));
          }}
        >
          Fork
        </Button>
      )}
      {s.status !== "destroyed" && (
        <Button kind="danger" icon="trash" onClick={() => void destroyAll([s])}>
          Destroy
        </Button>
      )}
    </div>
  );
}

export function SandboxPage({ id, tab }: { id: string; tab: string }) {
  const map = useStore(sandboxes);
  const s = map?.get(id);
  const [error, setError] = useState<Error | null>(null);
  useSampling(s);
  useTitle(s ? visible(s.name ?? s.id) : id);
  useEffect(() => {
    setError(null);
    get<Sandbox>(`/v1/sandboxes/${encodeURIComponent(id)}`).then(putSandbox, setError);
  }, [id]);
  if (!s)
    return error ? (
      <section class="page">
        <Failure error={error} />
        <p>
          <a href="/">All sandboxes</a>
        </p>
      </section>
    ) : (
      <Loading what="the sandbox" />
    );
  const lived = s.started_at ? (s.stopped_at ? Date.parse(s.stopped_at) : Date.now()) - Date.parse(s.started_at) : 0;
  return (
    <section class="page sandbox">
      <div class="page-head sandbox-head">
        <div class="title">
          <h1>{visible(s.name ?? s.id)}</h1>
          <StatusChip status={s.status} />
          <span class="id">
            {s.name && <code class="dim">{s.id}</code>}
            <CopyButton text={s.id} label="Copy its id" />
          </span>
        </div>
        <span class="grow" />
        <div class="vitals">
          <BudgetBar cost={s.total_cost} budget={s.budget} />
          {s.trust_score !== undefined && <TrustBadge score={s.trust_score} />}
          <span class="dim small nowrap" title={lived ? `Ran ${duration(lived)}` : undefined}>
            {s.status === "destroyed" ? <>ended <When at={s.stopped_at} /></> : <When at={s.created_at} />}
          </span>
        </div>
        <Actions s={s} />
      </div>
      <Making s={s} />
      <Trouble s={s} />
      <TabLinks label="Views of this sandbox" current={tab} tabs={tabs.map((t) => ({ ...t, href: t.id === "terminal" ? `/sandboxes/${s.id}` : `/sandboxes/${s.id}/${t.id}` }))} />
      {panel(tab, s)}
    </section>
  );
}

