// Terminals of sandboxes. They live beside the pages, so that going to another page and back loses
// neither the shell nor what it has shown; and shells outlive the page and the server's restarts. A chunk of its own: xterm is only fetched here.
import "@xterm/xterm/css/xterm.css";
import { FitAddon } from "@xterm/addon-fit";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { Terminal, type ITheme } from "@xterm/xterm";
import { ApiError, get, socket } from "./api";
import { Pump } from "./pump";
import { ownSheets } from "./sheets";
import { stream } from "./sse";
import { Store } from "./store";
import { shown } from "./theme";
import type { Line, WardenStatus } from "./types";

const light: ITheme = {
  background: "#fbfbfa", foreground: "#1d2227", cursor: "#0b6e66", cursorAccent: "#ffffff", selectionBackground: "#0b6e6633",
  black: "#1d2227", red: "#b3261e", green: "#1a6e37", yellow: "#8a5300", blue: "#1f5fae", magenta: "#7a3fa0", cyan: "#0b6e66", white: "#6b7580",
  brightBlack: "#58636e", brightRed: "#c93a31", brightGreen: "#237f43", brightYellow: "#9a6206", brightBlue: "#2f70c2", brightMagenta: "#8a4fb2", brightCyan: "#148078", brightWhite: "#2c333a",
};
const dark: ITheme = {
  background: "#0a0d0f", foreground: "#dfe4e8", cursor: "#3fc9b8", cursorAccent: "#0a0d0f", selectionBackground: "#3fc9b844",
  black: "#2a3138", red: "#ff8b82", green: "#6fd18f", yellow: "#f0b45a", blue: "#86b8f7", magenta: "#d0a8f0", cyan: "#5fd5c8", white: "#c9d1d8",
  brightBlack: "#7c8894", brightRed: "#ffaaa3", brightGreen: "#94e0ac", brightYellow: "#f7cb86", brightBlue: "#a9cdfa", brightMagenta: "#e0c4f7", brightCyan: "#8de4da", brightWhite: "#f3f5f7",
};

export function termTheme(): ITheme {
  return shown.value === "dark" ? dark : light;
}

/** Puts a terminal into the page. */
export function openTerminal(term: Terminal, into: HTMLElement): void {
  ownSheets(() => term.open(into));
}

export function newTerminal(options: { scrollback?: number; readOnly?: boolean; rows?: number; cols?: number } = {}): Terminal {
  return new Terminal({
    fontFamily: 'ui-monospace, "SF Mono", "Cascadia Mono", "JetBrains Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
    fontSize: 13,
    lineHeight: 1.2,
    scrollback: options.scrollback ?? 10_000,
    disableStdin: options.readOnly,
    cursorBlink: false,
    rows: options.rows ?? 24,
    cols: options.cols ?? 80,
    theme: termTheme(),
    screenReaderMode: false,
    minimumContrastRatio: 4.5,
    linkHandler: null,
  });
}

export type ShellState = "connecting" | "open" | "exited" | "lost" | "elsewhere";

const PASTE_ASK = 1;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5_000;
/** How much of a shell's output is shown again when it is come back to. */
const REPLAYED_MAX = 2 << 20;

interface Known {
  exec: string;
  title: string;
}

/** Shells of this browser by sandbox, so that a reload, or another tab after this one is closed, comes back to them. */
const remembered = {
  key: (sandbox: string) => `caged.shells.${sandbox}`,
  read(sandbox: string): Known[] {
    try {
      const list = JSON.parse(localStorage.getItem(this.key(sandbox)) ?? "[]") as unknown;
      return Array.isArray(list) ? (list as Known[]).filter((x) => typeof x?.exec === "string" && typeof x.title === "string").slice(0, SHELLS_MAX) : [];
    } catch {
      return [];
    }
  },
  /** Those of other tabs stay; of ours, those that live. */
  write(sandbox: string, list: Shell[]): void {
    for (const x of list) if (x.exec !== null) mine.add(x.exec);
    const others = this.read(sandbox).filter((x) => !mine.has(x.exec));
    const kept = [...others, ...list.filter((x) => x.exec !== null).map((x) => ({ exec: x.exec!, title: x.title }))];
    try {
      if (kept.length) localStorage.setItem(this.key(sandbox), JSON.stringify(kept));
      else localStorage.removeItem(this.key(sandbox));
    } catch {
      // storage is off: shells last as long as the page
    }
  },
};

