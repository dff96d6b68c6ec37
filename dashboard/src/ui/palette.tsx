// The command palette: pages, sandboxes and what can be done, by typing a part of it.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { sandboxes } from "../lib/live";
import { go } from "../lib/router";
import { rank } from "../lib/search";
import { Store, useStore } from "../lib/store";
import { setTheme } from "../lib/theme";
import { Icon } from "./icons";
import { Dialog } from "./parts";

const open = new Store(false);

export function openPalette(): void {
  open.value = true;
}

interface Command {
  title: string;
  hint: string;
  icon: string;
  run: () => void;
}

function commands(pages: { href: string; title: string; icon: string }[]): Command[] {
  const list: Command[] = pages.map((p) => ({ title: p.title, hint: "page", icon: p.icon, run: () => go(p.href) }));
  list.push({ title: "New sandbox", hint: "create", icon: "plus", run: () => go("/new") });
  for (const s of sandboxes.value?.values() ?? []) {
    const name = s.name ? `${s.name} (${s.id})` : s.id;
    if (s.status === "running") list.push({ title: `Terminal of ${name}`, hint: s.status, icon: "term", run: () => go(`/sandboxes/${s.id}`) });
    list.push({ title: `Timeline of ${name}`, hint: s.status, icon: "list", run: () => go(`/sandboxes/${s.id}/timeline`) });
    if (s.status === "running") list.push({ title: `Files of ${name}`, hint: s.status, icon: "folder", run: () => go(`/sandboxes/${s.id}/files`) });
  }
  list.push(
    { title: "API keys", hint: "account", icon: "key", run: () => go("/account/keys") },
    { title: "Secrets", hint: "account", icon: "key", run: () => go("/account/secrets") },
    { title: "Templates", hint: "account", icon: "box", run: () => go("/account/templates") },
    { title: "Teams", hint: "account", icon: "user", run: () => go("/account/teams") },
    { title: "Plan and usage", hint: "account", icon: "dollar", run: () => go("/account/billing") },
    { title: "Audit log", hint: "account", icon: "list", run: () => go("/account/audit") },
    { title: "Rules of trust", hint: "trust", icon: "shield", run: () => go("/trust/rules") },
    { title: "Notifications and channels", hint: "account", icon: "bell", run: () => go("/notifications") },
    { title: "Approve a device", hint: "account", icon: "check", run: () => go("/device") },
    { title: "Keyboard shortcuts", hint: "help", icon: "list", run: () => go("/shortcuts") },
    { title: "Light colours", hint: "theme", icon: "sun", run: () => setTheme("light") },
    { title: "Dark colours", hint: "theme", icon: "moon", run: () => setTheme("dark") },
    { title: "Colours as the system", hint: "theme", icon: "half", run: () => setTheme("system") },
  );
  return list;
}

const SHOWN = 12;

function PaletteBody({ pages }: { pages: { href: string; title: string; icon: string }[] }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  const list = useRef<HTMLUListElement>(null);
  const all = useMemo(() => commands(pages), []);
  const found = useMemo(() => rank(text, all, (c) => `${c.title} ${c.hint}`).slice(0, SHOWN), [text]);
  useEffect(() => input.current?.focus(), []);
  useEffect(() => list.current?.children[at]?.scrollIntoView({ block: "nearest" }), [at]);
  const run = (c: Command | undefined) => {
    open.value = false;
    c?.run();
  };
  return (
    <Dialog title="Go to or do" class="palette" onClose={() => (open.value = false)}>
      <input
        ref={input}
        type="text"
        role="combobox"
        aria-label="Go to or do"
        aria-expanded="true"
        aria-controls="palette-list"
        aria-activedescendant={found.length ? `palette-${at}` : undefined}
        placeholder="A page, a sandbox, an action…"
        autocomplete="off"
        spellcheck={false}
        value={text}
        onInput={(e) => {
          setText(e.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={(e) => {
          if (e.key === "ArrowDown" || e.key === "ArrowUp") {
            e.preventDefault();
            const n = Math.max(1, found.length);
            setAt((i) => (i + (e.key === "ArrowDown" ? 1 : n - 1)) % n);
          } else if (e.key === "Enter") run(found[at]);
        }}
      />
      <ul id="palette-list" role="listbox" aria-label="Found" ref={list}>
        {found.map((c, i) => (
          <li key={c.title} id={`palette-${i}`} role="option" aria-selected={i === at} onClick={() => run(c)} onMouseMove={() => setAt(i)}>
            <Icon name={c.icon} />
            <span class="grow">{c.title}</span>
            <span class="dim small">{c.hint}</span>
          </li>
        ))}
      </ul>
      {found.length === 0 && <p class="dim pad">Nothing has that in its name.</p>}
    </Dialog>
  );
}

export function Palette({ pages }: { pages: { href: string; title: string; icon: string }[] }) {
  return useStore(open) ? <PaletteBody pages={pages} /> : null;
}
