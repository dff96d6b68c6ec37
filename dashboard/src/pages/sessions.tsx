// Sessions: one agent's work from its connection to its end. A session is replayed in the timeline of
// its sandbox, at the moment when it began.
import { useEffect } from "preact/hooks";
import { ApiError, get } from "../lib/api";
import { count, duration, tokens, usd, visible } from "../lib/format";
import { sandboxes } from "../lib/live";
import { go } from "../lib/router";
import { useStore } from "../lib/store";
import { useLoad, useTitle } from "../lib/use";
import { Empty, Failure, Loading, StatusChip, TrustBadge, When } from "../ui/parts";

interface Session {
  id: string;
  sandbox_id: string;
  status: string;
  agent_type: string | null;
  model: string | null;
  tokens_in: number;
  tokens_out: number;
  total_cost: number;
  cost_usd?: number;
  trust_score: number | null;
  event_count: number;
  duration_ms: number | null;
  started_at: string;
  ended_at: string | null;
}

interface Listed {
  data: Session[];
}

function Fallback({ why }: { why: string }) {
  const all = [...(useStore(sandboxes)?.values() ?? [])].sort((a, b) => (a.created_at < b.created_at ? 1 : -1)).slice(0, 100);
  if (all.length === 0)
    return (
      <Empty icon="play" title="Nothing to replay yet">
        <p>Every sandbox is recorded from its first second; its story appears here.</p>
      </Empty>
    );
  return (
    <div class="stack">
      <p class="dim">{why}</p>
      <div class="table-wrap">
        <table class="table">
          <thead>
            <tr>
              <th>Sandbox</th>
              <th>State</th>
              <th>Made</th>
              <th>
                <span class="sr">Replay</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {all.map((s) => (
              <tr key={s.id}>
                <td>
                  <a class="row-link" href={`/sandboxes/${s.id}/timeline`}>
                    {visible(s.name ?? s.id)}
                  </a>
                  <span class="sub">{visible(s.agent_type ?? s.template)}</span>
                </td>
                <td>
                  <StatusChip status={s.status} />
                </td>
                <td>
                  <When at={s.created_at} />
                </td>
                <td class="acts">
                  <a class="btn quiet small" href={`/sandboxes/${s.id}/timeline?t=0`}>
                    Replay
                  </a>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}

function One({ id }: { id: string }) {
  const one = useLoad((signal) => get<Session>(`/v1/sessions/${encodeURIComponent(id)}`, undefined, signal), [id]);
  const map = useStore(sandboxes);
  useEffect(() => {
    if (!one.data || !map) return;
    const s = map.get(one.data.sandbox_id);
    const from = s?.started_at ? Math.max(0, (Date.parse(one.data.started_at) - Date.parse(s.started_at)) / 1000) : 0;
    go(`/sandboxes/${one.data.sandbox_id}/timeline?t=${from.toFixed(1)}`, true);
  }, [one.data, map]);
  if (one.error) return <Failure error={one.error} retry={one.reload} />;
  return <Loading what="the session" />;
}

export function SessionsPage({ id }: { id?: string }) {
  useTitle("Sessions");
  const list = useLoad((signal) => get<Listed>("/v1/sessions", { page: 1, per_page: 100 }, signal), [], 15_000);
  if (id) return <One id={id} />;
  const absent = list.error instanceof ApiError && list.error.absent;
  return (
    <section class="page">
      <h1>Sessions</h1>
      {absent ? (
        <Fallback why="Each sandbox has one recording, from its first second to its end." />
      ) : list.error ? (
        <Failure error={list.error} retry={list.reload} />
      ) : !list.data ? (
        <Loading what="sessions" />
      ) : list.data.data.length === 0 ? (
        <Fallback why="No agent has opened a session yet. The recordings of sandboxes:" />
      ) : (
        <div class="table-wrap">
          <table class="table">
            <thead>
              <tr>
                <th>Session</th>
                <th>State</th>
                <th class="hide-s">Model</th>
                <th class="right hide-m">Tokens</th>
                <th class="right">Cost</th>
                <th>Trust</th>
                <th class="right hide-m">Events</th>
                <th class="hide-s">Took</th>
                <th>Began</th>
              </tr>
            </thead>
            <tbody>
              {list.data.data.map((x) => (
                <tr key={x.id}>
                  <td>
                    <a class="row-link" href={`/sessions/${x.id}`}>
                      {visible(x.agent_type ?? "agent")}
                    </a>
                    <span class="sub">
                      <a href={`/sandboxes/${x.sandbox_id}`}>{visible(nameOf(x.sandbox_id))}</a>
                    </span>
                  </td>
                  <td>
                    <span class={`chip ${x.status === "active" ? "ok" : x.status === "failed" ? "bad" : ""}`}>{x.status}</span>
                  </td>
                  <td class="hide-s">{visible(x.model ?? "–")}</td>
                  <td class="right num hide-m">
                    {tokens(x.tokens_in)} / {tokens(x.tokens_out)}
                  </td>
                  <td class="right num">{usd(x.total_cost ?? x.cost_usd)}</td>
                  <td>
                    <TrustBadge score={x.trust_score} />
                  </td>
                  <td class="right num hide-m">{count(x.event_count)}</td>
                  <td class="num hide-s">{x.duration_ms === null ? "–" : duration(x.duration_ms)}</td>
                  <td>
                    <When at={x.started_at} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function nameOf(id: string): string {
  return sandboxes.value?.get(id)?.name ?? id;
}
