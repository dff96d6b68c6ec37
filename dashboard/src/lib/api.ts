// The way to the server: the token, requests, problems. Nothing else in the dashboard calls fetch.
// The token lives in this tab (sessionStorage), or on this device when the person asked for that.

const KEY = "caged.token";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
  /** The server does not have this (yet), as opposed to refusing it. */
  get absent(): boolean {
    return this.status === 404 || this.status === 405 || this.status === 501;
  }
  get offline(): boolean {
    return this.status === 0;
  }
}

let token = read();
const listeners = new Set<() => void>();

function read(): string | null {
  try {
    return sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
  } catch {
    return null; // storage is off: the token lives as long as the page
  }
}

export function signedIn(): boolean {
  return token !== null;
}

export function setToken(value: string | null, remember = false): void {
  token = value;
  try {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
    if (value) (remember ? localStorage : sessionStorage).setItem(KEY, value);
  } catch {
    // see read()
  }
  for (const tell of listeners) tell();
}

export function onToken(tell: () => void): () => void {
  listeners.add(tell);
  return () => listeners.delete(tell);
}

function query(params?: Params): string {
  const text = new URLSearchParams();
  for (const [name, value] of Object.entries(params ?? {}))
    if (value !== undefined && value !== null) text.set(name, String(value));
  return text.size ? `?${text}` : "";
}

export type Params = Record<string, string | number | boolean | undefined | null>;

interface Options {
  params?: Params;
  json?: unknown;
  body?: BodyInit;
  signal?: AbortSignal;
  token?: string | null;
}

/** The response as it is; an ApiError for everything that is not 2xx. */
export async function request(method: string, path: string, o: Options = {}): Promise<Response> {
  const headers: Record<string, string> = {};
  const using = o.token === undefined ? token : o.token;
  if (using) headers["Authorization"] = `Bearer ${using}`;
  if (o.json !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(path + query(o.params), {
      method,
      headers,
      body: o.json !== undefined ? JSON.stringify(o.json) : o.body,
      signal: o.signal,
      cache: "no-store",
    });
  } catch (cause) {
    if (o.signal?.aborted) throw cause;
    throw new ApiError(0, "offline", "The server does not answer.");
  }
  if (response.ok) return response;
  const problem = (await response.json().catch(() => ({}))) as {
    detail?: string;
    reason?: { code?: string };
  };
  // only what the current token was sent with says something about it
  if (response.status === 401 && using && using === token) setToken(null);
  throw new ApiError(
    response.status,
    problem.reason?.code ?? String(response.status),
    problem.detail ?? `The server answered ${response.status}.`,
  );
}

export async function get<T>(path: string, params?: Params, signal?: AbortSignal): Promise<T> {
  return (await (await request("GET", path, { params, signal })).json()) as T;
}

export async function getText(path: string, params?: Params, signal?: AbortSignal): Promise<string> {
  return (await request("GET", path, { params, signal })).text();
}

export async function send<T = void>(method: string, path: string, json?: unknown, params?: Params): Promise<T> {
  const response = await request(method, path, { json, params });
  return (response.status === 204 ? undefined : await response.json().catch(() => undefined)) as T;
}

/** A socket of the server; a single-use ticket stands in the URL, never the token. */
export async function socket(path: string, protocol: string): Promise<WebSocket> {
  const { ticket } = await send<{ ticket: string }>("POST", "/v1/auth/socket-ticket");
  const url = new URL(path, location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.searchParams.set("token", ticket);
  const ws = new WebSocket(url, protocol);
  ws.binaryType = "arraybuffer";
  return ws;
}
