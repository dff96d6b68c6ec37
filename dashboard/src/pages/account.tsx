// The account: API keys, secrets, login sessions, password.
import { useState } from "preact/hooks";
import { ApiError, get, send } from "../lib/api";
import { visible } from "../lib/format";
import type { ApiKey, LoginSession, Secret } from "../lib/types";
import { useLoad, useTitle, type Loaded } from "../lib/use";
import { lazy } from "../ui/lazy";
import { attempt, Button, Code, confirmed, Dialog, Empty, Failure, Field, Loading, TabLinks, toast, When } from "../ui/parts";
import { FormDialog, Table } from "../ui/table";
import { Whose } from "../ui/whose";
import type { ComponentChildren } from "preact";

const tabs = [
  { id: "keys", title: "API keys", icon: "key" },
  { id: "secrets", title: "Secrets", icon: "shield" },
  { id: "sessions", title: "Login sessions", icon: "user" },
  { id: "password", title: "Password", icon: "gear" },
  { id: "teams", title: "Teams", icon: "user" },
  { id: "templates", title: "Templates", icon: "box" },
  { id: "billing", title: "Plan and usage", icon: "dollar" },
  { id: "audit", title: "Audit log", icon: "list" },
];

const TeamsTab = lazy(() => import("./teams").then((m) => m.TeamsTab), "teams");
const TemplatesTab = lazy(() => import("./templates").then((m) => m.TemplatesTab), "templates");
const BillingTab = lazy(() => import("./billing").then((m) => m.BillingTab), "usage");
const AuditTab = lazy(() => import("./audit").then((m) => m.AuditTab), "the audit log");

const parts: Record<string, () => ComponentChildren> = {
  keys: () => <Keys />,
  secrets: () => <Secrets />,
  sessions: () => <Sessions />,
  password: () => <Password />,
  teams: () => <TeamsTab />,
  templates: () => <TemplatesTab />,
  billing: () => <BillingTab />,
  audit: () => <AuditTab />,
};

function States<T>({ of, what, children }: { of: Loaded<T[]>; what: string; children: (data: T[]) => ComponentChildren }) {
  if (of.error)
    return of.error instanceof ApiError && of.error.status === 403 ? (
      <Empty icon="key" title="Your key may not see this">
        <p>{visible(of.error.message)}</p>
      </Empty>
    ) : (
      <Failure error={of.error} retry={of.reload} />
    );
  if (!of.data) return <Loading what={what} />;
  return <>{children(of.data)}</>;
}

const scopes: Record<string, string> = { full: "everything", sandbox: "sandboxes", read_only: "reading" };
const lives: [string, number][] = [
  ["never", 0],
  ["in 7 days", 7],
  ["in 30 days", 30],
  ["in 90 days", 90],
];

