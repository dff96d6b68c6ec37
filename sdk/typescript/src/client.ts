/* A server of Caged, as one API key sees it. */
import { Account, Secrets, Teams } from "./account.js";
import type { Answer, Template, Ticket } from "./api.js";
import { Events } from "./events.js";
import { Files } from "./files.js";
import { Alerts, Billing, Notifications, Sessions } from "./observe.js";
import { Sandboxes } from "./sandboxes.js";
import { Snapshots } from "./snapshots.js";
import { Transport, type ClientOptions } from "./transport.js";

export class Caged {
  readonly #t: Transport;
  readonly sandboxes: Sandboxes;
  readonly files: Files;
  readonly snapshots: Snapshots;
  readonly account: Account;
  readonly secrets: Secrets;
  readonly teams: Teams;
  readonly sessions: Sessions;
  readonly events: Events;
  readonly alerts: Alerts;
  readonly notifications: Notifications;
  readonly billing: Billing;

  constructor(options: ClientOptions = {}) {
    const t = (this.#t = new Transport(options));
    this.sandboxes = new Sandboxes(t);
    this.files = new Files(t);
    this.snapshots = new Snapshots(t);
    this.account = new Account(t);
    this.secrets = new Secrets(t);
    this.teams = new Teams(t);
    this.sessions = new Sessions(t);
    this.events = new Events(t);
    this.alerts = new Alerts(t);
    this.notifications = new Notifications(t);
    this.billing = new Billing(t);
  }

  get baseUrl(): string {
    return this.#t.baseUrl;
  }

  health(): Promise<Answer<"health">> {
    return this.#t.json("GET", "/health");
  }

  /** What sandboxes can be made of, and why not. */
  templates(): Promise<Template[]> {
    return this.#t.json("GET", "/v1/templates");
  }

  /** A ticket for one WebSocket handshake of your own. */
  socketTicket(): Promise<Ticket> {
    return this.#t.json("POST", "/v1/auth/socket-ticket", { idempotent: true });
  }
}
