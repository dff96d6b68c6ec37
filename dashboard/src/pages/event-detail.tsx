// One event: who vouches for it, its members, and for a model call its tokens and prices.
import type { ComponentChildren } from "preact";
import { headline, num } from "../lib/events";
import type { Feed } from "../lib/feed";
import { count, duration, nusd, visible } from "../lib/format";
import type { Call } from "../lib/sums";
import type { Line } from "../lib/types";
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

export function EventDetail({ feed, line, when }: { feed: Feed; line: Line; when: ComponentChildren }) {
  const h = headline(line);
  const call = line.type === "llm_call" ? feed.sums.calls.get(num(line.data["call"])) : undefined;
  return (
    <div class="event-detail">
      <h2 class="wrap">{h.text}</h2>
      {h.more && <p class="dim wrap">{h.more}</p>}
      {call && <Conversation key={call.call} sandbox={feed.id} call={call} />}
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
