// A sandbox as it was at a moment: its terminal's screen, what ran, what had been touched and spent.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Terminal } from "@xterm/xterm";
import { get, getText } from "../lib/api";
import { parseDiff } from "../lib/diff";
import { bytes, clock, count, nusd, plural, visible } from "../lib/format";
import { screenLines, type Past } from "../lib/past";
import { useStore } from "../lib/store";
import { type Sums, type Call, type FileTouched, type Version } from "../lib/sums";
import { newTerminal, openTerminal, termTheme } from "../lib/terminals";
import { shown } from "../lib/theme";
import { useLoad } from "../lib/use";
import { Icon } from "../ui/icons";
import { BudgetBar, Button, Dialog, Empty, Failure, Loading, TrustBadge } from "../ui/parts";
import { DiffView } from "./changes";
import { Conversation } from "./conversation";
import { FileThen } from "./file-then";

const TEXT_LINES_MAX = 4000;
const DIFFS_MAX = 40;
const ROW_PX = 15;
const SCREEN_PAD_PX = 16;
const FILES_SHOWN = 8;
const FOLDERS_SHOWN = 5;
const FILES_MAX = 500;
const FRESH_MS = 3000;

/** The terminal that showed something last. */
function lastTerminal(past: Past): string | null {
  let best: string | null = null;
  let when = 0;
  for (const [id, t] of past.terminals) {
    const seq = t.lines[t.lines.length - 1]?.seq ?? 0;
    if (seq > when) {
      when = seq;
      best = id;
    }
  }
  return best;
}

function Screen({ past, exec }: { past: Past; exec: string }) {
  const box = useRef<HTMLDivElement>(null);
  const term = useRef<Terminal | null>(null);
  const written = useRef(0); // up to which line
  const info = past.terminals.get(exec)!;

  useLayoutEffect(() => {
    const t = newTerminal({ readOnly: true, rows: info.rows || 24, cols: info.cols || 80, scrollback: 2000 });
    term.current = t;
    openTerminal(t, box.current!);
    t.textarea?.setAttribute("tabindex", "-1");
    written.current = 0;
    const off = shown.watch(() => (t.options.theme = termTheme()));
    return () => {
      off();
      t.dispose();
      term.current = null;
    };
  }, [exec]);

  useEffect(() => {
    const t = term.current!;
    const lines = info.lines;
    const first = lines[0]?.seq ?? 0;
    const last = lines[lines.length - 1]?.seq ?? 0;
    let from = lines.findIndex((l) => l.seq > written.current);
    if (last < written.current || first > written.current || written.current === 0) {
      t.reset();
      t.resize(info.cols || 80, info.rows || 24);
      from = lines.length - screenLines(info).length;
    }
    for (const line of from < 0 ? [] : lines.slice(from)) {
      const d = line.data;
      if (d["dir"] === "out") {
        if (typeof d["text"] === "string") t.write(d["text"]);
        else if (typeof d["base64"] === "string") t.write(Uint8Array.from(atob(d["base64"]), (c) => c.charCodeAt(0)));
      } else if (d["dir"] === "resize") {
        const rows = Number(d["rows"]);
        const cols = Number(d["cols"]);
        if (rows > 1 && cols > 1 && rows <= 500 && cols <= 1000) t.resize(cols, rows);
      }
    }
    written.current = last;
  });
  // its place is kept while the first picture is drawn
  return <div class="screen" ref={box} style={{ minHeight: `${(info.rows || 24) * ROW_PX + SCREEN_PAD_PX}px` }} role="group" aria-label="The terminal's screen at this moment" />;
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

export function Moment({ past, ms, budget }: { past: Past; ms: number; budget?: number }) {
  const version = useStore(past.version);
  const error = useStore(past.error);
  const [exec, setExec] = useState<string | null>(null);
  const [talk, setTalk] = useState(false);
  const sums = past.sums;
  const chosen = exec && past.terminals.has(exec) ? exec : lastTerminal(past);
  const running = [...sums.running.values()].slice(-6);
  const files = useMemo(() => [...sums.files.values()], [version]);
  const call = callAt(sums);
  const connected = [...sums.connections.values()].filter((c) => c.open > 0).slice(-8);
  if (error) return <Failure error={error} retry={() => past.go(ms)} />;
  if (!past.built) return <Loading what="the moment" />;
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
            {count(sums.commands)} {sums.failed > 0 && <span class="bad-text">{sums.failed} failed</span>}
          </dd>
        </div>
        <div>
          <dt>Model calls</dt>
          <dd class="num">
            {count(sums.called)} <span class="dim">{nusd(sums.llmNusd)}</span>
          </dd>
        </div>
        <div>
          <dt>File events</dt>
          <dd class="num">{count(sums.fileEvents)}</dd>
        </div>
      </dl>
      {sums.lost > 0 && <p class="note warn">{plural(sums.lost, "event")} could not be recorded up to here; the gaps say why.</p>}
      <section class="sub-card">
        <header class="row">
          <h3 class="grow">Terminal</h3>
          {past.terminals.size > 1 && (
            <select aria-label="Which terminal" value={exec ?? ""} onChange={(e) => setExec(e.currentTarget.value || null)}>
              <option value="">the last that showed something</option>
              {[...past.terminals.keys()].map((id, i) => (
                <option key={id} value={id}>
                  terminal {i + 1}
                </option>
              ))}
            </select>
          )}
        </header>
        {chosen ? <Screen key={chosen} past={past} exec={chosen} /> : <p class="dim pad small">No terminal had shown anything by then.</p>}
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
              <Conversation key={`${call.call}${call.endMs}`} sandbox={past.id} call={call} />
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
          <h3>Files touched last</h3>
        </header>
        {files.length ? <Files files={files} ms={ms} sums={sums} id={past.id} /> : <Empty icon="file" title="None yet" />}
      </section>
    </div>
  );
}

