// The frame around every page, and which page an address shows.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { onToken, setToken, send, signedIn, get } from "./lib/api";
import { connected, sandboxes } from "./lib/live";
import { unread } from "./lib/notify";
import { go, match, place } from "./lib/router";
import { Store, useStore } from "./lib/store";
import { loadTeams } from "./lib/teams";
import { setTheme, theme, type Theme } from "./lib/theme";
import type { Account } from "./lib/types";
import { useTitle } from "./lib/use";
import { Icon, Logo } from "./ui/icons";
import { lazy } from "./ui/lazy";
import { openPalette, Palette } from "./ui/palette";
import { Empty, Questions, Toasts } from "./ui/parts";
import { SandboxesPage } from "./pages/sandboxes";
import { SignInPage } from "./pages/signin";

export const account = new Store<Account | null>(null);

const SandboxPage = lazy(() => import("./pages/sandbox").then((m) => m.SandboxPage), "the sandbox");
const CreatePage = lazy(() => import("./pages/create").then((m) => m.CreatePage), "the form");
const CostPage = lazy(() => import("./pages/cost").then((m) => m.CostPage), "costs");
const SessionsPage = lazy(() => import("./pages/sessions").then((m) => m.SessionsPage), "sessions");
const TrustPage = lazy(() => import("./pages/trust").then((m) => m.TrustPage), "alerts");
const TrustRulesPage = lazy(() => import("./pages/trust-rules").then((m) => m.TrustRulesPage), "the rules");
const NotificationsPage = lazy(() => import("./pages/notifications").then((m) => m.NotificationsPage), "notifications");
const AccountPage = lazy(() => import("./pages/account").then((m) => m.AccountPage), "the account");
const DevicePage = lazy(() => import("./pages/device").then((m) => m.DevicePage), "the request");
const ShortcutsPage = lazy(() => import("./pages/shortcuts").then((m) => m.ShortcutsPage), "shortcuts");

const nav = [
  { href: "/", title: "Sandboxes", icon: "box", key: "s" },
  { href: "/sessions", title: "Sessions", icon: "play", key: "e" },
  { href: "/cost", title: "Cost", icon: "dollar", key: "c" },
  { href: "/trust", title: "Trust", icon: "shield", key: "t" },
  { href: "/account", title: "Account", icon: "user", key: "a" },
];

function page(path: string): ComponentChildren {
  let p: Record<string, string> | null;
  if (path === "/" || path === "/sandboxes") return <SandboxesPage />;
  if (path === "/new") return <CreatePage />;
  if ((p = match("/sandboxes/:id", path))) return <SandboxPage id={p["id"]!} tab="terminal" />;
  if ((p = match("/sandboxes/:id/:tab", path))) return <SandboxPage id={p["id"]!} tab={p["tab"]!} />;
  if (path === "/sessions") return <SessionsPage />;
  if ((p = match("/sessions/:id", path))) return <SessionsPage id={p["id"]!} />;
  if (path === "/cost") return <CostPage />;
  if (path === "/trust") return <TrustPage />;
  if (path === "/trust/rules") return <TrustRulesPage />;
  if (path === "/notifications") return <NotificationsPage />;
  if (path === "/account") return <AccountPage tab="keys" />;
  if ((p = match("/account/:tab", path))) return <AccountPage tab={p["tab"]!} />;
  if (path === "/device") return <DevicePage />;
  if (path === "/shortcuts") return <ShortcutsPage />;
  return <NotFound />;
}

function NotFound() {
  useTitle("Not found");
  return (
    <Empty icon="search" title="There is no such page">
      <p>
        <a href="/">All sandboxes</a> is a good place to go on.
      </p>
    </Empty>
  );
}

function ThemeSwitch() {
  const now = useStore(theme);
  const next: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
  const icon: Record<Theme, string> = { system: "half", light: "sun", dark: "moon" };
  const label = `Colours: ${now === "system" ? "as the system" : now}. Change`;
  return (
    <button type="button" class="btn quiet icon-only" aria-label={label} title={label} onClick={() => setTheme(next[now])}>
      <Icon name={icon[now]} />
    </button>
  );
}

async function signOut(): Promise<void> {
  await send("POST", "/v1/auth/logout").catch(() => undefined); // an API key has no session to end
  setToken(null);
  go("/");
}

