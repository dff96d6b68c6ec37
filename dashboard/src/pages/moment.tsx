// A sandbox as it was at a moment: its terminal's screen, what ran, what had been touched and spent.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Terminal } from "@xterm/xterm";
import { after, at, str } from "../lib/events";
import type { Feed } from "../lib/feed";
import { clock, nusd, plural, visible } from "../lib/format";
import { useStore } from "../lib/store";
import { Sums, type Call, type FileTouched, type Version } from "../lib/sums";
import { newTerminal, openTerminal, termTheme } from "../lib/terminals";
import { shown } from "../lib/theme";
import { BudgetBar, Empty, TrustBadge } from "../ui/parts";
import { Conversation } from "./conversation";
import { FileThen } from "./file-then";

const REPLAYED_MAX = 2 << 20;
const FILES_SHOWN = 8;
const FOLDERS_SHOWN = 5;
const FILES_MAX = 500;
const FRESH_MS = 3000;

/** Sums up to a moment: goes on from the last one when time has only moved forward. */
export class Walker {
  sums = new Sums();
  upto = 0;
  go(feed: Feed, ms: number): Sums {
    const end = after(feed.lines, ms);
    if (end < this.upto) {
      this.sums = new Sums();
      this.upto = 0;
    }
    for (; this.upto < end; this.upto++) this.sums.add(feed.lines[this.upto]!);
    return this.sums;
  }
}

function lastTerminal(feed: Feed, ms: number): string | null {
  let best: string | null = null;
  let when = -1;
  for (const [id, t] of feed.terminals) {
    let lo = 0;
    let hi = t.at.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (at(feed.lines[t.at[mid]!]!) <= ms) lo = mid + 1;
      else hi = mid;
    }
    const last = lo > 0 ? at(feed.lines[t.at[lo - 1]!]!) : -1;
    if (last > when) {
      when = last;
      best = id;
    }
  }
  return best;
}

function Screen({ feed, ms, exec }: { feed: Feed; ms: number; exec: string }) {
  const box = useRef<HTMLDivElement>(null);
  const term = useRef<Terminal | null>(null);
  const shownUpto = useRef(0); // how many of its lines have been written
  const info = feed.terminals.get(exec)!;

  useEffect(() => {
    const t = newTerminal({ readOnly: true, rows: info.rows, cols: info.cols, scrollback: 2000 });
    term.current = t;
    openTerminal(t, box.current!);
    t.textarea?.setAttribute("tabindex", "-1");
    shownUpto.current = 0;
    const off = shown.watch(() => (t.options.theme = termTheme()));
    return () => {
      off();
      t.dispose();
      term.current = null;
    };
  }, [exec]);

  useEffect(() => {
    const t = term.current!;
    let end = 0;
    let hi = info.at.length;
    while (end < hi) {
      const mid = (end + hi) >> 1;
      if (at(feed.lines[info.at[mid]!]!) <= ms) end = mid + 1;
      else hi = mid;
    }
    let from = shownUpto.current;
    if (end < from) {
      t.reset();
      t.resize(info.cols, info.rows);
      from = 0;
    }
    if (from === 0) {
      let total = 0;
      for (let i = end - 1; i >= 0; i--) {
        total += str(feed.lines[info.at[i]!]!.data["text"]).length;
        if (total > REPLAYED_MAX) {
          from = i;
          break;
        }
      }
    }
    for (let i = from; i < end; i++) {
      const d = feed.lines[info.at[i]!]!.data;
      if (d["dir"] === "out") {
        if (typeof d["text"] === "string") t.write(d["text"]);
        else if (typeof d["base64"] === "string") t.write(Uint8Array.from(atob(d["base64"]), (c) => c.charCodeAt(0)));
      } else if (d["dir"] === "resize") {
        const rows = Number(d["rows"]);
        const cols = Number(d["cols"]);
        if (rows > 1 && cols > 1 && rows <= 500 && cols <= 1000) t.resize(cols, rows);
      }
    }
    shownUpto.current = end;
  });
  return <div class="screen" ref={box} role="group" aria-label="The terminal's screen at this moment" />;
}

/** Files by folder, what was touched last first. */
export function byFolder(files: FileTouched[]): { folder: string; lastMs: number; files: FileTouched[] }[] {
  const map = new Map<string, FileTouched[]>();
  for (const f of files) {
    const cut = f.path.lastIndexOf("/");
    const folder = cut > 0 ? f.path.slice(0, cut) : "/";
    const list = map.get(folder);
    if (list) list.push(f);
    else map.set(folder, [f]);
  }
  return [...map]
    .map(([folder, list]) => ({ folder, files: list.sort((a, b) => b.lastMs - a.lastMs), lastMs: Math.max(...list.map((f) => f.lastMs)) }))
    .sort((a, b) => b.lastMs - a.lastMs);
}

