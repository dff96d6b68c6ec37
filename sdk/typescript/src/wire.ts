/* Addresses, headers, when a request may be sent again. No I/O happens here.
 *
 * A request is sent again only when it is idempotent (GET, HEAD, PUT, DELETE, and the few POSTs that say so) and
 * the failure may pass: no connection, a broken one, 429, 502, 503, 504. The wait doubles from a quarter of a
 * second with jitter, and is as long as Retry-After says when the server says so. */
import { CagedError } from "./errors.js";

export const VERSION = "0.1.0";
export const USER_AGENT = `@caged-dev/sdk/${VERSION}`;
export const DEFAULT_URL = "http://127.0.0.1:7878";
export const DEFAULT_TIMEOUT = 30_000;
export const CREATE_TIMEOUT = 360_000;
export const EXEC_TIMEOUT = 300_000;
export const RETRIES = 3;
const LONGEST_WAIT = 30_000;
const LONGEST_TOLD = 86_400_000;

export type Scalar = string | number | boolean | null | undefined;

/** A variable of the environment, where there is one. */
export function fromEnvironment(name: string): string | undefined {
  return (globalThis as { process?: { env?: Record<string, string | undefined> } }).process?.env?.[name];
}

export function isNode(): boolean {
  return Boolean((globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node);
}

export function checkKey(key: string | undefined): string {
  const text = typeof key === "string" ? key.trim() : "";
  if (!text) throw new CagedError("an API key is needed: new Caged({ apiKey }) or the environment's CAGED_API_KEY");
  if (!/^[\x21-\x7e]+$/.test(text)) throw new CagedError("the API key holds blanks or characters that no key has");
  return text;
}

export function checkUrl(url: string): string {
  if (!/^https?:\/\/[^/?#]/.test(url) || /[?#]/.test(url) || !URL.canParse(url))
    throw new CagedError(`baseUrl is ${JSON.stringify(url)}: it has to be http://HOST[:PORT] or https://HOST[:PORT]`);
  return url.replace(/\/+$/, "");
}

/** One segment of a path. An empty one, or one of dots alone, would name another resource. */
export function segment(text: string | number): string {
  const said = String(text ?? "");
  if (/^\.*$/.test(said)) throw new CagedError(`${JSON.stringify(text)} is no identifier`);
  return encodeURIComponent(said);
}

/** "?a=b" of what is neither null nor undefined. */
export function query(params: Record<string, Scalar>): string {
  const text = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== null && value !== undefined) text.set(name, String(value));
  const said = text.toString();
  return said && "?" + said;
}

export function mayRepeat(method: string): boolean {
  return method === "GET" || method === "HEAD" || method === "PUT" || method === "DELETE";
}

export function passing(status: number): boolean {
  return status === 429 || status === 502 || status === 503 || status === 504;
}

/** Milliseconds to wait before the attempt (1 is the first repetition). */
export function pauseBefore(attempt: number, retryAfter: number | undefined): number {
  return retryAfter ?? Math.min(8000, 250 * 2 ** (attempt - 1)) * (0.5 + Math.random() / 2);
}

/** A wait that is better left to the caller. */
export function tooLong(retryAfter: number | undefined): boolean {
  return retryAfter !== undefined && retryAfter > LONGEST_WAIT;
}

/** Milliseconds of a Retry-After header: seconds, or an HTTP date. */
export function retryAfter(header: string | null): number | undefined {
  const text = header?.trim() ?? "";
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1000, LONGEST_TOLD);
  const when = text ? Date.parse(text) : NaN;
  return Number.isNaN(when) ? undefined : Math.min(Math.max(0, when - Date.now()), LONGEST_TOLD);
}
