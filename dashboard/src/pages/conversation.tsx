// A model call read as what it is: a conversation. What the model had been told before is folded away,
// what is new in this call and what it answered is open. All of it is text from a guest: text nodes only.
import { useState } from "preact/hooks";
import { ApiError, getText } from "../lib/api";
import { readReply, readRequest, type Part, type Turn } from "../lib/conversation";
import { count, plural, visible } from "../lib/format";
import type { Call } from "../lib/sums";
import { useLoad } from "../lib/use";
import { Failure, Loading } from "../ui/parts";

const SHOWN = 6000;
const roles: Record<Turn["role"], string> = { system: "System", user: "User", assistant: "Model", tool: "Tool" };

/** A text with its lines kept, and cut where it is long. */
function LongText({ text, mono }: { text: string; mono?: boolean }) {
  const [all, setAll] = useState(false);
  const cut = !all && text.length > SHOWN;
  return (
    <>
      <div class={`said ${mono ? "mono" : ""}`}>{(cut ? text.slice(0, SHOWN) : text).split("\n").map(visible).join("\n")}</div>
      {cut && (
        <button type="button" class="as-link small" onClick={() => setAll(true)}>
          {count(text.length - SHOWN)} more characters
        </button>
      )}
    </>
  );
}

function PartView({ p }: { p: Part }) {
  switch (p.kind) {
    case "text":
      return <LongText text={p.text} />;
    case "thinking":
      return (
        <details class="part">
          <summary class="dim small">Thinking</summary>
          {p.text ? <LongText text={p.text} /> : <p class="dim small">The provider keeps it to itself.</p>}
        </details>
      );
    case "tool_use":
      return (
        <div class="part">
          <span class="part-head small">
            calls <code>{visible(p.name || "a tool")}</code>
          </span>
          <LongText text={p.text} mono />
        </div>
      );
    case "tool_result":
      return (
        <div class={`part ${p.bad ? "bad" : ""}`}>
          <span class="part-head small">
            {p.bad ? "failed" : "result"} {p.name && <code>{visible(p.name)}</code>}
          </span>
          <LongText text={p.text} mono />
        </div>
      );
    case "image":
      return <p class="dim small">an image</p>;
    default:
      return <LongText text={p.text} mono />;
  }
}

function TurnView({ t }: { t: Turn }) {
  return (
    <li class={`turn ${t.role}`}>
      <span class="turn-role small">{roles[t.role]}</span>
      <div class="turn-parts">
        {t.parts.map((p, i) => (
          <PartView key={i} p={p} />
        ))}
      </div>
    </li>
  );
}

/** How many turns at the beginning a person has seen before: all up to what came behind the model's last word. */
function known(turns: Turn[]): number {
  for (let i = turns.length - 1; i >= 0; i--) if (turns[i]!.role === "assistant") return i + 1;
  return 0;
}

function missing(e: unknown): string {
  if (e instanceof ApiError && e.status === 404) return "Its text is no longer kept: the record's quota for contents made room.";
  throw e;
}

export function Conversation({ sandbox, call }: { sandbox: string; call: Call }) {
  const fetchBlob = async (name: string, signal: AbortSignal) => (name ? getText(`/v1/sandboxes/${sandbox}/blobs/${name}`, undefined, signal).catch(missing) : "");
  const loaded = useLoad(async (signal) => Promise.all([fetchBlob(call.requestBlob, signal), fetchBlob(call.replyBlob, signal)]), [call.call, call.requestBlob, call.replyBlob]);
  if (!call.requestBlob && !call.replyBlob) return <p class="dim small">Its texts are not in the record: this server keeps only what calls cost.</p>;
  if (loaded.error) return <Failure error={loaded.error} retry={loaded.reload} />;
  if (!loaded.data) return <Loading what="the conversation" />;
  const { turns, tools } = readRequest(loaded.data[0]);
  const reply = readReply(loaded.data[1]);
  const before = known(turns);
  return (
    <div class="conversation">
      {tools.length > 0 && (
        <p class="dim small wrap">
          {plural(tools.length, "tool")} offered: {tools.slice(0, 24).map(visible).join(", ")}
          {tools.length > 24 && "…"}
        </p>
      )}
      {before > 0 && (
        <details>
          <summary class="dim">{plural(before, "message")} from before</summary>
          <ol>
            {turns.slice(0, before).map((t, i) => (
              <TurnView key={i} t={t} />
            ))}
          </ol>
        </details>
      )}
      <ol>
        {turns.slice(before).map((t, i) => (
          <TurnView key={i} t={t} />
        ))}
        {reply ? <TurnView t={reply} /> : call.endMs === null ? <li class="dim small">The model is still answering.</li> : <li class="dim small">There was no answer.</li>}
      </ol>
    </div>
  );
}
