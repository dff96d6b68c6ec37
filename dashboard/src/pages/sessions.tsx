// Sessions: one agent's work, or one terminal's, from its connection to its end; each with its part of
// the timeline.
import { useState } from "preact/hooks";
import { ApiError, get } from "../lib/api";
import { count, duration, plural, price, tokens, visible } from "../lib/format";
import { sandboxes } from "../lib/live";
import { kindOfWork } from "../lib/select";
import { useStore } from "../lib/store";
import type { Sandbox } from "../lib/types";
import { useLoad, useTitle } from "../lib/use";
import { TimelinePanel } from "./timeline";
import { Button, Empty, Failure, Loading, StatusChip, TrustBadge, When } from "../ui/parts";

interface Session {
  id: string;
  sandbox_id: string;
  status: string;
  kind?: "agent" | "terminal";
  agent_type: string | null;
  llm_calls?: number;
  llm_cost: number;
  compute_cost: number;
  model: string | null;
  tokens_in: number;
  tokens_out: number;
  total_cost: number;
  trust_score: number | null;
  event_count: number;
  duration_ms: number | null;
  started_at: string;
  ended_at: string | null;
}

interface Listed {
  data: Session[];
  pagination: { page: number; total: number; total_pages: number };
}

const PER_PAGE = 50;

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
                  <span class="sub">{visible(kindOfWork(s))}</span>
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

function title(x: Session): string {
  return x.agent_type ?? (x.kind === "terminal" ? "terminal" : "agent");
}

/** One session: who worked, what it came to, and its part of the timeline. */
function One({ id }: { id: string }) {
  const one = useLoad((signal) => get<Session>(`/v1/sessions/${encodeURIComponent(id)}`, undefined, signal), [id], 10_000);
  const x = one.data;
  const box = useLoad((signal) => (x ? get<Sandbox>(`/v1/sandboxes/${x.sandbox_id}`, undefined, signal) : Promise.resolve(null)), [x?.sandbox_id]);
  const map = useStore(sandboxes);
  useTitle(x ? `Session of ${title(x)}` : "Session");
  if (one.error) return <Failure error={one.error} retry={one.reload} />;
  const s = x ? (map?.get(x.sandbox_id) ?? box.data) : null;
  if (!x || !s) return box.error ? <Failure error={box.error} retry={box.reload} /> : <Loading what="the session" />;
  return (
    <section class="page sandbox">
      <div class="page-head sandbox-head">
        <div class="title">
          <h1>Session of {visible(title(x))}</h1>
          <span class={`chip ${x.status === "active" ? "ok" : x.status === "failed" ? "bad" : ""}`}>{x.status}</span>
          <span class="dim">
            in <a href={`/sandboxes/${s.id}`}>{visible(s.name ?? s.id)}</a>
          </span>
        </div>
        <span class="grow" />
        <TrustBadge score={x.trust_score} />
      </div>
      <dl class="tiles card">
        <div>
          <dt>Cost</dt>
          <dd class="num">{price(x.total_cost)}</dd>
        </div>
        <div>
          <dt>Models</dt>
          <dd class="num">
            {price(x.llm_cost)} <span class="dim small">{plural(x.llm_calls ?? 0, "call")}</span>
          </dd>
        </div>
        <div>
          <dt>Machine</dt>
          <dd class="num">{price(x.compute_cost)}</dd>
        </div>
        <div>
          <dt>Tokens in, out</dt>
          <dd class="num">
            {tokens(x.tokens_in)} <span class="dim">/</span> {tokens(x.tokens_out)}
          </dd>
        </div>
        <div>
          <dt>Model</dt>
          <dd>{visible(x.model ?? "–")}</dd>
        </div>
        <div>
          <dt>Events</dt>
          <dd class="num">{count(x.event_count)}</dd>
        </div>
        <div>
          <dt>Began</dt>
          <dd>
            <When at={x.started_at} />
          </dd>
        </div>
        <div>
          <dt>Took</dt>
          <dd class="num">{x.duration_ms === null ? "–" : duration(x.duration_ms)}</dd>
        </div>
      </dl>
      <TimelinePanel key={s.id} s={s} scope={{ session: x.id, title: "this session" }} />
    </section>
  );
}

export function SessionsPage({ id }: { id?: string }) {
  return id ? <One key={id} id={id} /> : <All />;
}

function All() {
  useTitle("Sessions");
  const [page, setPage] = useState(1);
  const list = useLoad((signal) => get<Listed>("/v1/sessions", { page, per_page: PER_PAGE }, signal), [page], 15_000);
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
                      {visible(title(x))}
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
                  <td class="right num">{price(x.total_cost)}</td>
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
          {list.data.pagination.total_pages > 1 && (
            <footer class="pager">
              <Button kind="quiet" icon="left" disabled={page <= 1} onClick={() => setPage(page - 1)}>
                Newer
              </Button>
              <span class="dim small num">
                {page} of {list.data.pagination.total_pages}, {plural(list.data.pagination.total, "session")}
              </span>
              <Button kind="quiet" icon="right" disabled={page >= list.data.pagination.total_pages} onClick={() => setPage(page + 1)}>
                Older
              </Button>
            </footer>
          )}
        </div>
      )}
    </section>
  );
}

function nameOf(id: string): string {
  return sandboxes.value?.get(id)?.name ?? id;
}