function Keys() {
  const keys = useLoad((signal) => get<ApiKey[]>("/v1/account/keys", undefined, signal), []);
  const [making, setMaking] = useState(false);
  const [name, setName] = useState("");
  const [scope, setScope] = useState("full");
  const [days, setDays] = useState(0);
  const [made, setMade] = useState<string | null>(null);
  const create = async () => {
    const expires_at = days ? new Date(Date.now() + days * 86_400_000).toISOString() : null;
    await attempt(async () => {
      const answer = await send<{ key: string }>("POST", "/v1/account/keys", { name, scope, expires_at });
      setMaking(false);
      setName("");
      setMade(answer.key);
      keys.reload();
    }, "A key is made");
  };
  const remove = async (k: ApiKey) => {
    if (!(await confirmed(`Delete the key ${visible(k.name)}?`, "Whatever uses it is shut out at once.", "Delete", true))) return;
    if (await attempt(() => send("DELETE", `/v1/account/keys/${k.id}`), "The key is no more")) keys.reload();
  };
  return (
    <div class="stack">
      <div class="row">
        <p class="dim grow">Programs and agents identify themselves with keys. Give each its own, with no more than it needs.</p>
        <Button kind="primary" icon="plus" onClick={() => setMaking(true)}>
          New key
        </Button>
      </div>
      <States of={keys} what="keys">
        {(data) => (
          <Table
            label="API keys"
            rows={data}
            keyOf={(k) => k.id}
            columns={[
              { title: "Name", as: "wrap", cell: (k) => <strong>{visible(k.name)}</strong> },
              { title: "Begins with", hide: "s", cell: (k) => <code>{k.prefix}…</code> },
              { title: "May do", cell: (k) => scopes[k.scope] ?? k.scope },
              { title: "Last used", cell: (k) => <When at={k.last_used} /> },
              { title: "Ends", hide: "m", cell: (k) => (k.expires_at ? <When at={k.expires_at} /> : <span class="dim">never</span>) },
              {
                title: "Actions",
                as: "acts",
                cell: (k) => <Button kind="quiet" class="icon-only danger-hover" icon="trash" aria-label={`Delete ${visible(k.name)}`} onClick={() => void remove(k)} />,
              },
            ]}
          />
        )}
      </States>
      {making && (
        <FormDialog title="New API key" submit="Make it" disabled={!name.trim()} onSubmit={() => void create()} onClose={() => setMaking(false)}>
            <Field label="Name" hint="What will use it">
              {(id) => <input id={id} maxLength={100} value={name} onInput={(e) => setName(e.currentTarget.value)} />}
            </Field>
            <Field label="May do">
              {(id) => (
                <select id={id} value={scope} onChange={(e) => setScope(e.currentTarget.value)}>
                  <option value="full">everything, this account too</option>
                  <option value="sandbox">sandboxes only</option>
                  <option value="read">reading only</option>
                </select>
              )}
            </Field>
            <Field label="Ends">
              {(id) => (
                <select id={id} value={String(days)} onChange={(e) => setDays(Number(e.currentTarget.value))}>
                  {lives.map(([title, n]) => (
                    <option key={n} value={String(n)}>
                      {title}
                    </option>
                  ))}
                </select>
              )}
            </Field>
        </FormDialog>
      )}
      {made && (
        <Dialog title="Your new key" onClose={() => setMade(null)}>
          <p>Copy it now: it is shown this once and kept nowhere.</p>
          <Code label="New API key" text={made} />
          <footer>
            <Button kind="primary" onClick={() => setMade(null)}>
              I have it
            </Button>
          </footer>
        </Dialog>
      )}
    </div>
  );
}

function Secrets() {
  const [team, setTeam] = useState("");
  const of = { team: team || undefined };
  const secrets = useLoad((signal) => get<Secret[]>("/v1/secrets", of, signal), [team]);
  const [editing, setEditing] = useState<{ name: string; hosts: string; value: string; old: boolean } | null>(null);
  const nameWrong = editing && editing.name && !/^[A-Za-z_][A-Za-z0-9_]{0,63}$/.test(editing.name) ? "Letters, digits and _, not a digit first" : null;
  const valueWrong = editing && editing.value && editing.value.length < 8 ? "At least 8 characters" : null;
  const save = async () => {
    const hosts = editing!.hosts.split(/[\s,]+/).filter(Boolean);
    const body = { value: editing!.value, ...(hosts.length ? { hosts } : {}) };
    if (await attempt(() => send("PUT", `/v1/secrets/${encodeURIComponent(editing!.name)}`, body, of), `${editing!.name} is kept`)) {
      setEditing(null);
      secrets.reload();
    }
  };
  const remove = async (x: Secret) => {
    if (!(await confirmed(`Delete ${x.name}?`, "Running sandboxes keep what they were given until they end.", "Delete", true))) return;
    if (await attempt(() => send("DELETE", `/v1/secrets/${encodeURIComponent(x.name)}`, undefined, of), "Deleted")) secrets.reload();
  };
  return (
    <div class="stack">
      <div class="row">
        <p class="dim grow">A sandbox gets a placeholder; the value is put into requests to the hosts named here, outside of it. It is never shown again.</p>
        <Whose team={team} least="admin" set={setTeam} />
        <Button kind="primary" icon="plus" onClick={() => setEditing({ name: "", hosts: "", value: "", old: false })}>
          New secret
        </Button>
      </div>
      <States of={secrets} what="secrets">
        {(data) =>
          data.length === 0 ? (
            <Empty icon="shield" title="No secret yet">
              <p>Tokens that agents need for services belong here, not into environments.</p>
            </Empty>
          ) : (
            <Table
              label="Secrets"
              rows={data}
              keyOf={(x) => x.name}
              columns={[
                { title: "Name", as: "wrap", cell: (x) => <code>{x.name}</code> },
                { title: "Goes to", as: "wrap", cell: (x) => x.hosts.map(visible).join(", ") },
                { title: "Given out", hide: "s", cell: (x) => <When at={x.last_used} /> },
                { title: "Set", hide: "m", cell: (x) => <When at={x.updated_at} /> },
                {
                  title: "Actions",
                  as: "acts",
                  cell: (x) => (
                    <>
                      <Button kind="quiet" class="small" onClick={() => setEditing({ name: x.name, hosts: x.hosts.join(", "), value: "", old: true })}>
                        Replace
                      </Button>
                      <Button kind="quiet" class="icon-only danger-hover" icon="trash" aria-label={`Delete ${x.name}`} onClick={() => void remove(x)} />
                    </>
                  ),
                },
              ]}
            />
          )
        }
      </States>
      {editing && (
        <FormDialog
          title={editing.old ? `Replace ${editing.name}` : "New secret"}
          submit="Keep it"
          disabled={!editing.name || !editing.value || !!nameWrong || !!valueWrong}
          onSubmit={() => void save()}
          onClose={() => setEditing(null)}
        >
            {!editing.old && (
              <Field label="Name" hint="As the environment variable in the sandbox" error={nameWrong}>
                {(id) => <input id={id} class="mono" value={editing.name} placeholder="GITHUB_TOKEN" onInput={(e) => setEditing({ ...editing, name: e.currentTarget.value })} />}
              </Field>
            )}
            <Field label="Value" error={valueWrong}>
              {(id) => <input id={id} type="password" autocomplete="off" value={editing.value} onInput={(e) => setEditing({ ...editing, value: e.currentTarget.value })} />}
            </Field>
            <Field label="Goes to" hint="api.example.com, *.example.com; empty: the defaults of a well-known name">
              {(id) => <input id={id} value={editing.hosts} onInput={(e) => setEditing({ ...editing, hosts: e.currentTarget.value })} />}
            </Field>
        </FormDialog>
      )}
    </div>
  );
}

