// The account: API keys, secrets, login sessions, password.
import { useState } from "preact/hooks";
import { ApiError, get, send } from "../lib/api";
import { utc, visible } from "../lib/format";
import type { ApiKey, LoginSession, Secret } from "../lib/types";
import { useLoad, useTitle, type Loaded } from "../lib/use";
import { Button, Code, confirmed, Dialog, Empty, Failure, Field, Loading, TabLinks, toast, When } from "../ui/parts";
import type { ComponentChildren } from "preact";

const tabs = [
  { id: "keys", title: "API keys", icon: "key" },
  { id: "secrets", title: "Secrets", icon: "shield" },
  { id: "sessions", title: "Login sessions", icon: "user" },
  { id: "password", title: "Password", icon: "gear" },
];

async function attempt(run: () => Promise<unknown>, done: string): Promise<boolean> {
  try {
    await run();
    toast(done);
    return true;
  } catch (e) {
    toast((e as Error).message, "bad");
    return false;
  }
}

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
          <div class="table-wrap">
            <table class="table">
              <thead>
                <tr>
                  <th>Name</th>
                  <th class="hide-s">Begins with</th>
                  <th>May do</th>
                  <th>Last used</th>
                  <th class="hide-m">Ends</th>
                  <th>
                    <span class="sr">Actions</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {data.map((k) => (
                  <tr key={k.id}>
                    <td class="wrap">
                      <strong>{visible(k.name)}</strong>
                    </td>
                    <td class="hide-s">
                      <code>{k.prefix}…</code>
                    </td>
                    <td>{scopes[k.scope] ?? k.scope}</td>
                    <td>
                      <When at={k.last_used} />
                    </td>
                    <td class="hide-m" title={utc(k.expires_at)}>
                      {k.expires_at ? <When at={k.expires_at} /> : <span class="dim">never</span>}
                    </td>
                    <td class="acts">
                      <Button kind="quiet" class="icon-only danger-hover" icon="trash" aria-label={`Delete ${visible(k.name)}`} onClick={() => void remove(k)} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </States>
      {making && (
        <Dialog title="New API key" onClose={() => setMaking(false)}>
          <form
            class="stack"
            onSubmit={(e) => {
              e.preventDefault();
              void create();
            }}
          >
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
            <footer>
              <Button onClick={() => setMaking(false)}>Cancel</Button>
              <Button kind="primary" type="submit" disabled={!name.trim()}>
                Make it
              </Button>
            </footer>
          </form>
        </Dialog>
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
  const secrets = useLoad((signal) => get<Secret[]>("/v1/secrets", undefined, signal), []);
  const [editing, setEditing] = useState<{ name: string; hosts: string; value: string; old: boolean } | null>(null);
  const nameWrong = editing && editing.name && !/^[A-Za-z_][A-Za-z0-9_]{0,63}$/.test(editing.name) ? "Letters, digits and _, not a digit first" : null;
  const valueWrong = editing && editing.value && editing.value.length < 8 ? "At least 8 characters" : null;
  const save = async () => {
    const hosts = editing!.hosts.split(/[\s,]+/).filter(Boolean);
    const body = { value: editing!.value, ...(hosts.length ? { hosts } : {}) };
    if (await attempt(() => send("PUT", `/v1/secrets/${encodeURIComponent(editing!.name)}`, body), `${editing!.name} is kept`)) {
      setEditing(null);
      secrets.reload();
    }
  };
  const remove = async (x: Secret) => {
    if (!(await confirmed(`Delete ${x.name}?`, "Running sandboxes keep what they were given until they end.", "Delete", true))) return;
    if (await attempt(() => send("DELETE", `/v1/secrets/${encodeURIComponent(x.name)}`), "Deleted")) secrets.reload();
  };
  return (
    <div class="stack">
      <div class="row">
        <p class="dim grow">A sandbox gets a placeholder; the value is put into requests to the hosts named here, outside of it. It is never shown again.</p>
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
            <div class="table-wrap">
              <table class="table">
                <thead>
                  <tr>
                    <th>Name</th>
                    <th>Goes to</th>
                    <th class="hide-s">Given out</th>
                    <th class="hide-m">Set</th>
                    <th>
                      <span class="sr">Actions</span>
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {data.map((x) => (
                    <tr key={x.name}>
                      <td class="wrap">
                        <code>{x.name}</code>
                      </td>
                      <td class="wrap">{x.hosts.map(visible).join(", ")}</td>
                      <td class="hide-s">
                        <When at={x.last_used} />
                      </td>
                      <td class="hide-m">
                        <When at={x.updated_at} />
                      </td>
                      <td class="acts">
                        <Button kind="quiet" class="small" onClick={() => setEditing({ name: x.name, hosts: x.hosts.join(", "), value: "", old: true })}>
                          Replace
                        </Button>
                        <Button kind="quiet" class="icon-only danger-hover" icon="trash" aria-label={`Delete ${x.name}`} onClick={() => void remove(x)} />
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )
        }
      </States>
      {editing && (
        <Dialog title={editing.old ? `Replace ${editing.name}` : "New secret"} onClose={() => setEditing(null)}>
          <form
            class="stack"
            autocomplete="off"
            onSubmit={(e) => {
              e.preventDefault();
              void save();
            }}
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
            <footer>
              <Button onClick={() => setEditing(null)}>Cancel</Button>
              <Button kind="primary" type="submit" disabled={!editing.name || !editing.value || !!nameWrong || !!valueWrong}>
                Keep it
              </Button>
            </footer>
          </form>
        </Dialog>
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
          <div class="table-wrap">
            <table class="table">
              <thead>
                <tr>
                  <th>Program</th>
                  <th>Address</th>
                  <th>Since</th>
                  <th>Ends</th>
                  <th>
                    <span class="sr">Actions</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {data.map((x) => (
                  <tr key={x.id}>
                    <td class="wrap">{visible(x.user_agent)}</td>
                    <td>{visible(x.ip)}</td>
                    <td>
                      <When at={x.created_at} />
                    </td>
                    <td>
                      <When at={x.expires_at} />
                    </td>
                    <td class="acts">
                      <Button kind="quiet" class="small" onClick={() => void end(x)}>
                        End it
                      </Button>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
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
      {current.id === "keys" ? <Keys /> : current.id === "secrets" ? <Secrets /> : current.id === "sessions" ? <Sessions /> : <Password />}
    </section>
  );
}