function Files({ files, ms, sums, id }: { files: FileTouched[]; ms: number; sums: Sums; id: string }) {
  const [all, setAll] = useState(false);
  const [open, setOpen] = useState<{ path: string; versions: Version[] } | null>(null);
  const folders = byFolder(files);
  const shown = all ? folders : folders.slice(0, FOLDERS_SHOWN);
  return (
    <>
      <ul class="then-files">
        {shown.map((d) => (
          <li key={d.folder}>
            <code class="dim cut" title={visible(d.folder)}>
              {visible(d.folder)}/
            </code>
            <ul>
              {d.files.slice(0, all ? FILES_MAX : FILES_SHOWN).map((f) => (
                <li key={f.path} class={ms - f.lastMs < FRESH_MS ? "fresh" : ""}>
                  <span class={`op ${f.gone ? "bad-text" : ""}`}>{visible(f.op)}</span>
                  <code class={`grow cut ${f.gone ? "gone" : ""}`} title={visible(f.path)}>
                    {visible(f.path.slice(f.path.lastIndexOf("/") + 1))}
                  </code>
                  {sums.contents.has(f.path) && (
                    <button type="button" class="as-link small" aria-label={`see it: ${visible(f.path)}`} onClick={() => setOpen({ path: f.path, versions: [...sums.contents.get(f.path)!] })}>
                      see it
                    </button>
                  )}
                  <span class="dim small num">{clock(f.lastMs)}</span>
                </li>
              ))}
              {!all && d.files.length > FILES_SHOWN && <li class="dim small">{plural(d.files.length - FILES_SHOWN, "more file")}</li>}
            </ul>
          </li>
        ))}
      </ul>
      {!all && (folders.length > FOLDERS_SHOWN || files.length > FILES_SHOWN) && (
        <button type="button" class="as-link small in" onClick={() => setAll(true)}>
          All {plural(files.length, "file")}
        </button>
      )}
      {open && <FileThen sandbox={id} path={open.path} versions={open.versions} close={() => setOpen(null)} />}
    </>
  );
}

/** The call that was under way, or the last before. */
function callAt(sums: Sums): Call | null {
  let best: Call | null = null;
  for (const c of sums.calls.values()) if (!best || c.startMs >= best.startMs) best = c;
  return best;
}

export function Moment({ feed, ms, budget }: { feed: Feed; ms: number; budget?: number }) {
  const walker = useMemo(() => new Walker(), [feed]);
  const version = useStore(feed.version);
  const [exec, setExec] = useState<string | null>(null);
  const [talk, setTalk] = useState(false);
  const sums = useMemo(() => walker.go(feed, ms), [ms, version]);
  const chosen = exec ?? lastTerminal(feed, ms);
  const running = [...sums.running.values()].slice(-6);
  const files = useMemo(() => [...sums.files.values()], [ms, version]);
  const call = callAt(sums);
  const connected = [...sums.connections.values()].filter((c) => c.open > 0).slice(-8);
  return (
    <div class="moment">
      <dl class="tiles">
        <div>
          <dt>Moment</dt>
          <dd class="num">{clock(ms)}</dd>
        </div>
        <div>
          <dt>Cost by then</dt>
          <dd aria-label="Cost by then">
            <BudgetBar cost={(sums.llmNusd + sums.machineNusd) / 1e9} budget={budget} />
          </dd>
        </div>
        {sums.score !== null && (
          <div>
            <dt>Trust</dt>
            <dd>
              <TrustBadge score={sums.score} />
            </dd>
          </div>
        )}
        <div>
          <dt>Commands</dt>
          <dd class="num">
            {sums.commands} {sums.failed > 0 && <span class="bad-text">{sums.failed} failed</span>}
          </dd>
        </div>
        <div>
          <dt>Model calls</dt>
          <dd class="num">
            {sums.calls.size} <span class="dim">{nusd(sums.llmNusd)}</span>
          </dd>
        </div>
        <div>
          <dt>Files touched</dt>
          <dd class="num">{sums.files.size}</dd>
        </div>
      </dl>
      {sums.lost > 0 && <p class="note warn">{plural(sums.lost, "event")} could not be recorded up to here; the gaps say why.</p>}
      <section class="sub-card">
        <header class="row">
          <h3 class="grow">Terminal</h3>
          {feed.terminals.size > 1 && (
            <select aria-label="Which terminal" value={exec ?? ""} onChange={(e) => setExec(e.currentTarget.value || null)}>
              <option value="">the last that showed something</option>
              {[...feed.terminals.keys()].map((id, i) => (
                <option key={id} value={id}>
                  terminal {i + 1}
                </option>
              ))}
            </select>
          )}
        </header>
        {chosen ? <Screen key={chosen} feed={feed} ms={ms} exec={chosen} /> : <p class="dim pad small">No terminal had shown anything by then.</p>}
      </section>
      {running.length > 0 && (
        <section class="sub-card">
          <header>
            <h3>Running then</h3>
          </header>
          <ul class="plain-list">
            {running.map((r) => (
              <li key={r.id}>
                <code class="grow cut">$ {visible(r.text)}</code> <span class="dim small num">{clock(ms - r.startMs)}</span>
              </li>
            ))}
          </ul>
        </section>
      )}
      {call && (
        <section class="sub-card">
          <header class="row">
            <h3 class="grow">{call.endMs === null ? "Model call under way" : "Last model call"}</h3>
            <span class="dim small">
              {visible(call.model || call.api)}, {clock(call.startMs)}
              {call.nusd !== null && `, ${nusd(call.nusd)}`}
            </span>
            <button type="button" class="btn quiet small" aria-expanded={talk} onClick={() => setTalk(!talk)}>
              {talk ? "Hide" : "Read it"}
            </button>
          </header>
          {talk && (
            <div class="pad">
              <Conversation key={`${call.call}${call.endMs}`} sandbox={feed.id} call={call} />
            </div>
          )}
        </section>
      )}
      {connected.length > 0 && (
        <section class="sub-card">
          <header>
            <h3>Connected to</h3>
          </header>
          <ul class="plain-list">
            {connected.map((c) => (
              <li key={c.key}>
                <span class="grow cut">
                  {visible(c.host)}
                  <span class="dim num">:{c.port}</span>
                </span>
                <span class="dim small num">{plural(c.open, "connection")}</span>
              </li>
            ))}
          </ul>
        </section>
      )}
      <section class="sub-card">
        <header>
          <h3>Files touched</h3>
        </header>
        {files.length ? <Files files={files} ms={ms} sums={sums} id={feed.id} /> : <Empty icon="file" title="None yet" />}
      </section>
    </div>
  );
}
