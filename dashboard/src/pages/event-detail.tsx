// One event: who vouches for it, its members, and for a model call its tokens and prices.
import type { ComponentChildren } from "preact";
import { get, type Params } from "../lib/api";
import { headline, num } from "../lib/events";
import { lineOf, type Page } from "../lib/feed";
import { count, duration, nusd, visible } from "../lib/format";
import { Sums, type Call } from "../lib/sums";
import type { Line } from "../lib/types";
import { useLoad } from "../lib/use";
import { CopyButton } from "../ui/parts";
import { Conversation } from "./conversation";

const vouch: Record<string, string> = {
  host: "seen by the host: proof",
  guest: "told from inside the sandbox: evidence",
  claim: "told by an agent about itself",
  server: "written by the server",
};

export function CallTable({ call }: { call: Call }) {
  const classes = [...new Set([...Object.keys(call.tokens), ...Object.keys(call.byClass)])].filter((c) => c !== "reasoning");
  return (
    <div class="table-wrap">
      <table class="table tight">
        <thead>
          <tr>
            <th>Class</th>
            <th class="right">Tokens</th>
            <th class="right">Cost</th>
          </tr>
        </thead>
        <tbody>
          {classes.map((c) => (
            <tr key={c}>
              <td>{visible(c).replace(/_/g, " ")}</td>
              <td class="right num">{call.tokens[c] ? count(call.tokens[c]!) : "–"}</td>
              <td class="right num">{call.byClass[c] ? nusd(call.byClass[c]) : "–"}</td>
            </tr>
          ))}
          <tr>
            <td>
              <strong>Together</strong>
            </td>
            <td class="right num">{count(call.tokensIn + call.tokensOut)}</td>
            <td class="right num">
              <strong>{call.nusd === null ? "not priced" : nusd(call.nusd)}</strong>
              {call.estimated && <span class="dim"> estimated</span>}
            </td>
          </tr>
        </tbody>
      </table>
    </div>
  );
}

function Value({ v }: { v: unknown }): ComponentChildren {
  if (v === null) return <span class="dim">null</span>;
  if (typeof v === "string") return <span class="value">{v.split("\n").map(visible).join("\n")}</span>;
  if (typeof v === "object") return <pre class="value">{JSON.stringify(v, (_k, x: unknown) => (typeof x === "string" ? visible(x) : x), 2)}</pre>;
  return <span class="value num">{String(v)}</span>;
}

const CALL_REACH = 300;

/** Beginning and end of the call that a line is of: they stand near each other among the lines of calls. */
async function callOf(sandbox: string, line: Line, signal: AbortSignal): Promise<Call | null> {
  if (line.type !== "llm_call") return null;
  const ask = (more: Params) => get<Page>(`/v1/sandboxes/${sandbox}/replay`, { type: "llm_call", limit: CALL_REACH, ...more }, signal);
  const [before, after] = await Promise.all([ask({ before_seq: line.seq + 1, last: true }), ask({ after_seq: line.seq })]);
  const sums = new Sums();
  for (const e of [...before.events, ...after.events]) if (e.data["call"] === line.data["call"]) sums.add(lineOf(sandbox, e));
  return sums.calls.get(num(line.data["call"])) ?? null;
}

export function EventDetail({ sandbox, line, when }: { sandbox: string; line: Line; when: ComponentChildren }) {
  const h = headline(line);
  const call = useLoad((signal) => callOf(sandbox, line, signal), [sandbox, line.seq]).data;
  return (
    <div class="event-detail">
      <h2 class="wrap">{h.text}</h2>
      {h.more && <p class="dim wrap">{h.more}</p>}
      {call && <Conversation key={call.call} sandbox={sandbox} call={call} />}
      {call && call.endMs !== null && <CallTable call={call} />}
      <dl class="facts">
        <dt>When</dt>
        <dd>{when}</dd>
        <dt>Kind</dt>
        <dd>
          <code>{visible(line.type)}</code>, number {count(line.seq)}
        </dd>
        <dt>Source</dt>
        <dd>{vouch[line.src] ?? visible(line.src)}</dd>
        {call && (
          <>
            <dt>Took</dt>
            <dd>
              {call.endMs === null ? "under way" : duration(call.endMs - call.startMs)}
              {call.ttftMs !== null && `, first word after ${duration(call.ttftMs)}`}
            </dd>
          </>
        )}
      </dl>
      <details class="sub-card" open={!call}>
        <summary>
          <strong>As recorded</strong>
        </summary>
        <div class="row members-head">
          <span class="grow dim small">number {count(line.seq)} of the record</span>
          <CopyButton text={JSON.stringify(line)} label="Copy the line as JSON" />
        </div>
        <dl class="members">
          {Object.entries(line.data).map(([k, v]) => (
            <div key={k}>
              <dt>{visible(k)}</dt>
              <dd>
                <Value v={v} />
              </dd>
            </div>
          ))}
        </dl>
      </details>
    </div>
  );
}
