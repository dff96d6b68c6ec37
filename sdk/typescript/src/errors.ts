/* What can go wrong, one class a kind. Everything that this package throws on purpose is a `CagedError`.
 *
 * An answer of the server that is an error becomes a `CagedAPIError` of the class that fits its status and the
 * stable code of its `reason`; what the server said is kept whole in `problem`. */

/** The base of all of them. */
export class CagedError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The server could not be reached, or the connection broke before the whole answer was there. */
export class CagedConnectionError extends CagedError {}

/** No whole answer within `timeout` milliseconds. What was asked for may have happened all the same. */
export class CagedTimeoutError extends CagedError {
  constructor(
    readonly timeout: number,
    what = "the request",
  ) {
    super(`${what}: no answer within ${timeout} ms`);
  }
}

/** The error member of a JSON-RPC answer. */
export class MCPError extends CagedError {
  constructor(
    readonly code: number,
    message: string,
    readonly data?: unknown,
  ) {
    super(`${message} (${code})`);
  }
}

/** Why the server refused: `code` is stable and fit for programs, `action` says what helps. */
export interface Reason {
  code: string;
  message: string;
  action?: string;
  subject_type?: string;
  subject_id?: string;
}

export interface Refusal {
  status: number;
  text: string;
  /** Milliseconds that the server asks to wait. */
  retryAfter?: number;
  requestId?: string;
}

/** An answer that is not a success. */
export class CagedAPIError extends CagedError {
  /** The HTTP status. */
  readonly status: number;
  /** The body as it came. */
  readonly text: string;
  /** The problem document, or what an older server sent; {} when it was no object. */
  readonly problem: Record<string, unknown>;
  readonly body: Record<string, unknown>;
  /** The sentence for people. */
  readonly detail: string;
  /** The classified refusal, if there is one. */
  readonly reason: Reason | undefined;
  /** Milliseconds that the server asks to wait. */
  readonly retryAfter: number | undefined;
  /** What the server's log calls the request. */
  readonly requestId: string | undefined;

  constructor(refusal: Refusal) {
    const problem = objectIn(refusal.text);
    const detail = detailOf(refusal, problem);
    super(detail);
    this.status = refusal.status;
    this.text = refusal.text;
    this.problem = problem;
    this.body = problem;
    this.detail = detail;
    this.reason = reasonIn(problem);
    this.retryAfter = refusal.retryAfter;
    this.requestId = refusal.requestId;
  }

  /** The stable code of the reason. */
  get code(): string | undefined {
    return this.reason?.code;
  }
}

/** 400 or 422: the request is not one. */
export class ValidationError extends CagedAPIError {}
/** 401 or 403: the key is wrong, or may not do this. */
export class AuthError extends CagedAPIError {}
/** 403 with the reason `plan_limit_reached`: a limit that the operator set. */
export class PlanLimitError extends AuthError {}
/** 404. */
export class NotFoundError extends CagedAPIError {}
/** 409: the thing is not in a state in which this can be done. */
export class ConflictError extends CagedAPIError {}
/** 429: `retryAfter` says for how long to wait. */
export class RateLimitError extends CagedAPIError {}
/** 5xx. */
export class ServerError extends CagedAPIError {}
/** 501: this server does not have that part; `reason.code` says why. */
export class NotAvailableError extends ServerError {}

/** The error of the class that fits. */
export function apiError(refusal: Refusal): CagedAPIError {
  const { status } = refusal;
  if (status === 400 || status === 422) return new ValidationError(refusal);
  if (status === 403 && reasonIn(objectIn(refusal.text))?.code === "plan_limit_reached") return new PlanLimitError(refusal);
  if (status === 401 || status === 403) return new AuthError(refusal);
  if (status === 404) return new NotFoundError(refusal);
  if (status === 409) return new ConflictError(refusal);
  if (status === 429) return new RateLimitError(refusal);
  if (status === 501) return new NotAvailableError(refusal);
  return status >= 500 ? new ServerError(refusal) : new CagedAPIError(refusal);
}

/** A text that may be a JSON object, as one. */
export function objectIn(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function detailOf(refusal: Refusal, problem: Record<string, unknown>): string {
  const { detail, title, error } = problem;
  if (typeof detail === "string" && detail) return detail;
  if (typeof title === "string" && title) return `${title} (HTTP ${refusal.status})`;
  if (typeof error === "string" && error) return error;
  return refusal.text.trim().slice(0, 1000) || `HTTP ${refusal.status}`;
}

function reasonIn(problem: Record<string, unknown>): Reason | undefined {
  const value = problem["reason"] as Record<string, unknown> | null | undefined;
  if (typeof value !== "object" || value === null || typeof value["code"] !== "string") return undefined;
  const word = (name: string) => (typeof value[name] === "string" ? (value[name] as string) : undefined);
  const found: Reason = { code: value["code"], message: word("message") ?? "" };
  for (const name of ["action", "subject_type", "subject_id"] as const) {
    const said = word(name);
    if (said !== undefined) found[name] = said;
  }
  return found;
}
