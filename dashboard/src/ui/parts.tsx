// Small parts that every page uses. Text from guests always arrives here as text, never as HTML.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ago, local, price, usd, utc, visible } from "../lib/format";
import { Store, useStore } from "../lib/store";
import { Icon } from "./icons";

export function Button(
  p: Omit<JSX.IntrinsicElements["button"], "icon"> & { kind?: "primary" | "danger" | "quiet"; icon?: string; busy?: boolean },
) {
  const { kind, icon, busy, children, class: cls, ...rest } = p;
  return (
    <button type="button" class={`btn ${kind ?? ""} ${cls ?? ""}`} aria-busy={busy} {...rest} disabled={rest.disabled || busy}>
      {busy ? <span class="spinner" aria-hidden="true" /> : icon ? <Icon name={icon} /> : null}
      {children && <span>{children}</span>}
    </button>
  );
}

const statusWords: Record<string, string> = {
  pending: "starting",
  running: "running",
  paused: "paused",
  error: "failed",
  destroyed: "destroyed",
};

export function StatusChip({ status }: { status: string }) {
  return (
    <span class={`chip st-${status}`}>
      <i aria-hidden="true" />
      {statusWords[status] ?? status}
    </span>
  );
}

/** A time, told relative; local and UTC on hover. */
export function When({ at }: { at: string | null | undefined }) {
  const [, again] = useState(0);
  useEffect(() => {
    const t = setInterval(() => again((n) => n + 1), 20_000);
    return () => clearInterval(t);
  }, []);
  if (!at) return <span class="dim">never</span>;
  return (
    <time dateTime={at} title={`${local(at)}\n${utc(at)}`}>
      {ago(at)}
    </time>
  );
}

/** Cost against budget. */
export function BudgetBar({ cost, budget }: { cost: number; budget?: number }) {
  if (!budget)
    return (
      <span class="budget" title={usd(cost)}>
        <span class="num">{price(cost)}</span> <span class="dim small">no budget</span>
      </span>
    );
  const part = Math.min(1, cost / budget);
  const level = part >= 0.95 ? "bad" : part >= 0.8 ? "warn" : "ok";
  const text = `${usd(cost)} of ${usd(budget)}, ${Math.round(part * 100)} %`;
  return (
    <span class="budget" title={text}>
      <span class="num">
        {price(cost)} <span class="dim">/ {price(budget)}</span>
      </span>
      <span class="bar" role="img" aria-label={`Spent ${text}`}>
        <span class={`fill ${level}`} style={{ width: `${Math.max(2, part * 100)}%` }} />
      </span>
    </span>
  );
}

export function Spark({ values, label, width = 80, height = 20, top: least = 1 }: { values: number[]; label: string; width?: number; height?: number; top?: number }) {
  const top = Math.max(least, ...values);
  const step = width / Math.max(1, values.length - 1);
  const points = values.map((v, i) => `${(i * step).toFixed(1)},${(height - 1 - (v / top) * (height - 3)).toFixed(1)}`).join(" ");
  return (
    <svg class="spark" width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={label}>
      <polyline points={points} />
    </svg>
  );
}

/** Trust as number and colour: 70 and up is good, 50 and up asks for a look, less for a person. */
export function TrustBadge({ score }: { score: number | null | undefined }) {
  if (score === null || score === undefined) return <span class="dim">–</span>;
  const level = score >= 70 ? "ok" : score >= 50 ? "warn" : "bad";
  return (
    <span class={`trust ${level}`} aria-label={`Trust ${score} of 100`}>
      {score}
    </span>
  );
}

export function Empty({ icon, title, children }: { icon: string; title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <Icon name={icon} size={28} />
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <div class="loading" role="status">
      <span class="spinner" aria-hidden="true" /> Loading {what}…
    </div>
  );
}

export function Failure({ error, retry }: { error: Error; retry?: () => void }) {
  return (
    <div class="failure" role="alert">
      <Icon name="warn" />
      <span>{visible(error.message)}</span>
      {retry && (
        <Button kind="quiet" icon="refresh" onClick={retry}>
          Try again
        </Button>
      )}
    </div>
  );
}

export async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    toast("The browser refuses to copy; select the text and copy it yourself", "bad");
  }
}

export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  return (
    <button
      type="button"
      class="btn quiet icon-only"
      aria-label={label}
      title={label}
      onClick={() => {
        void copyText(text);
        setDone(true);
        setTimeout(() => setDone(false), 1500);
      }}
    >
      <Icon name={done ? "check" : "copy"} />
    </button>
  );
}

