// Terminals of sandboxes. They live beside the pages, so that going to another page and back loses
// neither the shell nor what it has shown. A chunk of its own: xterm is only fetched here.
import "@xterm/xterm/css/xterm.css";
import { FitAddon } from "@xterm/addon-fit";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { Terminal, type ITheme } from "@xterm/xterm";
import { socket } from "./api";
import { ownSheets } from "./sheets";
import { Store } from "./store";
import { shown } from "./theme";

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

export type ShellState = "connecting" | "open" | "exited" | "lost";

let made = 0;
const PASTE_ASK = 1;

export class Shell {
  readonly title = `Shell ${++made}`;
  readonly state = new Store<ShellState>("connecting");
  readonly words = new Store("");
  readonly term = newTerminal();
  readonly box = document.createElement("div");
  askPaste: (lines: number, text: string) => Promise<boolean> = async () => true;
  private fit = new FitAddon();
  private ws: WebSocket | null = null;
  private opened = false;
  private off: () => void;

  constructor(
    readonly sandbox: string,
    private login = true,
  ) {
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
    this.state.value = "connecting";
    try {
      const ws = await socket(`/v1/sandboxes/${encodeURIComponent(this.sandbox)}/exec`, "exec");
      this.ws = ws;
      const start = { type: "start", login: this.login, pty: { rows: this.term.rows, cols: this.term.cols }, echo: true, term: "xterm-256color" };
      ws.onopen = () => {
        ws.send(JSON.stringify(start));
        this.state.value = "open";
        this.words.value = "";
      };
      ws.onmessage = (e) => this.message(e.data as string | ArrayBuffer);
      ws.onclose = () => {
        if (this.state.value !== "exited") {
          this.state.value = "lost";
          this.words.value ||= "The connection is gone, and with it this shell. What it showed stays here and in the record.";
        }
      };
    } catch (e) {
      this.state.value = "lost";
      this.words.value = (e as Error).message;
    }
  }

  private message(data: string | ArrayBuffer): void {
    if (typeof data !== "string") {
      this.term.write(new Uint8Array(data, 1)); // the first byte is the channel
      return;
    }
    const m = JSON.parse(data) as { type: string; code?: number; message?: string };
    if (m.type === "exit") {
      this.state.value = "exited";
      this.words.value = `The shell ended (${m.code ?? 0}).`;
    } else if (m.type === "error") {
      this.state.value = "exited";
      this.words.value = m.message ?? "The shell could not be started.";
    }
  }

  private input(data: string): void {
    this.send(new TextEncoder().encode(data));
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

  /** A new shell below what the old one has shown. */
  again(): void {
    this.term.write("\r\n");
    void this.connect();
  }

  close(): void {
    this.off();
    this.ws?.close();
    this.term.dispose();
    this.box.remove();
  }
}

const shells = new Map<string, Store<Shell[]>>();

export function shellsOf(sandbox: string): Store<Shell[]> {
  let s = shells.get(sandbox);
  if (!s) shells.set(sandbox, (s = new Store<Shell[]>([])));
  return s;
}

