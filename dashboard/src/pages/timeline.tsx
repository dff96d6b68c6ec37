// The timeline of a sandbox: every event on one clock, live or replayed, and the sandbox as it was.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { at, headline, kind, kinds, landmark, type Kind } from "../lib/events";
import { lineAt, lineOf } from "../lib/feed";
import { forkFrom, forkOf } from "../lib/fork";
import { clock, count, local, plural, utc, visible } from "../lib/format";
import { Past } from "../lib/past";
import { SandboxRecord, typesOf, type Rows } from "../lib/record";
import { place, setParams } from "../lib/router";
import { useStore } from "../lib/store";
import type { Line, Sandbox } from "../lib/types";
import { Icon } from "../ui/icons";
import { Button, copyText, Empty, Failure, Loading, toast } from "../ui/parts";
import { colourOf, Scrubber } from "../ui/scrubber";
import { VirtualList } from "../ui/virtual";
import { EventDetail } from "./event-detail";
import { ChangesThen, FilesThen, Moment } from "./moment";

const ROW = 28;
const SPEEDS = [0.5, 1, 2, 4, 8, 16];
const IDLE_MS = 1500;
const jumps: Partial<Record<Kind, string>> = { command: "command", file: "file change", llm: "model call", trust: "deduction" };
const jumpKeys: Record<string, Kind> = { C: "command", F: "file", M: "llm", D: "trust" };
const QUIET: Kind[] = ["terminal", "process", "ledger"];

function Row({ line, current, past, choose }: { line: Line; current: boolean; past: boolean; choose: () => void }) {
  const h = headline(line);
  const k = kind(line);
  return (
    <button type="button" class={`event ${current ? "on" : ""} ${past ? "" : "future"} tone-${h.tone}`} onClick={choose} tabIndex={-1}>
      <span class="when num">{clock(at(line))}</span>
      <span class="mark" style={{ background: colourOf(k) }} title={line.type} />
      <span class="what cut">{h.text}</span>
      {h.more && <span class="more cut">{h.more}</span>}
    </button>
  );
}

function Controls(p: {
  playing: boolean;
  live: boolean;
  ended: boolean;
  speed: number;
  skipIdle: boolean;
  nowMs: number;
  endMs: number;
  toggle: () => void;
  setSpeed: (n: number) => void;
  setSkip: (on: boolean) => void;
  toEnd: () => void;
  jump: (what: Kind) => void;
  fork: () => void;
}) {
  return (
    <div class="controls">
      <Button kind="primary" class="icon-only" icon={p.playing ? "pause" : "play"} aria-label={p.playing ? "Stop" : "Play"} onClick={p.toggle} />
      <span class="num clock">
        {clock(p.nowMs)} <span class="dim">/ {clock(p.endMs)}</span>
      </span>
      <label class="row small">
        <span class="sr">Speed</span>
        <select class="tight" value={String(p.speed)} onChange={(e) => p.setSpeed(Number(e.currentTarget.value))}>
          {SPEEDS.map((s) => (
            <option key={s} value={String(s)}>
              {s}×
            </option>
          ))}
        </select>
      </label>
      <label class="check small">
        <input type="checkbox" checked={p.skipIdle} onChange={(e) => p.setSkip(e.currentTarget.checked)} /> Skip idle
      </label>
      <span class="grow" />
      <span class="dim small">Next</span>
      {(["command", "file", "llm", "trust"] as Kind[]).map((k) => (
        <Button key={k} kind="quiet" class="small" onClick={() => p.jump(k)}>
          {jumps[k]}
        </Button>
      ))}
      <Button kind="quiet" class="icon-only" icon="link" aria-label="Copy a link to this moment" title="Copy a link to this moment" onClick={() => void copyText(`${location.origin}${location.pathname}?t=${(p.nowMs / 1000).toFixed(1)}`)} />
      <Button kind="quiet" class="icon-only" icon="fork" aria-label="Fork from here" title="Fork from here" onClick={p.fork} />
      <Button class="small" aria-pressed={p.live} onClick={p.toEnd}>
        {p.ended ? "To the end" : "Follow live"}
      </Button>
    </div>
  );
}

/** A part of the record: what belongs to one session. */
export interface Scope {
  session: string;
  title: string;
}

