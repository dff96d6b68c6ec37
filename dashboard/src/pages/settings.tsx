// What a sandbox was made with, and its end.
import { useEffect, useState } from "preact/hooks";
import { get, request } from "../lib/api";
import { bytes, count, duration, local, utc, visible } from "../lib/format";
import { configOf, commandOf, yamlOf } from "../lib/recipe";
import type { Sandbox, WardenStatus } from "../lib/types";
import { useLoad } from "../lib/use";
import { Button, Code, toast } from "../ui/parts";
import { destroyAll } from "./sandboxes";

function Facts({ s }: { s: Sandbox }) {
  const facts: [string, string, string?][] = [
    ["Template", s.template],
    ["Processors", String(s.cpus)],
    ["Memory", `${s.memory_mb} MB`],
    ["Disk", `${s.disk_gb} GB`],
    ["Network", s.network_mode],
    ["Machine", `${s.isolation.vmm}, ${s.isolation.accel === "tcg" ? "emulated (no KVM on the host)" : (s.isolation.accel ?? "not started")}${s.isolation.rootless ? ", rootless" : ""}`],
    ["Started from", s.isolation.started_from ?? "boot"],
    ["Made", local(s.created_at), utc(s.created_at)],
  ];
  if (s.repo_url) facts.push(["Repository", `${s.repo_url}${s.repo_branch ? ` (${s.repo_branch})` : ""}`]);
  if (s.secrets?.length) facts.push(["Secrets", s.secrets.join(", ")]);
  if (s.stopped_at) facts.push(["Ended", local(s.stopped_at), utc(s.stopped_at)]);
  return (
    <dl class="facts">
      {facts.map(([k, v, title]) => [<dt key={`${k}t`}>{k}</dt>, <dd key={k} title={title}>{visible(v)}</dd>])}
    </dl>
  );
}

function Inside({ s }: { s: Sandbox }) {
  const status = useLoad((signal) => get<WardenStatus>(`/v1/sandboxes/${s.id}/status`, undefined, signal), [s.id], 10_000);
  const w = status.data;
  if (!w) return null;
  const lost = Object.values(w.record?.lost ?? {}).reduce((a, b) => a + b, 0) + (w.observed?.lost ?? 0);
  return (
    <div class="card">
      <header>
        <h2>Inside</h2>
      </header>
      <div class="in">
        <dl class="facts">
          <dt>Kernel</dt>
          <dd>{visible(w.kernel ?? "not up yet")}</dd>
          <dt>Commands</dt>
          <dd>
            {count(w.exec_count)}, {count(w.execs)} running
          </dd>
          <dt>Idle for</dt>
          <dd>{duration(w.idle_ms)}</dd>
          <dt>Events</dt>
          <dd>{count(w.seq)}{lost > 0 ? `, ${count(lost)} lost` : ", none lost"}</dd>
          {w.record && (
            <>
              <dt>Record</dt>
              <dd>
                {bytes(w.record.bytes)} of {bytes(w.record.quota_bytes)}
                {w.record.degraded && " — the disk does not take it all"}
              </dd>
            </>
          )}
        </dl>
      </div>
    </div>
  );
}

export function SettingsPanel({ s }: { s: Sandbox }) {
  const [busy, setBusy] = useState(false);
  const [gone, setGone] = useState(false);
  useEffect(() => setGone(s.status === "destroyed"), [s.status]);
  const fetchFiles = async () => {
    setBusy(true);
    try {
      const blob = await (await request("GET", `/v1/sandboxes/${s.id}/files/archive`)).blob();
      const url = URL.createObjectURL(blob);
      const a = document.createElement("a");
      a.href = url;
      a.download = `${s.id}.tar`;
      a.click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
    } catch (e) {
      toast((e as Error).message, "bad");
    }
    setBusy(false);
  };
  const config = configOf(s);
  return (
    <div class="settings">
      <div class="stack">
        <div class="card">
          <header>
            <h2>Made of</h2>
          </header>
          <div class="in">
            <Facts s={s} />
            {s.isolation.warnings.map((w) => (
              <p key={w} class="note warn">
                {visible(w)}
              </p>
            ))}
          </div>
        </div>
        {s.status === "running" && <Inside s={s} />}
      </div>
      <div class="stack">
        <div class="card">
          <header>
            <h2>Another one like it</h2>
          </header>
          <div class="in stack">
            <Code label="Command" text={commandOf(config)} />
            <Code label="Text of .caged.yaml" text={yamlOf(config)} />
          </div>
        </div>
        <div class="card">
          <header>
            <h2>Take with you</h2>
          </header>
          <div class="in stack">
            {s.status === "running" && (
              <Button icon="save" busy={busy} onClick={() => void fetchFiles()}>
                Download /workspace as tar
              </Button>
            )}
            <p class="dim small">The record, as one file that verifies anywhere:</p>
            <Code label="Commands for the record" text={`caged export ${s.id} -o ${s.id}.tar\ncaged verify ${s.id}.tar`} />
          </div>
        </div>
        {!gone && (
          <div class="card danger-zone">
            <header>
              <h2>Destroy</h2>
            </header>
            <div class="in row wrap-row">
              <span class="grow dim">Files and processes are gone at once. The record stays.</span>
              <Button kind="danger" icon="trash" onClick={() => void destroyAll([s])}>
                Destroy
              </Button>
            </div>
          </div>
        )}
      </div>
    </div>
  );
}
