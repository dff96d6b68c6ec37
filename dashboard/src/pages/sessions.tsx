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
import { Empty, Failure, Loading, StatusChip, TrustBadge, When } from "../ui/parts";
import { Pager, Table, Tiles } from "../ui/table";

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
      <Table
        label="Recordings"
        rows={all}
        keyOf={(s) => s.id}
        columns={[
          {
            title: "Sandbox",
            cell: (s) => (
              <>
                <a class="row-link" href={`/sandboxes/${s.id}/timeline`}>
                  {visible(s.name ?? s.id)}
                </a>
                <span class="sub">{visible(kindOfWork(s))}</span>
              </>
            ),
          },
          { title: "State", cell: (s) => <StatusChip status={s.status} /> },
          { title: "Made", cell: (s) => <When at={s.created_at} /> },
          {
            title: "Replay",
            as: "acts",
            cell: (s) => (
              <a class="btn quiet small" href={`/sandboxes/${s.id}/timeline?t=0`}>
                Replay
              </a>
            ),
          },
        ]}
      />
    </div>
  );
}

function title(x: Session): string {
  return x.agent_type ?? (x.kind === "terminal" ? "terminal" : "agent");
}

function SessionChip({ status }: { status: string }) {
  return <span class={`chip ${status === "active" ? "ok" : status === "failed" ? "bad" : ""}`}>{status}</span>;
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
          <SessionChip status={x.status} />
          <span class="dim">
            in <a href={`/sandboxes/${s.id}`}>{visible(s.name ?? s.id)}</a>
          </span>
        </div>
        <span class="grow" />
        <TrustBadge score={x.trust_score} />
      </div>
      <Tiles
        class="card"
        items={[
          ["Cost", price(x.total_cost)],
          [
            "Models",
            <>
              {price(x.llm_cost)} <span class="dim small">{plural(x.llm_calls ?? 0, "call")}</span>
            </>,
          ],
          ["Machine", price(x.compute_cost)],
          ["Tokens in, out", `${tokens(x.tokens_in)} / ${tokens(x.tokens_out)}`],
          ["Model", visible(x.model ?? "–")],
          ["Events", count(x.event_count)],
          ["Began", <When at={x.started_at} />],
          ["Took", x.duration_ms === null ? "–" : duration(x.duration_ms)],
        ]}
      />
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
        <Table
          label="Sessions"
          rows={list.data.data}
          keyOf={(x) => x.id}
          columns={[
            {
              title: "Session",
              cell: (x) => (
                <>
                  <a class="row-link" href={`/sessions/${x.id}`}>
                    {visible(title(x))}
                  </a>
                  <span class="sub">
                    <a href={`/sandboxes/${x.sandbox_id}`}>{visible(nameOf(x.sandbox_id))}</a>
                  </span>
                </>
              ),
            },
            { title: "State", cell: (x) => <SessionChip status={x.status} /> },
            { title: "Model", hide: "s", cell: (x) => visible(x.model ?? "–") },
            { title: "Tokens", as: "number", hide: "m", cell: (x) => `${tokens(x.tokens_in)} / ${tokens(x.tokens_out)}` },
            { title: "Cost", as: "number", cell: (x) => price(x.total_cost) },
            { title: "Trust", cell: (x) => <TrustBadge score={x.trust_score} /> },
            { title: "Events", as: "number", hide: "m", cell: (x) => count(x.event_count) },
            { title: "Took", as: "number", hide: "s", cell: (x) => (x.duration_ms === null ? "–" : duration(x.duration_ms)) },
            { title: "Began", cell: (x) => <When at={x.started_at} /> },
          ]}
        >
          {list.data.pagination.total_pages > 1 && (
            <Pager
              page={page}
              pages={list.data.pagination.total_pages}
              all={plural(list.data.pagination.total, "session")}
              newer={page > 1 ? () => setPage(page - 1) : null}
              older={page < list.data.pagination.total_pages ? () => setPage(page + 1) : null}
            />
          )}
        </Table>
      )}
    </section>
  );
}

function nameOf(id: string): string {
  return sandboxes.value?.get(id)?.name ?? id;
}