/** Every command that was a shell of this tab. */
const mine = new Set<string>();
const SHELLS_MAX = 32;
const ANSWER_MS = 150;
/** Tabs ask each other who has a shell: one that nobody has is free. */
const tabs = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel("caged.shells");
tabs?.addEventListener("message", (e) => {
  const m = e.data as { ask?: string; have?: string[] };
  if (typeof m?.ask === "string") tabs.postMessage({ have: (shells.get(m.ask)?.value ?? []).flatMap((x) => (x.exec === null || x.state.value === "elsewhere" ? [] : [x.exec])) });
});

async function free(sandbox: string): Promise<Known[]> {
  const known = remembered.read(sandbox);
  if (!known.length || !tabs) return known;
  const taken = new Set<string>();
  const hear = (e: MessageEvent) => {
    const have = (e.data as { have?: unknown })?.have;
    if (Array.isArray(have)) for (const x of have) taken.add(String(x));
  };
  tabs.addEventListener("message", hear);
  tabs.postMessage({ ask: sandbox });
  await new Promise((resolve) => setTimeout(resolve, ANSWER_MS));
  tabs.removeEventListener("message", hear);
  return known.filter((x) => !taken.has(x.exec));
}

/**
 * A login shell in a sandbox. It does not hang on the connection: when that ends (the server restarts, the
 * page is reloaded) the shell goes on, and the next connection first shows from the record what it printed,
 * then goes on live behind it.
 */
export class Shell {
  readonly state = new Store<ShellState>("connecting");
  readonly words = new Store("");
  readonly term = newTerminal();
  readonly box = document.createElement("div");
  askPaste: (lines: number, text: string) => Promise<boolean> = async () => true;
  private fit = new FitAddon();
  private pump = new Pump({
    write: (data, done) => this.term.write(data, done),
    // a page that nobody sees draws no pictures to wait for
    next: (run) => void (document.visibilityState === "visible" ? requestAnimationFrame(run) : setTimeout(run, 0)),
    now: () => performance.now(),
  });
  private ws: WebSocket | null = null;
  private opened = false;
  private ended = false;
  private pause = FIRST_PAUSE_MS;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private held: Uint8Array[] | null = null; // live bytes that wait for the record's
  private replaying = false; // what the terminal answers to old output must not be typed again
  private off: () => void;
  /** It was found, not made, and has not been open here yet. */
  private found: boolean;

  constructor(
    readonly sandbox: string,
    readonly title: string,
    public exec: string | null = null,
  ) {
    this.found = exec !== null;
    this.box.className = "term-box";
    this.term.loadAddon(this.fit);
    this.term.loadAddon(new WebLinksAddon((_e, uri) => void window.open(uri, "_blank", "noopener,noreferrer")));
    this.term.onData((data) => this.input(data));
    this.term.onBinary((data) => this.send(Uint8Array.from(data, (c) => c.charCodeAt(0))));
    this.term.onResize(({ rows, cols }) => this.text({ type: "resize", rows, cols }));
    this.term.attachCustomKeyEventHandler((e) => this.key(e));
    this.off = shown.watch(() => (this.term.options.theme = termTheme()));
  }

  /** Puts the terminal into the page; the first time it also connects. */
  show(into: HTMLElement): void {
    into.append(this.box);
    if (!this.opened) {
      this.opened = true;
      openTerminal(this.term, this.box);
      this.box.addEventListener("paste", (e) => this.paste(e as ClipboardEvent), true);
      this.resize();
      void this.connect();
    } else this.resize();
  }

  resize(): void {
    if (this.box.isConnected && this.box.clientWidth > 20) this.fit.fit();
  }

  focus(): void {
    this.term.focus();
  }

