/* The account: who it is, its API keys, its login sessions, its secrets. */
import type { Account as AccountInfo, Answer, Key, Secret, Team, TeamDetail, TeamMember } from "./api.js";
import { members, type Transport } from "./transport.js";
import { segment } from "./wire.js";

export class Account {
  readonly #t: Transport;

  constructor(transport: Transport) {
    this.#t = transport;
  }

  get(): Promise<AccountInfo> {
    return this.#t.json("GET", "/v1/account");
  }

  listKeys(): Promise<Key[]> {
    return this.#t.json("GET", "/v1/account/keys");
  }

  /** A new key, whose text is shown only here. Scopes: full, sandbox, read. */
  createKey(name: string, scope = "full", options: { expires_at?: string } = {}): Promise<Answer<"createKey">> {
    return this.#t.json("POST", "/v1/account/keys", { json: members({ name, scope, ...options }) });
  }

  async revokeKey(id: string): Promise<void> {
    await this.#t.request("DELETE", `/v1/account/keys/${segment(id)}`);
  }

  /** Login sessions, as of the dashboard. */
  listSessions(): Promise<Answer<"listLoginSessions">> {
    return this.#t.json("GET", "/v1/account/sessions");
  }

  async revokeSession(id: string): Promise<void> {
    await this.#t.request("DELETE", `/v1/account/sessions/${segment(id)}`);
  }
}

/** Values that sandboxes use and never hold. */
export class Secrets {
  readonly #t: Transport;

  constructor(transport: Transport) {
    this.#t = transport;
  }

  list(): Promise<Secret[]> {
    return this.#t.json("GET", "/v1/secrets");
  }

  /** Stores or replaces it. `hosts` are where it may be sent; well-known names have defaults. */
  set(name: string, value: string, hosts?: string[]): Promise<Secret> {
    return this.#t.json("PUT", `/v1/secrets/${segment(name)}`, { json: members({ value, hosts }) });
  }

  async delete(name: string): Promise<void> {
    await this.#t.request("DELETE", `/v1/secrets/${segment(name)}`);
  }
}

/** Teams that the key's person is in; `sandboxes.create(template, { team })` makes what is a team's. */
export class Teams {
  readonly #t: Transport;

  constructor(transport: Transport) {
    this.#t = transport;
  }

  list(): Promise<Team[]> {
    return this.#t.json("GET", "/v1/teams");
  }

  create(name: string): Promise<TeamDetail> {
    return this.#t.json("POST", "/v1/teams", { json: { name } });
  }

  get(id: string): Promise<TeamDetail> {
    return this.#t.json("GET", `/v1/teams/${segment(id)}`);
  }

  async delete(id: string): Promise<void> {
    await this.#t.request("DELETE", `/v1/teams/${segment(id)}`);
  }

  members(id: string): Promise<TeamMember[]> {
    return this.#t.json("GET", `/v1/teams/${segment(id)}/members`);
  }

  /** The code, shown only here, that the account with this address joins with. */
  async invite(id: string, email: string, role = "member"): Promise<string> {
    return (await this.#t.json<{ code: string }>("POST", `/v1/teams/${segment(id)}/members`, { json: { email, role } })).code;
  }

  join(code: string): Promise<TeamDetail> {
    return this.#t.json("POST", "/v1/teams/join", { json: { code } });
  }

  /** `member` is an account or its address. */
  setRole(id: string, member: string, role: string): Promise<TeamMember> {
    return this.#t.json("PATCH", `/v1/teams/${segment(id)}/members/${segment(member)}`, { json: { role } });
  }

  async remove(id: string, member: string): Promise<void> {
    await this.#t.request("DELETE", `/v1/teams/${segment(id)}/members/${segment(member)}`);
  }

  async leave(id: string): Promise<void> {
    await this.#t.request("POST", `/v1/teams/${segment(id)}/leave`);
  }
}
