// Where a sandbox went, or wanted to go: hosts with their verdicts, names it asked for, ports it opened.
import { useEffect, useMemo, useState } from "preact/hooks";
import { ApiError, get, send } from "../lib/api";
import { feedOf } from "../lib/feed";
import { bytes, clock, count, visible } from "../lib/format";
import { refresh } from "../lib/live";
import { useStore } from "../lib/store";
import type { Sandbox } from "../lib/types";
import { useLoad } from "../lib/use";
import { Button, Empty, Loading, toast } from "../ui/parts";

interface Port {
  port: number;
  protocol: string;
  preview_url: string | null;
  protected: boolean;
  process: string | null;
}

function Ports({ s }: { s: Sandbox }) {
  const ports = useLoad((signal) => get<Port[]>(`/v1/sandboxes/${s.id}/ports`, undefined, signal), [s.id], 4000);
  if (!ports.data?.length) return null;
  return (
    <div class="card">
      <header>
        <h2>Listening ports</h2>
      </header>
      <ul class="plain-list">
        {ports.data.map((p) => (
          <li key={p.port}>
            <strong class="num">{p.port}</strong>
            <span class="dim">{p.protocol}</span>
            <span class="grow cut">{visible(p.process ?? "")}</span>
            {/* a URL of the server's own making; only http ones become links */}
            {p.preview_url && /^https?:\/\//.test(p.preview_url) && (
              <a href={p.preview_url} target="_blank" rel="noopener noreferrer">
                Open
              </a>
            )}
            {p.protected && <span class="chip">password</span>}
          </li>
        ))}
      </ul>
    </div>
  );
}

export function NetworkPanel({ s }: { s: Sandbox }) {
  const feed = useMemo(() => feedOf(s.id), [s.id]);
  useEffect(() => feed.open(), [feed]);
  const version = useStore(feed.version);
  const state = useStore(feed.state);
  const [only, setOnly] = useState<"all" | "allow" | "deny">("all");
  const [canChange, setCanChange] = useState(true);
  const all = useMemo(() => [...feed.sums.connections.values()].sort((a, b) => b.lastMs - a.lastMs), [version]);
  const list = all.filter((c) => only === "all" || (only === "deny") === (c.verdict === "deny"));
  const lookups = useMemo(() => [...feed.sums.lookups].sort((a, b) => b[1].count - a[1].count).slice(0, 100), [version]);

  const allow = async (host: string) => {
    try {
      await send("PATCH", `/v1/sandboxes/${s.id}/network`, { network_mode: "allowlist", allowlist: [...(s.allowlist ?? []), host] });
      toast(`${visible(host)} is allowed from now on`);
      void refresh();
    } catch (e) {
      if (e instanceof ApiError && e.absent) setCanChange(false);
      toast((e as Error).message, "bad");
    }
  };
  if (state === "connecting" && !feed.lines.length) return <Loading what="the record" />;
  return (
    <div class="stack">
      <div class="card in row wrap-row">
        <span>
          Network mode <strong>{s.network_mode}</strong>
        </span>
        {s.allowlist && s.allowlist.length > 0 && <span class="dim cut">{s.allowlist.map(visible).join(", ")}</span>}
        <span class="grow" />
        <div class="segments" role="group" aria-label="Which connections">
          {(["all", "allow", "deny"] as const).map((v) => (
            <button key={v} type="button" aria-pressed={only === v} onClick={() => setOnly(v)}>
              {v === "all" ? "All" : v === "allow" ? "Allowed" : "Refused"} <span class="dim num">{count(v === "all" ? all.length : all.filter((c) => (c.verdict === "deny") === (v === "deny")).length)}</span>
            </button>
          ))}
        </div>
      </div>
      {s.status === "running" && <Ports s={s} />}
      {list.length === 0 ? (
        <Empty icon="net" title={only === "deny" ? "Nothing was refused" : "No connection was tried"}>
          <p>Every connection that a program in the sandbox opens or tries to open appears here at once.</p>
        </Empty>
      ) : (
        <div class="card">
          <header>
            <h2>Destinations</h2>
          </header>
          <div class="table-wrap">
            <table class="table">
              <thead>
                <tr>
                  <th>Host</th>
                  <th>Verdict</th>
                  <th class="hide-m">Rule</th>
                  <th class="right">Times</th>
                  <th class="right hide-s">Out</th>
                  <th class="right hide-s">In</th>
                  <th>Last</th>
                  <th>
                    <span class="sr">Actions</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {list.map((c) => (
                  <tr key={c.key}>
                    <td class="wrap">
                      <strong>{visible(c.host)}</strong>
                      <span class="dim num">:{c.port}</span>
                      {c.address !== c.host && <span class="sub">{visible(c.address)}</span>}
                    </td>
                    <td>
                      <span class={`chip ${c.verdict === "deny" ? "bad" : "ok"}`}>{c.verdict === "deny" ? "refused" : c.open > 0 ? "open" : "allowed"}</span>
                    </td>
                    <td class="dim hide-m wrap">{visible(c.rule)}</td>
                    <td class="right num">{count(c.opened)}</td>
                    <td class="right num hide-s">{bytes(c.bytesOut)}</td>
                    <td class="right num hide-s">{bytes(c.bytesIn)}</td>
                    <td class="num">
                      <a href={`/sandboxes/${s.id}/timeline?t=${(c.lastMs / 1000).toFixed(1)}`}>{clock(c.lastMs)}</a>
                    </td>
                    <td class="acts">
                      {c.verdict === "deny" && s.status === "running" && canChange && (
                        <Button kind="quiet" class="small" onClick={() => void allow(c.host)}>
                          Allow
                        </Button>
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        </div>
      )}
      {lookups.length > 0 && (
        <div class="card">
          <header>
            <h2>Names asked for</h2>
          </header>
          <ul class="plain-list">
            {lookups.map(([name, l]) => (
              <li key={name}>
                <code class="grow cut">{visible(name)}</code>
                <span class={`chip ${l.verdict === "deny" ? "bad" : "ok"}`}>{l.verdict === "deny" ? "unknown here" : "answered"}</span>
                <span class="num dim">{count(l.count)}×</span>
              </li>
            ))}
          </ul>
        </div>
      )}
    </div>
  );
}
