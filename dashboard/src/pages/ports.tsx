// Ports that programs in a sandbox listen on: their previews, who may see them, and links for a while.
import { useState } from "preact/hooks";
import { get, send } from "../lib/api";
import { local, visible } from "../lib/format";
import type { Sandbox } from "../lib/types";
import { useLoad } from "../lib/use";
import { attempt, Button, Code, confirmed, Dialog, Field } from "../ui/parts";
import { FormDialog } from "../ui/table";

interface Port {
  port: number;
  protocol: string;
  preview_url: string | null;
  protected: boolean;
  process: string | null;
}
interface Shared {
  url: string;
  path_url?: string;
  expires_at: string;
}

const POLL_MS = 4000;
const lives: [string, number][] = [
  ["an hour", 3600],
  ["a day", 86_400],
  ["a week", 604_800],
  ["30 days", 2_592_000],
];

/** A URL of the server's own making; only one of the web becomes a link. */
function isWeb(url: string | null): url is string {
  return !!url && /^https?:\/\//.test(url);
}

function ShareDialog({ s, port, close }: { s: Sandbox; port: number; close: () => void }) {
  const [life, setLife] = useState(3600);
  const [made, setMade] = useState<Shared | null>(null);
  const make = () => attempt(async () => setMade(await send<Shared>("POST", `/v1/sandboxes/${s.id}/ports/${port}/share`, { expires_in: life })), "The link is made");
  if (made)
    return (
      <Dialog title={`A link to port ${port}`} onClose={close}>
        <p>Whoever has it sees the preview without a password until {local(made.expires_at)}. A new password ends it before.</p>
        <Code label="Link" text={made.url} />
        {made.path_url && made.path_url !== made.url && (
          <>
            <p class="dim small">Where names below the server's do not resolve:</p>
            <Code label="Link by path" text={made.path_url} />
          </>
        )}
        <footer>
          <Button kind="primary" onClick={close}>
            I have it
          </Button>
        </footer>
      </Dialog>
    );
  return (
    <FormDialog title={`Share port ${port}`} submit="Make a link" onSubmit={() => void make()} onClose={close}>
      <Field label="It works for">
        {(id) => (
          <select id={id} value={String(life)} onChange={(e) => setLife(Number(e.currentTarget.value))}>
            {lives.map(([title, n]) => (
              <option key={n} value={String(n)}>
                {title}
              </option>
            ))}
          </select>
        )}
      </Field>
    </FormDialog>
  );
}

function PasswordDialog({ s, port, done }: { s: Sandbox; port: number; done: (changed: boolean) => void }) {
  const [password, setPassword] = useState("");
  const set = async () => {
    if (await attempt(() => send("POST", `/v1/sandboxes/${s.id}/ports/${port}/protect`, { password }), "Visitors are asked for the password from now on")) done(true);
  };
  return (
    <FormDialog title={`Protect port ${port}`} submit="Protect it" disabled={!password} onSubmit={() => void set()} onClose={() => done(false)}>
      <Field label="Password of the preview" hint="Visitors are asked for it. Links that were shared before stop working.">
        {(id) => <input id={id} type="password" maxLength={256} autocomplete="new-password" value={password} onInput={(e) => setPassword(e.currentTarget.value)} />}
      </Field>
    </FormDialog>
  );
}

export function Ports({ s }: { s: Sandbox }) {
  const ports = useLoad((signal) => get<Port[]>(`/v1/sandboxes/${s.id}/ports`, undefined, signal), [s.id], POLL_MS);
  const [protecting, setProtecting] = useState<number | null>(null);
  const [sharing, setSharing] = useState<number | null>(null);
  const open = async (p: Port) => {
    if (!(await confirmed(`Take the password off port ${p.port}?`, "Whoever has the preview's address sees it then.", "Take it off", true))) return;
    if (await attempt(() => send("DELETE", `/v1/sandboxes/${s.id}/ports/${p.port}/protect`), "Nobody needs a password any more")) ports.reload();
  };
  if (!ports.data?.length) return null;
  return (
    <div class="card">
      <header>
        <h2>Listening ports</h2>
      </header>
      <ul class="plain-list ports">
        {ports.data.map((p) => (
          <li key={p.port}>
            <strong class="num">{p.port}</strong>
            <span class="dim">{p.protocol}</span>
            <span class="grow cut">{visible(p.process ?? "")}</span>
            {p.protected && <span class="chip">password</span>}
            {isWeb(p.preview_url) ? (
              <>
                <Button class="small" kind="quiet" aria-label={`${p.protected ? "New password for" : "Protect"} port ${p.port}`} onClick={() => setProtecting(p.port)}>
                  {p.protected ? "New password" : "Protect"}
                </Button>
                {p.protected && (
                  <Button class="small" kind="quiet" aria-label={`Unprotect port ${p.port}`} onClick={() => void open(p)}>
                    Unprotect
                  </Button>
                )}
                <Button class="small" kind="quiet" aria-label={`Share port ${p.port}`} onClick={() => setSharing(p.port)}>
                  Share
                </Button>
                <a class="btn small" href={p.preview_url} target="_blank" rel="noopener noreferrer" aria-label={`Open port ${p.port}`}>
                  Open
                </a>
              </>
            ) : (
              <span class="dim small">no preview: not one of the web's ports</span>
            )}
          </li>
        ))}
      </ul>
      {protecting !== null && (
        <PasswordDialog
          s={s}
          port={protecting}
          done={(changed) => {
            setProtecting(null);
            if (changed) ports.reload();
          }}
        />
      )}
      {sharing !== null && <ShareDialog s={s} port={sharing} close={() => setSharing(null)} />}
    </div>
  );
}