const JUMP_PAGE = 500;
const JUMP_PAGES_MAX = 40;
const FIND_MS = 250;

/** The last row that is not later than a moment: asked of the server when it jumps, found row by row when it moves. */
function useFocus(rows: Rows, ms: number | null, version: number): [number, (row: number) => void] {
  const [focus, setFocus] = useState(-1);
  const exact = useRef(false); // the row was chosen, and the moment is its own
  const asking = useRef<AbortController | null>(null);
  const known = useRef<{ rows: Rows; row: number } | null>(null);
  useEffect(() => {
    if (ms === null) return;
    if (exact.current && known.current?.rows === rows) {
      exact.current = false;
      return;
    }
    const k = known.current;
    if (k && k.rows === rows) {
      // forward over what is loaded
      let row = k.row;
      const here = row < 0 ? undefined : rows.get(row);
      if (row < 0 || (here && at(here) <= ms)) {
        for (let next = rows.get(row + 1); next && at(next) <= ms; next = rows.get(row + 1)) row++;
        if (row + 1 >= rows.total || rows.get(row + 1)) {
          k.row = row;
          setFocus(row);
          return;
        }
      }
    }
    asking.current?.abort();
    const stop = (asking.current = new AbortController());
    const timer = setTimeout(() => {
      rows.rowAt(ms, stop.signal).then(
        (row) => {
          if (stop.signal.aborted) return;
          known.current = { rows, row };
          setFocus(row);
        },
        () => undefined, // the next move asks again
      );
    }, 30);
    return () => clearTimeout(timer);
  }, [rows, ms, ms === null ? 0 : version]);
  const put = (row: number) => {
    asking.current?.abort();
    exact.current = true;
    known.current = { rows, row };
    setFocus(row);
  };
  return [ms === null ? rows.total - 1 : Math.min(focus, rows.total - 1), put];
}

type View = "moment" | "files" | "changes" | "event";
const views: [View, string][] = [
  ["moment", "The sandbox then"],
  ["files", "Files then"],
  ["changes", "Changes"],
  ["event", "The event"],
];

