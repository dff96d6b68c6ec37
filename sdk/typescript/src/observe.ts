/* What was seen and what it cost: agent sessions and replay, alerts, notifications, billing. */
import type { Answer, StatementDetail, Subscription, Usage } from "./api.js";
import type * as m from "./models.js";
import { sandboxPath } from "./sandboxes.js";
import { members, type Transport } from "./transport.js";
import { segment } from "./wire.js";

export class Sessions {
  readonly #t: Transport;

  constructor(transport: Transport) {
    this.#t = transport;
  }

  /** Newest first. */
  list(options: { page?: number; perPage?: number } = {}): Promise<m.SessionPage> {
    return this.#t.json("GET", "/v1/sessions", { params: { page: options.page ?? 1, per_page: options.perPage } });
  }

  listBySandbox(sandbox: string): Promise<m.Session[]> {
    return this.#t.json("GET", sandboxPath(sandbox, "/sessions"));
  }

  get(id: string): Promise<m.Session> {
    return this.#t.json("GET", `/v1/sessions/${segment(id)}`);
  }

  /** One part of its events; go on with `afterSeq: part.next_seq` while `has_more`. */
  replay(id: string, options: { afterSeq?: number; limit?: number; type?: string } = {}): Promise<m.Replay> {
    const { afterSeq: after_seq, limit, type } = options;
    return this.#t.json("GET", `/v1/sessions/${segment(id)}/replay`, { params: { after_seq, limit, type } });
  }

  /** All of its events, part by part. */
  async *replayAll(id: string, options: { afterSeq?: number; type?: string } = {}): AsyncGenerator<m.ReplayEvent, void, undefined> {
    let afterSeq = options.afterSeq ?? 0;
    for (;;) {
      const part = await this.replay(id, { ...options, afterSeq });
      yield* part.events;
      if (!part.has_more || part.next_seq <= afterSeq) return;
      afterSeq = part.next_seq;
    }
  }

  replaySummary(id: string): Promise<m.ReplaySummary> {
    return this.#t.json("GET", `/v1/sessions/${segment(id)}/replay/summary`);
  }
}

export class Alerts {
  readonly #t: Transport;

  constructor(transport: Transport) {
    this.#t = transport;
  }

  /** Newest first. */
  list(options: { limit?: number; offset?: number } = {}): Promise<m.AlertList> {
    return this.#t.json("GET", "/v1/alerts", { params: options });
  }

  get(id: string): Promise<m.Alert> {
    return this.#t.json("GET", `/v1/alerts/${segment(id)}`);
  }

  async resolve(id: string): Promise<void> {
    await this.#t.request("POST", `/v1/alerts/${segment(id)}/resolve`, { idempotent: true });
  }

  listRules(): Promise<m.AlertRule[]> {
    return this.#t.json("GET", "/v1/alerts/rules");
  }

  updateRule(id: string, changes: { enabled?: boolean; config?: m.AlertRuleConfig }): Promise<m.AlertRule> {
    return this.#t.json("PUT", `/v1/alerts/rules/${segment(id)}`, { json: members(changes) });
  }
}

export class Notifications {
  readonly #t: Transport;

  constructor(transport: Transport) {
    this.#t = transport;
  }

  list(options: { unreadOnly?: boolean; limit?: number } = {}): Promise<m.NotificationList> {
    return this.#t.json("GET", "/v1/notifications", { params: { unread: options.unreadOnly || undefined, limit: options.limit } });
  }

  async listUnread(): Promise<m.Notification[]> {
    return (await this.list({ unreadOnly: true })).notifications;
  }

  async unreadCount(): Promise<number> {
    return (await this.#t.json<{ unread_count: number }>("GET", "/v1/notifications/unread-count")).unread_count;
  }

  async markRead(id: string): Promise<void> {
    await this.#t.request("POST", `/v1/notifications/${segment(id)}/read`, { idempotent: true });
  }

  async markAllRead(): Promise<void> {
    await this.#t.request("POST", "/v1/notifications/read-all", { idempotent: true });
  }

  getConfig(): Promise<m.NotificationConfig> {
    return this.#t.json("GET", "/v1/notifications/config");
  }

  updateConfig(changes: m.NotificationConfigUpdate): Promise<m.NotificationConfig> {
    return this.#t.json("PUT", "/v1/notifications/config", { json: members(changes) });
  }
}

export class Billing {
  readonly #t: Transport;

  constructor(transport: Transport) {
    this.#t = transport;
  }

  getSubscription(): Promise<Subscription> {
    return this.#t.json("GET", "/v1/billing/subscription");
  }

  getUsage(): Promise<Usage> {
    return this.#t.json("GET", "/v1/billing/usage");
  }

  /** By sandbox and day, by day, by sandbox, by agent or by model; days as 2026-11-28, both included. */
  exportUsage(options: { from?: string; to?: string; groupBy?: "sandbox_day" | "day" | "sandbox" | "agent" | "model" } = {}): Promise<Answer<"exportUsage">> {
    const { from, to, groupBy: group_by } = options;
    return this.#t.json("GET", "/v1/billing/usage/export", { params: { from, to, group_by } });
  }

  /** A statement for each month in which something was used, newest first. */
  listInvoices(): Promise<Answer<"listInvoices">> {
    return this.#t.json("GET", "/v1/billing/invoices");
  }

  /** One statement with its sandboxes; a month is as 2026-11. */
  getInvoice(month: string): Promise<StatementDetail> {
    return this.#t.json("GET", `/v1/billing/invoices/${segment(month)}`);
  }

  /** The address of a payment page; a server without a payment provider answers NotAvailableError. */
  async createCheckout(plan: string): Promise<string> {
    return (await this.#t.json<{ url: string }>("POST", "/v1/billing/checkout", { json: { plan_id: plan } })).url;
  }

  async createPortal(): Promise<string> {
    return (await this.#t.json<{ url: string }>("POST", "/v1/billing/portal", { json: {} })).url;
  }

  async cancel(): Promise<void> {
    await this.#t.request("POST", "/v1/billing/cancel");
  }
}
