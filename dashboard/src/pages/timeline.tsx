// The timeline of a sandbox: every event on one clock, live or replayed, and the sandbox as it was.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { after, at, headline, indexOfSeq, kind, kinds, landmark, type Kind } from "../lib/events";
import { forkFrom, forkOf } from "../lib/fork";
import { feedOf, lineHas, type Feed } from "../lib/feed";
import { clock, count, local, plural, utc, visible } from "../lib/format";
import { place, setParams } from "../lib/router";
import { useStore } from "../lib/store";
import type { Line, Sandbox } from "../lib/types";
import { Icon } from "../ui/icons";
import { Button, copyText, Empty, Loading, toast } from "../ui/parts";
import { colourOf, Scrubber } from "../ui/scrubber";
import { VirtualList } from "../ui/virtual";
import { EventDetail } from "./event-detail";
import { Moment } from "./moment";

const ROW = 28;
const SPEEDS = [0.5, 1, 2, 4, 8, 16];
const IDLE_MS = 1500;
const jumps: Partial<Record<Kind, string>> = { command: "command", file: "file change", llm: "model call", trust: "deduction" };
const jumpKeys: Record<string, Kind> = { C: "command", F: "file", M: "llm", D: "trust" };
const QUIET: Kind[] = ["terminal", "process", "ledger"];

/** Indices of the lines that a choice of kinds and words leaves; grows with the feed. */
class Filtered {
  at: number[] = [];
  private upto = 0;
  constructor(
    private feed: Feed,
    private show: Set<Kind>,
    private needles: string[],
    private session: string | null,
  ) {}
  grow(): number[] {
    const lines = this.feed.lines;
    for (; this.upto < lines.length; this.upto++) {
      const l = lines[this.upto]!;
      if (this.show.has(kind(l)) && (this.session === null || l.session === this.session) && (this.needles.length === 0 || lineHas(l, this.needles))) this.at.push(this.upto);
    }
    return this.at;
  }
}

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