/** A command or text to take along. */
export function Code({ text, label }: { text: string; label: string }) {
  return (
    <div class="code">
      <pre tabIndex={0} aria-label={label}>
        {text}
      </pre>
      <CopyButton text={text} label={`Copy ${label.toLowerCase()}`} />
    </div>
  );
}

// --- messages that pass by ---

interface Toast {
  id: number;
  text: string;
  kind: "ok" | "bad";
}
const toasts = new Store<Toast[]>([]);
let toastId = 0;

export function toast(text: string, kind: "ok" | "bad" = "ok"): void {
  const t = { id: ++toastId, text, kind };
  toasts.value = [...toasts.value.slice(-3), t];
  setTimeout(() => (toasts.value = toasts.value.filter((o) => o.id !== t.id)), kind === "bad" ? 9000 : 3500);
}

/** Does something and says how it went. */
export async function attempt(run: () => Promise<unknown>, done: string): Promise<boolean> {
  try {
    await run();
    toast(done);
    return true;
  } catch (e) {
    toast((e as Error).message, "bad");
    return false;
  }
}

export function Toasts() {
  const all = useStore(toasts);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {all.map((t) => (
        <div key={t.id} class={`toast ${t.kind}`}>
          <Icon name={t.kind === "ok" ? "check" : "warn"} />
          <span>{visible(t.text)}</span>
          <button
            type="button"
            class="btn quiet icon-only"
            aria-label="Dismiss"
            onClick={() => (toasts.value = toasts.value.filter((o) => o.id !== t.id))}
          >
            <Icon name="x" size={12} />
          </button>
        </div>
      ))}
    </div>
  );
}

// --- dialogs: the browser's own, with its focus handling ---

export function Dialog(p: { title: string; onClose: () => void; wide?: boolean; class?: string; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current!;
    if (!dialog.open) dialog.showModal();
    return () => dialog.close();
  }, []);
  return (
    <dialog
      ref={ref}
      class={`dialog ${p.wide ? "wide" : ""} ${p.class ?? ""}`}
      aria-label={p.title}
      onCancel={(e) => {
        e.preventDefault();
        p.onClose();
      }}
      onClick={(e) => {
        if (e.target === ref.current) p.onClose();
      }}
    >
      <div class="dialog-in">
        <header>
          <h2>{p.title}</h2>
          <Button kind="quiet" class="icon-only" icon="x" aria-label="Close" onClick={p.onClose} />
        </header>
        {p.children}
      </div>
    </dialog>
  );
}

interface Question {
  title: string;
  text: string;
  yes: string;
  danger?: boolean;
  answer: (yes: boolean) => void;
}
const question = new Store<Question | null>(null);

/** Asks in a dialog; false when it is closed without an answer. */
export function confirmed(title: string, text: string, yes: string, danger = false): Promise<boolean> {
  return new Promise((resolve) => {
    question.value = {
      title,
      text,
      yes,
      danger,
      answer: (a) => {
        question.value = null;
        resolve(a);
      },
    };
  });
}

export function Questions() {
  const q = useStore(question);
  if (!q) return null;
  return (
    <Dialog title={q.title} onClose={() => q.answer(false)}>
      <p class="question">{visible(q.text)}</p>
      <footer>
        <Button onClick={() => q.answer(false)}>Cancel</Button>
        <Button kind={q.danger ? "danger" : "primary"} onClick={() => q.answer(true)} ref={(b: HTMLButtonElement | null) => b?.focus()}>
          {q.yes}
        </Button>
      </footer>
    </Dialog>
  );
}

export function Field(p: { label: string; hint?: ComponentChildren; error?: string | null; children: (id: string) => ComponentChildren }) {
  const [id] = useState(() => `f${Math.random().toString(36).slice(2, 9)}`);
  return (
    <div class={`field ${p.error ? "wrong" : ""}`}>
      <label htmlFor={id}>{p.label}</label>
      {p.children(id)}
      {p.error ? (
        <p class="hint error" role="alert">
          {p.error}
        </p>
      ) : p.hint ? (
        <p class="hint">{p.hint}</p>
      ) : null}
    </div>
  );
}

/** Tabs as links: each has its address. */
export function TabLinks(p: { label: string; tabs: { id: string; title: string; icon?: string; href: string; badge?: number }[]; current: string }) {
  const ref = useRef<HTMLElement>(null);
  useEffect(() => ref.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }), [p.current]);
  return (
    <nav class="tabs" aria-label={p.label} ref={ref}>
      {p.tabs.map((t) => (
        <a key={t.id} href={t.href} aria-current={t.id === p.current ? "page" : undefined}>
          {t.icon && <Icon name={t.icon} />}
          {t.title}
          {t.badge ? <span class="count">{t.badge}</span> : null}
        </a>
      ))}
    </nav>
  );
}