  async connect(): Promise<void> {
    clearTimeout(this.timer);
    if (this.ended) return;
    this.state.value = "connecting";
    try {
      const back = this.exec;
      const before = back === null ? 0 : (await get<WardenStatus>(`/v1/sandboxes/${encodeURIComponent(this.sandbox)}/status`)).seq;
      const ws = await socket(`/v1/sandboxes/${encodeURIComponent(this.sandbox)}/exec`, "exec");
      this.ws = ws;
      const pty = { rows: this.term.rows, cols: this.term.cols };
      ws.onopen = () => {
        if (back === null) ws.send(JSON.stringify({ type: "start", login: true, detach: true, pty, echo: true, term: "xterm-256color" }));
        else {
          this.held = [];
          ws.send(JSON.stringify({ type: "attach", exec_id: back, detach: true, pty }));
        }
      };
      ws.onmessage = (e) => this.message(e.data as string | ArrayBuffer, before);
      ws.onclose = () => {
        if (this.ws === ws) this.gone();
      };
    } catch (e) {
      this.words.value = (e as Error).message;
      this.gone(e instanceof ApiError && e.status >= 400 && e.status < 500);
    }
  }

  /** The connection is gone; the shell is not. It is tried again until the sandbox is known to have ended. */
  private gone(forGood = false): void {
    this.ws = null;
    this.held = null;
    if (this.ended || this.state.value === "exited" || this.state.value === "elsewhere") return;
    this.state.value = "lost";
    if (forGood) return;
    if (this.exec !== null) this.words.value = "The connection is gone, the shell goes on. Trying to come back to it…";
    this.timer = setTimeout(() => void this.connect(), this.pause);
    this.pause = Math.min(LONGEST_PAUSE_MS, this.pause * 2);
  }

  private message(data: string | ArrayBuffer, before: number): void {
    if (typeof data !== "string") {
      const bytes = new Uint8Array(data, 1); // the first byte is the channel
      if (this.held) this.held.push(bytes);
      else this.pump.push(bytes);
      return;
    }
    const m = JSON.parse(data) as { type: string; code?: number | string; message?: string; exec_id?: string };
    if (m.type === "started") {
      const back = this.exec !== null;
      this.found = false;
      this.exec = m.exec_id ?? null;
      this.pause = FIRST_PAUSE_MS;
      this.words.value = "";
      remember(this.sandbox);
      if (back) void this.catchUp(before);
      else this.state.value = "open";
    } else if (m.type === "exit") this.over(`The shell ended (${m.code ?? 0}).`);
    else if (m.type === "error" && m.code === "conflict") {
      this.state.value = "elsewhere";
      this.words.value = "This shell is open in another window now.";
    } else if (m.type === "error" && m.code === "not_found" && this.found) this.vanish();
    else if (m.type === "error" && m.code !== "unavailable" && m.code !== "closed")
      this.over(m.code === "not_found" ? "The shell has ended while nobody was connected." : (m.message ?? "The shell could not be started."));
  }

  // Remembered, and ended meanwhile: nothing to show for it.
  private vanish(): void {
    this.exec = null;
    dropShell(this);
    if (shellsOf(this.sandbox).value.length === 0) addShell(this.sandbox);
  }

  private over(words: string): void {
    this.flush();
    this.state.value = "exited";
    this.words.value = words;
    this.exec = null;
    remember(this.sandbox);
  }

  private flush(): void {
    for (const bytes of this.held ?? []) this.pump.push(bytes);
    this.held = null;
  }

  // What the shell printed before this attachment stands in the record, up to the line that tells of it.
  private async catchUp(before: number): Promise<void> {
    const exec = this.exec;
    const ws = this.ws;
    const chunks: (string | Uint8Array)[] = [];
    let size = 0;
    let done = false;
    await new Promise<void>((resolve) => {
      const feed = stream("/v1/events/stream", {
        params: () => ({ sandbox_id: this.sandbox, after_seq: 0, types: "command,terminal" }),
        event: (e) => {
          if (done || (e.event !== "command" && e.event !== "terminal")) return;
          const line = JSON.parse(e.data) as Line;
          const d = line.data;
          if (d["exec_id"] !== exec) return;
          if (e.event === "command") {
            if (d["phase"] === "attach" && line.seq > before) {
              done = true;
              feed.close();
              resolve();
            }
            return;
          }
          if (d["dir"] !== "out") return;
          const part = typeof d["text"] === "string" ? d["text"] : typeof d["base64"] === "string" ? Uint8Array.from(atob(d["base64"]), (c) => c.charCodeAt(0)) : "";
          chunks.push(part);
          size += part.length;
          while (size > REPLAYED_MAX && chunks.length > 1) size -= chunks.shift()!.length;
        },
        state: (up) => {
          if (up || this.ws === ws) return;
          feed.close();
          resolve();
        },
      });
    });
    if (this.ws !== ws || !ws) return; // lost again meanwhile
    this.replaying = true;
    this.term.reset();
    for (const part of chunks) this.term.write(part);
    this.term.write("", () => (this.replaying = false));
    this.flush();
    if (this.state.value === "connecting") this.state.value = "open";
    this.text({ type: "resize", rows: this.term.rows, cols: this.term.cols });
  }