export function TimelinePanel({ s, scope }: { s: Sandbox; scope?: Scope }) {
  const feed = useMemo(() => feedOf(s.id), [s.id]);
  useEffect(() => feed.open(), [feed]);
  const version = useStore(feed.version);
  const state = useStore(feed.state);
  const params = useStore(place).params;
  const asked = params.get("t");
  // null: at the end, and with it
  const [now, setNow] = useState<number | null>(asked !== null && !Number.isNaN(Number(asked)) ? Number(asked) * 1000 : null);
  const [show, setShow] = useState<Set<Kind>>(() => new Set(kinds.map((k) => k.kind).filter((k) => !QUIET.includes(k))));
  const [text, setText] = useState("");
  const [scoped, setScoped] = useState(true);
  const session = scope && scoped ? scope.session : null;
  const [chosen, setChosen] = useState<number | null>(null);
  const [playing, setPlaying] = useState(false);
  const [speed, setSpeed] = useState(1);
  const [skipIdle, setSkip] = useState(true);
  const [view, setView] = useState<"moment" | "event">("moment");

  const last = feed.lines[feed.lines.length - 1];
  const [tick, setTick] = useState(0);
  const alive = s.status === "running" || s.status === "pending";
  useEffect(() => {
    if (!alive) return;
    const t = setInterval(() => setTick((n) => n + 1), 1000);
    return () => clearInterval(t);
  }, [alive]);
  void tick;
  const endMs = Math.max(last ? at(last) : 0, alive && feed.epoch ? Date.now() - feed.epoch : 0);
  const nowMs = now ?? endMs;

  const filter = useMemo(() => new Filtered(feed, show, text.toLowerCase().split(/\s+/).filter(Boolean), session), [feed, show, text, session]);
  const list = useMemo(() => filter.grow(), [filter, version]);
  const rows = filter.at;
  void list;
  const focus = now === null ? rows.length - 1 : Math.max(0, afterIn(feed, rows, nowMs) - 1);

  const latest = useRef({ nowMs, endMs, rows });
  latest.current = { nowMs, endMs, rows };
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
        const i = l.rows[afterIn(feed, l.rows, l.nowMs)];
        const ahead = i === undefined ? l.endMs : at(feed.lines[i]!);
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
    setView("moment");
  };
  const choose = (i: number) => {
    answered.current = feed.lines[i]!.seq;
    setChosen(i);
    setNow(at(feed.lines[i]!));
    setPlaying(false);
    setView("event");
  };
  const toggle = () => {
    if (!playing && now === null) setNow(0);
    setPlaying(!playing);
  };
  const jump = (k: Kind) => {
    for (let i = after(feed.lines, nowMs); i < feed.lines.length; i++) if (landmark(feed.lines[i]!, k)) return choose(i);
    toast(`There is no later ${jumps[k] ?? k}`);
  };
  const stepBy = (by: number) => {
    const i = rows[Math.min(rows.length - 1, Math.max(0, focus + by))];
    if (i !== undefined) choose(i);
  };

  // a link to one event: chosen as soon as it is there
  const askedSeq = Number(params.get("seq") ?? 0);
  const answered = useRef(0);
  useEffect(() => {
    if (!askedSeq || answered.current === askedSeq) return;
    const i = indexOfSeq(feed.lines, askedSeq);
    if (i < 0) return;
    answered.current = askedSeq;
    const k = kind(feed.lines[i]!);
    if (!show.has(k)) setShow(new Set([...show, k]));
    choose(i);
  }, [version, askedSeq]);

  useEffect(() => {
    if (playing || now === null) return;
    const t = setTimeout(() => setParams({ t: (now / 1000).toFixed(1), seq: chosen === null ? null : String(feed.lines[chosen]!.seq) }), 400);
    return () => clearTimeout(t);
  }, [now, playing, chosen]);
  useEffect(() => {
    if (now === null && params.has("t") && feed.lines.length) setParams({ t: null, seq: null });
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
    else if (e.key in jumpKeys) jump(jumpKeys[e.key]!);
    else return;
    e.preventDefault();
  };
  useEffect(() => {
    const press = (e: KeyboardEvent) => keys.current(e);
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);

  if (!last) return state === "connecting" || alive ? <Loading what="the record" /> : <Empty icon="list" title="Its record is empty" />;
  const line = chosen !== null ? feed.lines[chosen] : undefined;
  return (
    <div class="timeline">
      <div class="card track">
        <Scrubber lines={feed.lines} version={version} endMs={endMs} nowMs={nowMs} shownKinds={show} seek={seek} />
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
          }}
          jump={jump}
          fork={() => void (now === null && (s.status === "running" || s.status === "paused") ? forkOf(s) : forkFrom(s, feed.epoch + nowMs))}
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
                  {k.title} <span class="dim num">{count(feed.counts[k.kind])}</span>
                </button>
              ))}
            </div>
            <label class="search">
              <Icon name="search" />
              <input type="search" aria-label="Find in events" placeholder="Find in events…" value={text} onInput={(e) => setText(e.currentTarget.value)} />
            </label>
          </div>
          {rows.length === 0 ? (
            <Empty icon="search" title="No event is left by this choice" />
          ) : (
            <VirtualList
              count={rows.length}
              rowHeight={ROW}
              label="Events"
              focus={focus}
              follow={now === null}
              onScrollAway={() => setNow(endMs)}
              row={(i) => {
                const index = rows[i]!;
                return <Row key={index} line={feed.lines[index]!} current={index === chosen || (chosen === null && now !== null && i === focus)} past={at(feed.lines[index]!) <= nowMs} choose={() => choose(index)} />;
              }}
            />
          )}
          <footer class="dim small">
            {plural(rows.length, "event")} of {count(feed.lines.length)}
            {feed.dropped > 0 && `; ${count(feed.dropped)} more are not loaded`}
            {state === "down" && " · reconnecting…"}
          </footer>
        </div>
        <div class="card detail">
          <div class="segments" role="group" aria-label="What is shown">
            <button type="button" aria-pressed={view === "moment"} onClick={() => setView("moment")}>
              The sandbox then
            </button>
            <button type="button" aria-pressed={view === "event"} disabled={!line} onClick={() => setView("event")}>
              The event
            </button>
          </div>
          {view === "event" && line ? <EventDetail feed={feed} line={line} when={<time title={utc(line.ts)}>{visible(local(line.ts))}</time>} /> : <Moment feed={feed} ms={nowMs} budget={s.budget} />}
        </div>
      </div>
    </div>
  );
}

/** How many of the rows are not later than ms. */
function afterIn(feed: Feed, rows: number[], ms: number): number {
  let lo = 0;
  let hi = rows.length;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (at(feed.lines[rows[mid]!]!) <= ms) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}