function Sessions() {
  const sessions = useLoad((signal) => get<LoginSession[]>("/v1/account/sessions", undefined, signal), []);
  const end = async (x: LoginSession) => {
    if (await attempt(() => send("DELETE", `/v1/account/sessions/${x.id}`), "That session has ended")) sessions.reload();
  };
  return (
    <States of={sessions} what="sessions">
      {(data) =>
        data.length === 0 ? (
          <Empty icon="user" title="Nobody is signed in with a password">
            <p>You came with an API key: those are listed beside.</p>
          </Empty>
        ) : (
          <Table
            label="Login sessions"
            rows={data}
            keyOf={(x) => x.id}
            columns={[
              { title: "Program", as: "wrap", cell: (x) => visible(x.user_agent) },
              { title: "Address", cell: (x) => visible(x.ip) },
              { title: "Since", cell: (x) => <When at={x.created_at} /> },
              { title: "Ends", hide: "s", cell: (x) => <When at={x.expires_at} /> },
              {
                title: "Actions",
                as: "acts",
                cell: (x) => (
                  <Button kind="quiet" class="small" onClick={() => void end(x)}>
                    End it
                  </Button>
                ),
              },
            ]}
          />
        )
      }
    </States>
  );
}

function Password() {
  const [old, setOld] = useState("");
  const [next, setNext] = useState("");
  const [error, setError] = useState<string | null>(null);
  const wrong = next && next.length < 8 ? "At least 8 characters" : null;
  return (
    <form
      class="card in stack narrow"
      onSubmit={(e) => {
        e.preventDefault();
        send("POST", "/v1/account/password", { password: next, ...(old ? { current_password: old } : {}) }).then(
          () => {
            toast("The password is set; other sessions have ended");
            setOld("");
            setNext("");
            setError(null);
          },
          (cause: Error) => setError(cause.message),
        );
      }}
    >
      <Field label="Password now" hint="Empty when there is none yet" error={error}>
        {(id) => <input id={id} type="password" autocomplete="current-password" value={old} onInput={(e) => setOld(e.currentTarget.value)} />}
      </Field>
      <Field label="New password" error={wrong} hint="At least 8 characters; a few words are better than a short riddle">
        {(id) => <input id={id} type="password" autocomplete="new-password" value={next} onInput={(e) => setNext(e.currentTarget.value)} />}
      </Field>
      <Button kind="primary" type="submit" disabled={!next || !!wrong}>
        Set it
      </Button>
    </form>
  );
}

export function AccountPage({ tab }: { tab: string }) {
  const current = tabs.find((t) => t.id === tab) ?? tabs[0]!;
  useTitle(current.title);
  return (
    <section class="page">
      <h1>Account</h1>
      <TabLinks label="Parts of the account" current={current.id} tabs={tabs.map((t) => ({ ...t, href: `/account/${t.id}` }))} />
      {parts[current.id]!()}
    </section>
  );
}