const SETTLE_MS = 300;

/** The number that a past stands at, once it stands still. */
function useSettledSeq(past: Past): number {
  const version = useStore(past.version);
  const [seq, setSeq] = useState(past.seq);
  useEffect(() => {
    const t = setTimeout(() => setSeq(past.seq), SETTLE_MS);
    return () => clearTimeout(t);
  }, [version]);
  return seq;
}

interface EntryThen {
  name: string;
  path: string;
  type: "file" | "directory";
  size: number;
  kept?: boolean;
  skipped?: string;
}

function Folder({ id, path, seq, open }: { id: string; path: string; seq: number; open: (path: string) => void }) {
  const [unfolded, setUnfolded] = useState<Set<string>>(new Set());
  const [last, setLast] = useState<EntryThen[] | null>(null);
  const loaded = useLoad((signal) => get<EntryThen[]>(`/v1/sandboxes/${id}/files`, { path, at_seq: seq }, signal), [id, path, seq]);
  useEffect(() => {
    if (loaded.data) setLast(loaded.data);
  }, [loaded.data]);
  const list = loaded.data ?? last; // the tree stays while the next moment's is read
  if (loaded.error) return <Failure error={loaded.error} retry={loaded.reload} />;
  if (!list) return <Loading what="files" />;
  if (list.length === 0) return <p class="dim small pad">Nothing in it that the record knows of.</p>;
  return (
    <ul>
      {[...list]
        .sort((a, b) => (a.type === b.type ? (a.name < b.name ? -1 : 1) : a.type === "directory" ? -1 : 1))
        .map((e) => (
          <li key={e.name}>
            <button
              type="button"
              class="node"
              aria-expanded={e.type === "directory" ? unfolded.has(e.name) : undefined}
              onClick={() => {
                if (e.type === "file") return open(e.path);
                const next = new Set(unfolded);
                if (!next.delete(e.name)) next.add(e.name);
                setUnfolded(next);
              }}
            >
              <Icon name={e.type === "directory" ? (unfolded.has(e.name) ? "down" : "right") : "file"} />
              <code class="grow cut">{visible(e.name)}</code>
              {e.type === "file" && <span class="dim small num">{e.kept ? bytes(e.size) : e.skipped ? visible(e.skipped) : "not kept"}</span>}
            </button>
            {unfolded.has(e.name) && <Folder id={id} path={e.path} seq={seq} open={open} />}
          </li>
        ))}
    </ul>
  );
}

