// What the server wanted to tell, and the ways on which it tells it.
import { useState } from "preact/hooks";
import { ApiError, get, send } from "../lib/api";
import { visible } from "../lib/format";
import { countUnread, unread } from "../lib/notify";
import { useStore } from "../lib/store";
import { useLoad, useTitle } from "../lib/use";
import { Button, Empty, Failure, Field, Loading, toast, When } from "../ui/parts";

interface Notification {
  id: string;
  alert_id: string | null;
  channel: string;
  title: string;
  message: string;
  read: boolean;
  created_at: string;
  sandbox_id?: string | null;
}
interface Config {
  enabled_channels?: string[];
  email_address?: string | null;
  slack_channel_id?: string | null;
  slack_webhook_configured?: boolean;
  slack_webhook_hint?: string | null;
  discord_webhook_configured?: boolean;
  discord_webhook_hint?: string | null;
  webhook_configured?: boolean;
  webhook_hint?: string | null;
  webhook_secret_configured?: boolean;
  webhook_secret_hint?: string | null;
  /** The operator has set a mail server. */
  email_possible?: boolean;
}

const CLEAR = "__clear__";

function Channels() {
  const config = useLoad((signal) => get<Config>("/v1/notifications/config", undefined, signal), []);
  const [texts, setTexts] = useState<Record<string, string>>({});
  const [busy, setBusy] = useState(false);
  if (config.error) return config.error instanceof ApiError && config.error.absent ? null : <Failure error={config.error} retry={config.reload} />;
  const c = config.data;
  if (!c) return <Loading what="channels" />;
  const on = new Set(c.enabled_channels ?? []);
  const put = async (change: object, done: string) => {
    setBusy(true);
    try {
      await send("PUT", "/v1/notifications/config", change);
      toast(done);
      setTexts({});
      config.reload();
    } catch (e) {
      toast((e as Error).message, "bad");
    }
    setBusy(false);
  };
  const toggle = (name: string, to: boolean) => {
    const next = new Set(on);
    if (to) next.add(name);
    else next.delete(name);
    void put({ enabled_channels: [...next] }, to ? `${title(name)} is on` : `${title(name)} is off`);
  };
  const sendTest = async () => {
    setBusy(true);
    try {
      await send("POST", "/v1/notifications/test", {});
      toast("A test is on its way on every channel that is on");
    } catch (e) {
      toast((e as Error).message, "bad");
    }
    setBusy(false);
  };
  const channel = (name: string, field: string | null, hint: string, configured: boolean, shown?: string | null, off?: string | null) => (
    <li key={field ?? name} class="channel">
      <label class="check">
        {field !== "webhook_secret" && (
          <input type="checkbox" checked={on.has(name)} disabled={busy || !!off} onChange={(e) => toggle(name, e.currentTarget.checked)} />
        )}
        <strong>{field === "webhook_secret" ? "Secret of the webhook" : title(name)}</strong>
        {field && <span class={`chip small ${configured ? "ok" : ""}`}>{configured ? `set ${shown ?? ""}` : "not set"}</span>}
        {off && <span class="dim small">{off}</span>}
      </label>
      {field && (
        <form
          class="row"
          onSubmit={(e) => {
            e.preventDefault();
            if (texts[field]) void put({ [field]: texts[field] }, `${title(name)} is set`);
          }}
        >
          <Field label={hint}>
            {(id) => <input id={id} value={texts[field] ?? ""} spellcheck={false} autocomplete="off" onInput={(e) => setTexts({ ...texts, [field]: e.currentTarget.value.trim() })} />}
          </Field>
          <Button type="submit" disabled={!texts[field] || busy}>
            Set
          </Button>
          {configured && (
            <Button kind="quiet" disabled={busy} onClick={() => void put({ [field]: CLEAR }, `${title(name)} is cleared`)}>
              Clear
            </Button>
          )}
        </form>
      )}
    </li>
  );
  return (
    <div class="card">
      <header>
        <h2 class="grow">Channels</h2>
        <Button class="small" disabled={busy} onClick={() => void sendTest()}>
          Send a test
        </Button>
      </header>
      <ul class="plain-list">
        {channel("in_app", null, "", true)}
        {channel("email", "email_address", "Address", !!c.email_address, c.email_address, c.email_possible === false ? "the operator has set no mail server" : null)}
        {channel("slack", "slack_webhook_url", "Webhook of Slack", !!c.slack_webhook_configured, c.slack_webhook_hint)}
        {channel("discord", "discord_webhook_url", "Webhook of Discord", !!c.discord_webhook_configured, c.discord_webhook_hint)}
        {c.webhook_configured !== undefined && channel("webhook", "webhook_url", "URL that gets each alert, signed", c.webhook_configured, c.webhook_hint)}
        {c.webhook_secret_configured !== undefined && channel("webhook", "webhook_secret", "Secret that it is signed with, 16 characters or more", c.webhook_secret_configured, c.webhook_secret_hint)}
      </ul>
    </div>
  );
}

function title(name: string): string {
  return { in_app: "In this dashboard", email: "E-mail", slack: "Slack", discord: "Discord", webhook: "Webhook" }[name] ?? name;
}

export function NotificationsPage() {
  useTitle("Notifications");
  const waiting = useStore(unread);
  const [only, setOnly] = useState(false);
  const list = useLoad((signal) => get<{ notifications: Notification[]; unread_count: number }>("/v1/notifications", { limit: 100, unread: only || undefined }, signal), [only], 15_000);
  const read = async (path: string) => {
    try {
      await send("POST", path);
      list.reload();
      void countUnread();
    } catch (e) {
      toast((e as Error).message, "bad");
    }
  };
  const absent = list.error instanceof ApiError && list.error.absent;
  return (
    <section class="page">
      <div class="page-head">
        <h1>Notifications</h1>
        <span class="grow" />
        <div class="segments" role="group" aria-label="Which notifications">
          <button type="button" aria-pressed={!only} onClick={() => setOnly(false)}>
            All
          </button>
          <button type="button" aria-pressed={only} onClick={() => setOnly(true)}>
            Unread <span class="dim">{waiting ?? 0}</span>
          </button>
        </div>
        {!!waiting && <Button onClick={() => void read("/v1/notifications/read-all")}>Mark all as read</Button>}
      </div>
      {absent ? (
        <Empty icon="bell" title="This server sends no notifications" />
      ) : list.error ? (
        <Failure error={list.error} retry={list.reload} />
      ) : !list.data ? (
        <Loading what="notifications" />
      ) : list.data.notifications.length === 0 ? (
        <Empty icon="check" title={only ? "All read" : "Nothing yet"}>
          <p>Budgets that run out, agents that are stuck, errors and low trust are told here. What is worth telling is set under Trust.</p>
        </Empty>
      ) : (
        <ul class="card plain-list">
          {list.data.notifications.map((n) => (
            <li key={n.id} class={n.read ? "faded" : "unread"}>
              <div class="grow">
                <strong class="wrap">{visible(n.title)}</strong>
                <span class="sub wrap">{visible(n.message)}</span>
              </div>
              {n.sandbox_id && <a href={`/sandboxes/${n.sandbox_id}/timeline`}>look</a>}
              <span class="dim small nowrap">
                <When at={n.created_at} />
              </span>
              {!n.read && (
                <Button class="small" aria-label={`Mark as read: ${visible(n.title)}`} onClick={() => void read(`/v1/notifications/${n.id}/read`)}>
                  Read
                </Button>
              )}
            </li>
          ))}
        </ul>
      )}
      {!absent && <Channels />}
    </section>
  );
}