function Side({ path, open, close }: { path: string; open: boolean; close: () => void }) {
  const who = useStore(account);
  const running = [...(useStore(sandboxes)?.values() ?? [])].filter((s) => s.status === "running").length;
  const here = (href: string) =>
    href === "/" ? path === "/" || path.startsWith("/sandboxes") || path === "/new" : path.startsWith(href);
  return (
    <aside class={`side ${open ? "open" : ""}`} onClick={close}>
      <a class="brand" href="/">
        <Logo /> <span>Caged</span>
      </a>
      <nav aria-label="Pages">
        {nav.map((n) => (
          <a key={n.href} href={n.href} aria-current={here(n.href) ? "page" : undefined}>
            <Icon name={n.icon} />
            <span>{n.title}</span>
            {n.href === "/" && running > 0 && (
              <span class="count" aria-label={`${running} running`}>
                {running}
              </span>
            )}
          </a>
        ))}
      </nav>
      <div class="side-foot">
        <a href="/shortcuts" class="dim small">
          Shortcuts <kbd>?</kbd>
        </a>
        <div class="who">
          <span class="who-name" title={who?.email}>
            {who ? who.email || who.name || who.id : "…"}
          </span>
          <button type="button" class="btn quiet small" onClick={() => void signOut()}>
            Sign out
          </button>
        </div>
      </div>
    </aside>
  );
}

function Bell() {
  const n = useStore(unread);
  if (n === null) return null;
  const label = n ? `Notifications, ${n} unread` : "Notifications";
  return (
    <a class="btn quiet icon-only bell" href="/notifications" aria-label={label} title={label}>
      <Icon name="bell" />
      {n > 0 && (
        <span class="badge" aria-hidden="true">
          {n > 99 ? "99+" : n}
        </span>
      )}
    </a>
  );
}

function Frame({ path }: { path: string }) {
  const [menu, setMenu] = useState(false);
  const up = useStore(connected);
  useEffect(() => setMenu(false), [path]);
  useEffect(() => {
    void loadTeams();
    void get<Account>("/v1/account").then((a) => (account.value = a), () => undefined);
  }, []);
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById("main")?.focus(); }}>
        Skip to the content
      </a>
      <Side path={path} open={menu} close={() => setMenu(false)} />
      {menu && <div class="veil" onClick={() => setMenu(false)} />}
      <div class="column">
        <header class="top">
          <button type="button" class="btn quiet icon-only menu" aria-label="Menu" aria-expanded={menu} onClick={() => setMenu(!menu)}>
            <Icon name="menu" />
          </button>
          <button type="button" class="search-open" onClick={openPalette}>
            <Icon name="search" />
            <span>Go to or do…</span>
            <kbd>Ctrl K</kbd>
          </button>
          <span class="grow" />
          <span class={`link ${up === false ? "down" : up ? "up" : ""}`} role="status">
            {up === false ? "Reconnecting…" : up ? "Live" : "Connecting…"}
          </span>
          <Bell />
          <ThemeSwitch />
          <a class="btn primary" href="/new">
            <Icon name="plus" /> <span>New sandbox</span>
          </a>
        </header>
        {up === false && (
          <div class="offline" role="alert">
            The server does not answer. What you see may be old; this page comes back by itself.
          </div>
        )}
        <main id="main" tabIndex={-1}>
          {page(path)}
        </main>
      </div>
    </div>
  );
}

function useKeys(on: boolean): void {
  useEffect(() => {
    if (!on) return;
    let g = 0;
    const press = (e: KeyboardEvent) => {
      if ((e.ctrlKey || e.metaKey) && !e.shiftKey && !e.altKey && e.key.toLowerCase() === "k") {
        e.preventDefault();
        openPalette();
        return;
      }
      const at = e.target as HTMLElement;
      if (e.ctrlKey || e.metaKey || e.altKey || at.closest("input, textarea, select, dialog, [contenteditable], .xterm, .cm-editor")) return;
      if (e.key === "?") go("/shortcuts");
      else if (e.key === "n" && !g) go("/new");
      else if (e.key === "/") {
        const box = document.querySelector<HTMLInputElement>("main input[type=search]");
        if (box) {
          e.preventDefault();
          box.focus();
        }
      } else if (e.key === "g") {
        g = Date.now();
        return;
      } else if (g && Date.now() - g < 1200) {
        const to = nav.find((n) => n.key === e.key);
        if (to) go(to.href);
      }
      g = 0;
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [on]);
}

export function App() {
  const at = useStore(place);
  const [inside, setInside] = useState(signedIn());
  useEffect(() => onToken(() => setInside(signedIn())), []);
  useKeys(inside);
  return (
    <>
      {inside ? <Frame path={at.path} /> : <SignInPage />}
      {inside && <Palette pages={nav} />}
      <Questions />
      <Toasts />
    </>
  );
}