function TextThen({ id, path, seq, close }: { id: string; path: string; seq: number; close: () => void }) {
  const loaded = useLoad((signal) => getText(`/v1/sandboxes/${id}/files/content`, { path, at_seq: seq }, signal), [path, seq]);
  return (
    <Dialog wide title={visible(path)} onClose={close}>
      {loaded.error ? (
        <Empty icon="file" title="Its text was not kept">
          <p>{visible(loaded.error.message)}</p>
        </Empty>
      ) : loaded.data === null ? (
        <Loading what="the file" />
      ) : (
        <pre class="value whole" tabIndex={0}>
          {loaded.data.split("\n").slice(0, TEXT_LINES_MAX).map(visible).join("\n")}
        </pre>
      )}
    </Dialog>
  );
}

/** The tree of /workspace at the moment, as far as the record saw it come about. */
export function FilesThen({ past }: { past: Past }) {
  const seq = useSettledSeq(past);
  const [open, setOpen] = useState<string | null>(null);
  if (!past.built) return <Loading what="the moment" />;
  return (
    <div class="tree-then">
      <p class="dim small">/workspace as the record saw it come about, {clock(past.ms)} after the beginning. What was there before its first line is not in it.</p>
      <Folder id={past.id} path="/workspace" seq={seq} open={setOpen} />
      {open && <TextThen id={past.id} path={open} seq={seq} close={() => setOpen(null)} />}
    </div>
  );
}

interface DiffThen {
  diff: string;
  files: { path: string; kept: boolean }[];
  truncated?: boolean;
}

/** What had changed by the moment, since the record began or since another moment. */
export function ChangesThen({ past }: { past: Past }) {
  const seq = useSettledSeq(past);
  const [base, setBase] = useState<{ seq: number; ms: number } | null>(null);
  const from = Math.min(base?.seq ?? 0, seq);
  const to = Math.max(base?.seq ?? 0, seq);
  const loaded = useLoad((signal) => get<DiffThen>(`/v1/sandboxes/${past.id}/git/diff`, { from_seq: from, to_seq: to }, signal), [from, to]);
  if (!past.built) return <Loading what="the moment" />;
  // git's own files change with every command of it, and their contents are not kept
  const files = loaded.data ? parseDiff(loaded.data.diff).filter((f) => !f.path.startsWith(".git/")) : [];
  return (
    <div class="stack">
      <div class="row wrap-row">
        <span class="grow dim small">{base ? `Between ${clock(Math.min(base.ms, past.ms))} and ${clock(Math.max(base.ms, past.ms))}` : `From the beginning to ${clock(past.ms)}`}</span>
        {base && (
          <Button class="small" onClick={() => setBase(null)}>
            Since the beginning
          </Button>
        )}
        <Button class="small" onClick={() => setBase({ seq, ms: past.ms })}>
          Compare others with this moment
        </Button>
      </div>
      {loaded.error ? (
        <Failure error={loaded.error} retry={loaded.reload} />
      ) : !loaded.data ? (
        <Loading what="differences" />
      ) : files.length === 0 ? (
        <Empty icon="diff" title="No file that the record keeps differs" />
      ) : (
        files.slice(0, DIFFS_MAX).map((f) => <DiffView key={f.path} file={f} />)
      )}
      {files.length > DIFFS_MAX && <p class="dim small">{plural(files.length - DIFFS_MAX, "more file")}</p>}
      {loaded.data?.truncated && <p class="note warn">The differences are larger than what is sent at once: the end is missing here.</p>}
    </div>
  );
}