  private input(data: string): void {
    if (!this.replaying) this.send(new TextEncoder().encode(data));
  }

  private send(bytes: Uint8Array): void {
    if (this.ws?.readyState !== WebSocket.OPEN) return;
    const frame = new Uint8Array(bytes.length + 1);
    frame.set(bytes, 1);
    this.ws.send(frame);
  }

  private text(message: object): void {
    if (this.ws?.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify(message));
  }

  private key(e: KeyboardEvent): boolean {
    if (e.type !== "keydown" || !e.ctrlKey || !e.shiftKey) return true;
    if (e.code === "KeyC" && this.term.hasSelection()) {
      e.preventDefault();
      void navigator.clipboard.writeText(this.term.getSelection());
      return false;
    }
    if (e.code === "F6") {
      e.preventDefault();
      this.box.closest(".terms")?.querySelector<HTMLElement>("[role=tab]")?.focus();
      return false;
    }
    return true;
  }

  // More than one line could run at once without being read: a person is asked first.
  private paste(e: ClipboardEvent): void {
    const text = e.clipboardData?.getData("text/plain") ?? "";
    const breaks = text.replace(/[\r\n]+$/, "").split(/\r\n|\r|\n/).length - 1;
    if (breaks < PASTE_ASK && text.length < 5000) return;
    e.preventDefault();
    e.stopPropagation();
    void this.askPaste(breaks + 1, text).then((yes) => {
      if (yes) this.term.paste(text);
      this.focus();
    });
  }

  /** Back to the shell where there is one; else a new one below what the old one has shown. */
  again(): void {
    this.pause = FIRST_PAUSE_MS;
    if (this.exec === null) this.term.write("\r\n");
    void this.connect();
  }

  /** Ends the shell, and the terminal with it. */
  close(): void {
    this.ended = true;
    clearTimeout(this.timer);
    this.off();
    this.text({ type: "signal", signal: "HUP" });
    this.ws?.close();
    this.term.dispose();
    this.box.remove();
  }
}

const shells = new Map<string, Store<Shell[]>>();

function remember(sandbox: string): void {
  remembered.write(sandbox, shells.get(sandbox)?.value ?? []);
}

/** The shells of a sandbox in this tab. */
export function shellsOf(sandbox: string): Store<Shell[]> {
  let s = shells.get(sandbox);
  if (!s) shells.set(sandbox, (s = new Store<Shell[]>([])));
  return s;
}

const opening = new Map<string, Promise<void>>();

/** At least one shell: those that were left behind, else a new one. */
export function openShells(sandbox: string): Promise<void> {
  const store = shellsOf(sandbox);
  if (store.value.length) return Promise.resolve();
  let p = opening.get(sandbox);
  if (!p) {
    p = free(sandbox)
      .then((list) => {
        if (store.value.length) return;
        const titles = new Set<string>();
        for (const x of list) {
          // those of two tabs may have one name
          for (let n = 1; titles.has(x.title); n++) x.title = `Shell ${n}`;
          titles.add(x.title);
        }
        if (list.length) store.value = list.map((x) => new Shell(sandbox, x.title, x.exec));
        else addShell(sandbox);
        remember(sandbox);
      })
      .finally(() => opening.delete(sandbox));
    opening.set(sandbox, p);
  }
  return p;
}

export function addShell(sandbox: string): void {
  const store = shellsOf(sandbox);
  const numbers = store.value.map((x) => Number(/\d+$/.exec(x.title)?.[0] ?? 0));
  store.value = [...store.value, new Shell(sandbox, `Shell ${Math.max(0, ...numbers) + 1}`)];
}

export function dropShell(shell: Shell): void {
  shell.close();
  const store = shellsOf(shell.sandbox);
  store.value = store.value.filter((o) => o !== shell);
  remember(shell.sandbox);
}
