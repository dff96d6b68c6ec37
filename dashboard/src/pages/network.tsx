// Where a sandbox went, or wanted to go: hosts with their verdicts, names it asked for, ports it opened.
import { useEffect, useMemo, useState } from "preact/hooks";
import { get, send } from "../lib/api";
import { feedOf } from "../lib/feed";
import { bytes, clock, count, visible } from "../lib/format";
import { refresh } from "../lib/live";
import { useStore } from "../lib/store";
import type { Sums } from "../lib/sums";
import type { Sandbox } from "../lib/types";
import { useLoad } from "../lib/use";
import { Icon } from "../ui/icons";
import { Button, Empty, Loading, toast } from "../ui/parts";
import { Table } from "../ui/table";
import { Ports } from "./ports";

interface Policy {
  mode: "full" | "allowlist" | "none";
  allow: string[];
  deny: string[];
  operator: string[];
  registries: string[];
}

const modes: [Policy["mode"], string][] = [
  ["none", "None"],
  ["allowlist", "Allow list"],
  ["full", "Full"],
];
const modeWords: Record<Policy["mode"], string> = {
  none: "Nothing can be reached but what the operator allows.",
  allowlist: "Only what is listed can be reached.",
  full: "Everything outside of the host's own networks can be reached, but what is denied.",
};

function Rules(p: { title: string; rules: string[]; tone: string; drop?: (rule: string) => void }) {
  if (!p.rules.length) return null;
  return (
    <div class="rules">
      <span class="dim small">{p.title}</span>
      {p.rules.map((r) => (
        <span key={r} class={`chip ${p.tone}`}>
          {visible(r)}
          {p.drop && (
            <button type="button" class="chip-x" aria-label={`Take away ${visible(r)}`} title="Take away" onClick={() => p.drop!(r)}>
              <Icon name="x" size={10} />
            </button>
          )}
        </span>
      ))}
    </div>
  );
}

function PolicyCard(p: { policy: Policy; busy: boolean; usable: boolean; change: (body: object, done: string) => Promise<void> }) {
  const [host, setHost] = useState("");
  const add = (list: "allow" | "deny") => {
    const name = host.trim();
    if (!name) return;
    void p.change({ add: { [list]: [name] } }, `${visible(name)} is ${list === "allow" ? "allowed" : "denied"} from now on`).then(() => setHost(""));
  };
  const drop = p.usable ? (rule: string) => void p.change({ remove: [rule] }, `${visible(rule)} is no rule any more`) : undefined;
  return (
    <div class="card in stack policy">
      <div class="row wrap-row">
        <div class="segments" role="group" aria-label="Network mode">
          {modes.map(([m, title]) => (
            <button key={m} type="button" aria-pressed={p.policy.mode === m} disabled={p.busy || !p.usable} onClick={() => p.policy.mode !== m && void p.change({ mode: m }, `The network mode is ${title.toLowerCase()} now`)}>
              {title}
            </button>
          ))}
        </div>
        <span class="dim small grow">{modeWords[p.policy.mode]}</span>
        {p.usable && (
          <form
            class="row"
            onSubmit={(e) => {
              e.preventDefault();
              add("allow");
            }}
          >
            <input class="mid" aria-label="A host to allow or deny" placeholder="api.example.com" value={host} spellcheck={false} autocapitalize="off" onInput={(e) => setHost(e.currentTarget.value)} />
            <Button type="submit" disabled={!host.trim() || p.busy}>
              Allow
            </Button>
            <Button disabled={!host.trim() || p.busy} onClick={() => add("deny")}>
              Deny
            </Button>
          </form>
        )}
      </div>
      <Rules title="Allowed" rules={p.policy.allow} tone="ok" drop={drop} />
      <Rules title="Denied" rules={p.policy.deny} tone="bad" drop={drop} />
      <Rules title="By the operator, everywhere" rules={p.policy.operator} tone="" />
    </div>
  );
}

interface Row {
  key: string;
  host: string;
  port: number;
  address: string;
  denied: boolean;
  word: string;
  rule: string;
  times: number;
  out: number;
  in: number;
  lastMs: number;
}

/** Connections, and names that were refused before there could be one. */
function rowsOf(sums: Sums): Row[] {
  const rows: Row[] = [...sums.connections.values()].map((c) => ({
    key: c.key, host: c.host, port: c.port, address: c.address === c.host ? "" : c.address, denied: c.verdict === "deny", word: c.verdict === "deny" ? "refused" : c.open > 0 ? "open" : "allowed",
    rule: c.rule, times: c.opened, out: c.bytesOut, in: c.bytesIn, lastMs: c.lastMs,
  }));
  for (const [name, l] of sums.lookups)
    if (l.verdict === "deny")
      rows.push({ key: `name ${name}`, host: name, port: 0, address: "", denied: true, word: "name refused", rule: l.rule, times: l.count, out: 0, in: 0, lastMs: l.lastMs });
  return rows.sort((a, b) => b.lastMs - a.lastMs);
}

