/* Snapshots: of files, or with the guest's memory. */
import type { Answer, Snapshot } from "./api.js";
import { sandboxPath } from "./sandboxes.js";
import { members, type Transport } from "./transport.js";
import { CREATE_TIMEOUT, segment } from "./wire.js";

const at = (id: string, rest = "") => `/v1/snapshots/${segment(id)}${rest}`;

export class Snapshots {
  readonly #t: Transport;

  constructor(transport: Transport) {
    this.#t = transport;
  }

  /** Those of a sandbox, or all of the account, oldest first. */
  list(sandbox?: string): Promise<Snapshot[]> {
    return this.#t.json("GET", sandbox === undefined ? "/v1/snapshots" : sandboxPath(sandbox, "/snapshots"));
  }

  create(sandbox: string, options: { name?: string; description?: string; memory?: boolean } = {}): Promise<Snapshot> {
    return this.#t.json("POST", sandboxPath(sandbox, "/snapshots"), { json: members(options), timeout: CREATE_TIMEOUT });
  }

  get(id: string): Promise<Snapshot> {
    return this.#t.json("GET", at(id));
  }

  async delete(id: string): Promise<void> {
    await this.#t.request("DELETE", at(id));
  }

  /** Where its /workspace can be had as a .tar.gz. An address of this server needs the API key. */
  async download(id: string): Promise<Answer<"downloadSnapshot">> {
    const answer = await this.#t.json<Answer<"downloadSnapshot">>("GET", at(id, "/download"));
    return { ...answer, url: new URL(answer.url, this.#t.baseUrl + "/").href };
  }

  /** @deprecated `download` */
  downloadUrl(id: string): Promise<Answer<"downloadSnapshot">> {
    return this.download(id);
  }

  /** The .tar.gz itself, as it comes. */
  content(id: string): AsyncGenerator<Uint8Array, void, undefined> {
    return this.#t.stream(at(id, "/download/content"), { timeout: CREATE_TIMEOUT });
  }

  /** The target's files become those of the snapshot. */
  async restore(id: string, targetSandboxId: string): Promise<void> {
    await this.#t.request("POST", at(id, "/restore"), { json: { target_sandbox_id: targetSandboxId }, timeout: CREATE_TIMEOUT });
  }
}