export function TimelinePanel({ s, scope }: { s: Sandbox; scope?: Scope }) {
  const [scoped, setScoped] = useState(true);
  const session = scope && scoped ? scope.session : null;
  const alive = s.status === "running" || s.status === "pending";
  const record = useMemo(() => new SandboxRecord(s.id, session, s.status === "destroyed"), [s.id, session]);
  const past = useMemo(() => new Past(s.id), [s.id]);
  useEffect(() => {
    void record.open();
    return () => record.close();
  }, [record]);
  useEffect(() => () => past.close(), [past]);
  useEffect(() => record.onLine((l) => past.add(l)), [record, past]);
  const version = useStore(record.version);
  const state = useStore(record.state);
  const overview = useStore(record.overview);
  const error = useStore(record.error);
  const params = useStore(place).params;
  const asked = params.get("t");
  // null: at the end, and with it
  const [now, setNow] = useState<number | null>(asked !== null && !Number.isNaN(Number(asked)) ? Number(asked) * 1000 : null);
  const [show, setShow] = useState<Set<Kind>>(() => new Set(kinds.map((k) => k.kind).filter((k) => !QUIET.includes(k))));
  const [typed, setTyped] = useState("");
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState<Line | null>(null);
  const [playing, setPlaying] = useState(false);
  const [speed, setSpeed] = useState(1);
  const [skipIdle, setSkip] = useState(true);
  const [view, setView] = useState<View>("moment");

  useEffect(() => {
    const t = setTimeout(() => setText(typed.trim()), FIND_MS);
    return () => clearTimeout(t);
  }, [typed]);
  const [tick, setTick] = useState(0);
  useEffect(() => {
    if (!alive) return;
    const t = setInterval(() => setTick((n) => n + 1), 1000);
    return () => clearInterval(t);
  }, [alive]);
  void tick;
  const endMs = Math.max(record.endMs, alive && record.epoch ? Date.now() - record.epoch : 0);
  const nowMs = now ?? endMs;

  const rows = useMemo(() => record.choose(show, text), [record, show, text, overview === null]);
  const [focus, putFocus] = useFocus(rows, now, version);
  useEffect(() => past.go(now), [past, now]);

  const latest = useRef({ nowMs, endMs, rows, focus });
  latest.current = { nowMs, endMs, rows, focus };
  useEffect(() => {
    if (!playing) return;
    let frame = 0;
    let before = performance.now();
    const step = (stamp: number) => {
      const dt = stamp - before;
      before = stamp;
      const l = latest.current;
      let next = l.nowMs + dt * speed;
      if (skipIdle) {
        const line = l.rows.get(l.focus + 1);
        const ahead = line ? at(line) : l.focus + 1 >= l.rows.total ? l.endMs : 0;
        if (ahead - next > IDLE_MS) next = ahead - 200;
      }
      if (next >= l.endMs) {
        setNow(null);
        setPlaying(false);
        return;
      }
      latest.current.nowMs = next;
      setNow(next);
      frame = requestAnimationFrame(step);
    };
    frame = requestAnimationFrame(step);
    return () => cancelAnimationFrame(frame);
  }, [playing, speed, skipIdle]);

  const seek = (ms: number) => {
    setNow(ms);
    setChosen(null);
    if (view === "event") setView("moment");
  };
  const choose = (line: Line, row?: number) => {
    answered.current = line.seq;
    if (row !== undefined) putFocus(row);
    setChosen(line);
    setNow(at(line));
    setPlaying(false);
    setView("event");
  };
  const toggle = () => {
    if (!playing && now === null) setNow(0);
    setPlaying(!playing);
  };
  const jump = async (k: Kind) => {
    try {
      let after = chosen && at(chosen) === nowMs ? chosen.seq : 0;
      const from = ((nowMs + (after ? 0 : 0.001)) / 1000).toFixed(9);
      for (let pages = 0; pages < JUMP_PAGES_MAX; pages++) {
        const page = await record.page({ type: typesOf[k].join(","), from, after_seq: after, limit: JUMP_PAGE });
        const found = page.events.map((e) => lineOf(s.id, e)).find((l) => landmark(l, k));
        if (found) {
          if (!show.has(k)) setShow(new Set([...show, k]));
          return choose(found);
        }
        if (!page.has_more) break;
        after = page.next_seq;
      }
      toast(`There is no later ${jumps[k] ?? k}`);
    } catch (e) {
      toast((e as Error).message, "bad");
    }
  };
  const stepBy = (by: number) => {
    const row = Math.min(rows.total - 1, Math.max(0, focus + by));
    const line = rows.get(row);
    if (line) choose(line, row);
  };

  // a link to one event
  const askedSeq = Number(params.get("seq") ?? 0);
  const answered = useRef(0);
  useEffect(() => {
    if (!askedSeq || answered.current === askedSeq) return;
    const stop = new AbortController();
    void lineAt(s.id, askedSeq, stop.signal).then(
      (line) => {
        if (!line || answered.current === askedSeq) return;
        const k = kind(line);
        if (!show.has(k)) setShow(new Set([...show, k]));
        choose(line);
      },
      () => undefined,
    );
    return () => stop.abort();
  }, [askedSeq]);

  useEffect(() => {
    if (playing || now === null) return;
    const t = setTimeout(() => setParams({ t: (now / 1000).toFixed(1), seq: chosen === null ? null : String(chosen.seq) }), 400);
    return () => clearTimeout(t);
  }, [now, playing, chosen]);
  useEffect(() => {
    if (now === null && params.has("t") && overview) setParams({ t: null, seq: null });
  }, [now]);

  const keys = useRef<(e: KeyboardEvent) => void>(() => undefined);
  keys.current = (e) => {
    const el = e.target as HTMLElement;
    if (e.ctrlKey || e.metaKey || e.altKey || el.closest("input, select, textarea, dialog, .xterm")) return;
    if (e.key === " " && !el.closest("button, a, summary")) toggle();
    else if (e.key === "ArrowLeft") seek(Math.max(0, nowMs - 5000));
    else if (e.key === "ArrowRight") seek(Math.min(endMs, nowMs + 5000));
    else if (e.key === "j") stepBy(1);
    else if (e.key === "k") stepBy(-1);
    else if (e.key in jumpKeys) void jump(jumpKeys[e.key]!);
    else return;
    e.preventDefault();
  };
  useEffect(() => {
    const press = (e: KeyboardEvent) => keys.current(e);
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);

  if (!overview) return error ? <Failure error={error} retry={() => void record.open()} /> : <Loading what="the record" />;
  const all = kinds.reduce((n, k) => n + record.counts[k.kind], 0);
  if (all === 0) return alive ? <Loading what="the record" /> : <Empty icon="list" title="Its record is empty" />;
  return (
    <div class="timeline">
      <div class="card track">
        <Scrubber overview={overview} endMs={endMs} nowMs={nowMs} shownKinds={show} seek={seek} />
        <Controls
          playing={playing}
          live={now === null}
          ended={!alive}
          speed={speed}
          skipIdle={skipIdle}
          nowMs={nowMs}
          endMs={endMs}
          toggle={toggle}
          setSpeed={setSpeed}
          setSkip={setSkip}
          toEnd={() => {
            setPlaying(false);
            setChosen(null);
            setNow(null);
            setView("moment");
          }}
          jump={(k) => void jump(k)}
          fork={() => void (now === null && (s.status === "running" || s.status === "paused") ? forkOf(s) : forkFrom(s, record.epoch + nowMs))}
        />
      </div>
      <div class="halves">
        <div class="card events">
          <div class="filters">
            {scope && (
              <label class="check small">
                <input type="checkbox" checked={scoped} onChange={(e) => setScoped(e.currentTarget.checked)} /> Only what belongs to {visible(scope.title)}
              </label>
            )}
            <div class="chips" role="group" aria-label="Kinds of events">
              {kinds.map((k) => (
                <button
                  key={k.kind}
                  type="button"
                  class="kind"
                  aria-pressed={show.has(k.kind)}
                  onClick={(e) => {
                    const next = new Set(e.shiftKey ? [] : show);
                    if (show.has(k.kind) && !e.shiftKey) next.delete(k.kind);
                    else next.add(k.kind);
                    setShow(next);
                  }}
                >
                  <i style={{ background: colourOf(k.kind) }} />
                  {k.title} <span class="dim num">{count(record.counts[k.kind])}</span>
                </button>
              ))}
            </div>
            <label class="search">
              <Icon name="search" />
              <input type="search" aria-label="Find in events" placeholder="Find a command, path, host, output…" value={typed} onInput={(e) => setTyped(e.currentTarget.value)} />
            </label>
          </div>
          {rows.total === 0 && !rows.open ? (
            <Empty icon="search" title="No event is left by this choice" />
          ) : (
            <VirtualList
              count={rows.total}
              rowHeight={ROW}
              label="Events"
              focus={focus}
              follow={now === null}
              onScrollAway={() => {
                putFocus(rows.total - 1); // what is in sight stays there
                setNow(endMs);
              }}
              row={(i) => {
                const line = rows.get(i);
                if (!line) return <div key={i} class="event waiting" />;
                return <Row key={i} line={line} current={chosen ? line.seq === chosen.seq : now !== null && i === focus} past={at(line) <= nowMs} choose={() => choose(line, i)} />;
              }}
            />
          )}
          <footer class="dim small">
            {text ? `${plural(rows.total, "event")} found${rows.open ? " so far" : ""}` : `${plural(rows.total, "event")} of ${count(all)}`}
            {state === "down" && " · reconnecting…"}
          </footer>
        </div>
        <div class="card detail">
          <div class="segments" role="group" aria-label="What is shown">
            {views.map(([v, title]) => (
              <button key={v} type="button" aria-pressed={view === v} disabled={v === "event" && !chosen} onClick={() => setView(v)}>
                {title}
              </button>
            ))}
          </div>
          {view === "event" && chosen ? (
            <EventDetail sandbox={s.id} line={chosen} when={<time title={utc(chosen.ts)}>{visible(local(chosen.ts))}</time>} />
          ) : view === "files" ? (
            <FilesThen past={past} />
          ) : view === "changes" ? (
            <ChangesThen past={past} />
          ) : (
            <Moment past={past} ms={nowMs} budget={s.budget} />
          )}
        </div>
      </div>
    </div>
  );
}