const own = /(^|\.)caged\.internal$|^172\.30\.\d+\.\d+$/;

export function NetworkPanel({ s }: { s: Sandbox }) {
  const feed = useMemo(() => feedOf(s.id, "network,dns"), [s.id]);
  useEffect(() => feed.open(), [feed]);
  const version = useStore(feed.version);
  const state = useStore(feed.state);
  const [only, setOnly] = useState<"all" | "allow" | "deny">("all");
  const [busy, setBusy] = useState(false);
  const policy = useLoad((signal) => get<Policy>(`/v1/sandboxes/${s.id}/network`, undefined, signal), [s.id]);
  const all = useMemo(() => rowsOf(feed.sums), [version]);
  const list = all.filter((c) => only === "all" || (only === "deny") === c.denied);
  const names = useMemo(() => [...feed.sums.lookups].filter(([, l]) => l.verdict !== "deny").sort((a, b) => b[1].count - a[1].count).slice(0, 100), [version]);
  const usable = s.status === "running" || s.status === "paused";

  const change = async (body: object, done: string) => {
    setBusy(true);
    try {
      policy.set(await send<Policy>("PATCH", `/v1/sandboxes/${s.id}/network`, body));
      toast(done);
      void refresh();
    } catch (e) {
      toast((e as Error).message, "bad");
    }
    setBusy(false);
  };
  const acts = (c: Row) =>
    usable &&
    !own.test(c.host) && (
      <Button
        kind="quiet"
        class="small"
        disabled={busy}
        aria-label={`${c.denied ? "Allow" : "Deny"} ${visible(c.host)}`}
        onClick={() => void change({ add: { [c.denied ? "allow" : "deny"]: [c.host] } }, `${visible(c.host)} is ${c.denied ? "allowed" : "denied"} from now on`)}
      >
        {c.denied ? "Allow" : "Deny"}
      </Button>
    );
  if (state === "connecting" && !feed.lastMs) return <Loading what="the record" />;
  return (
    <div class="stack">
      {policy.data && <PolicyCard policy={policy.data} busy={busy} usable={usable} change={change} />}
      {s.status === "running" && <Ports s={s} />}
      <div class="card">
        <header>
          <h2 class="grow">Destinations</h2>
          <div class="segments" role="group" aria-label="Which connections">
            {(["all", "allow", "deny"] as const).map((v) => (
              <button key={v} type="button" aria-pressed={only === v} onClick={() => setOnly(v)}>
                {v === "all" ? "All" : v === "allow" ? "Allowed" : "Refused"} <span class="dim num">{count(v === "all" ? all.length : all.filter((c) => c.denied === (v === "deny")).length)}</span>
              </button>
            ))}
          </div>
        </header>
        {list.length === 0 ? (
          <Empty icon="net" title={only === "deny" ? "Nothing was refused" : "No connection was tried"}>
            <p>Every connection that a program in the sandbox opens or tries to open appears here at once.</p>
          </Empty>
        ) : (
          <Table
            label="Destinations"
            rows={list}
            keyOf={(c) => c.key}
            columns={[
              {
                title: "Host",
                as: "wrap",
                cell: (c) => (
                  <>
                    <strong>{visible(c.host)}</strong>
                    {c.port > 0 && <span class="dim num">:{c.port}</span>}
                    {c.address && <span class="sub">{visible(c.address)}</span>}
                  </>
                ),
              },
              { title: "Verdict", cell: (c) => <span class={`chip ${c.denied ? "bad" : "ok"}`}>{c.word}</span> },
              { title: "Rule", as: "wrap", hide: "m", cell: (c) => <span class="dim">{visible(c.rule)}</span> },
              { title: "Times", as: "number", hide: "s", cell: (c) => count(c.times) },
              { title: "Out", as: "number", hide: "s", cell: (c) => bytes(c.out) },
              { title: "In", as: "number", hide: "s", cell: (c) => bytes(c.in) },
              { title: "Last", hide: "s", cell: (c) => <a class="num" href={`/sandboxes/${s.id}/timeline?t=${(c.lastMs / 1000).toFixed(1)}`}>{clock(c.lastMs)}</a> },
              { title: "Actions", as: "acts", cell: acts },
            ]}
          />
        )}
      </div>
      {names.length > 0 && (
        <div class="card">
          <header>
            <h2>Names asked for</h2>
          </header>
          <ul class="plain-list">
            {names.map(([name, l]) => (
              <li key={name}>
                <code class="grow cut">{visible(name)}</code>
                <span class="num dim">{count(l.count)}×</span>
              </li>
            ))}
          </ul>
        </div>
      )}
    </div>
  );
}
