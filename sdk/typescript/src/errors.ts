/** Everything that this package throws: CustomhouseError and what extends it. */

/** Anything that this package throws. */
export class CustomhouseError extends Error {
  override readonly name: string = "CustomhouseError";
}

/** No answer came, after all attempts. */
export class ConnectionFailed extends CustomhouseError {
  override readonly name: string = "ConnectionFailed";
  /** What was sent along: made again with this key, the request is done once. */
  readonly idempotencyKey: string | undefined;

  constructor(message: string, options: { cause?: unknown; idempotencyKey?: string | undefined } = {}) {
    super(message, { cause: options.cause });
    this.idempotencyKey = options.idempotencyKey;
  }
}

/** An answer came that is none of Customhouse's: a proxy's page, perhaps. */
export class UnexpectedAnswer extends CustomhouseError {
  override readonly name: string = "UnexpectedAnswer";
}

/** It is still open; it goes on, and can be waited for again. */
export class WaitTimedOut extends CustomhouseError {
  override readonly name: string = "WaitTimedOut";
}

/** Not signed with this secret, or too old: do not trust the body, and answer 400. */
export class WebhookRefused extends CustomhouseError {
  override readonly name: string = "WebhookRefused";
}

/** What an error said, in our names. */
export interface Said {
  status: number;
  code: string;
  message: string;
  details: { field: string; issue: string }[];
  requestId: string | undefined;
  retryAfterSeconds: number | undefined;
  body: unknown;
}

/** The server refused. */
export class APIError extends CustomhouseError {
  override readonly name: string = "APIError";
  readonly status: number;
  /** INVALID_REQUEST …, also where the server said it in another service's words. */
  readonly code: string;
  /** Which fields, where fields are meant. */
  readonly details: { field: string; issue: string }[];
  /** What the operator finds this request by. */
  readonly requestId: string | undefined;
  /** When to try again, where the server says so. */
  readonly retryAfterSeconds: number | undefined;
  /** What was answered, as it came. */
  readonly body: unknown;

  constructor(said: Said) {
    super(`${said.status} ${said.code}: ${said.message}${said.requestId ? ` (${said.requestId})` : ""}`);
    this.status = said.status;
    this.code = said.code;
    this.details = said.details;
    this.requestId = said.requestId;
    this.retryAfterSeconds = said.retryAfterSeconds;
    this.body = said.body;
  }
}

export class InvalidRequest extends APIError {
  override readonly name: string = "InvalidRequest";
}
export class Unauthorized extends APIError {
  override readonly name: string = "Unauthorized";
}
export class PaymentRequired extends APIError {
  override readonly name: string = "PaymentRequired";
}
export class Forbidden extends APIError {
  override readonly name: string = "Forbidden";
}
export class AccountTerminated extends Forbidden {
  override readonly name: string = "AccountTerminated";
}
export class NotFound extends APIError {
  override readonly name: string = "NotFound";
}
export class JobNotFound extends NotFound {
  override readonly name: string = "JobNotFound";
}
export class BatchNotFound extends NotFound {
  override readonly name: string = "BatchNotFound";
}
export class PolicyNotFound extends NotFound {
  override readonly name: string = "PolicyNotFound";
}
export class Conflict extends APIError {
  override readonly name: string = "Conflict";
}
export class PayloadTooLarge extends APIError {
  override readonly name: string = "PayloadTooLarge";
}
export class UnsupportedMedia extends APIError {
  override readonly name: string = "UnsupportedMedia";
}
export class Unprocessable extends APIError {
  override readonly name: string = "Unprocessable";
}
export class IdempotencyKeyReused extends Unprocessable {
  override readonly name: string = "IdempotencyKeyReused";
}
export class MediaUnreachable extends Unprocessable {
  override readonly name: string = "MediaUnreachable";
}
export class RateLimited extends APIError {
  override readonly name: string = "RateLimited";
}
/** The month's moderations are used up. */
export class QuotaExceeded extends APIError {
  override readonly name: string = "QuotaExceeded";
}
export class ServerError extends APIError {
  override readonly name: string = "ServerError";
}
export class ServiceUnavailable extends ServerError {
  override readonly name: string = "ServiceUnavailable";
}

type Kind = new (said: Said) => APIError;

const BY_CODE: Record<string, Kind> = {
  ACCOUNT_TERMINATED: AccountTerminated,
  JOB_NOT_FOUND: JobNotFound,
  BATCH_NOT_FOUND: BatchNotFound,
  POLICY_NOT_FOUND: PolicyNotFound,
  IDEMPOTENCY_KEY_REUSED: IdempotencyKeyReused,
  MEDIA_UNREACHABLE: MediaUnreachable,
  QUOTA_EXCEEDED: QuotaExceeded,
};

const BY_STATUS: Record<number, [string, Kind]> = {
  400: ["INVALID_REQUEST", InvalidRequest],
  401: ["UNAUTHORIZED", Unauthorized],
  402: ["PAYMENT_REQUIRED", PaymentRequired],
  403: ["FORBIDDEN", Forbidden],
  404: ["NOT_FOUND", NotFound],
  405: ["METHOD_NOT_ALLOWED", APIError],
  409: ["CONFLICT", Conflict],
  413: ["PAYLOAD_TOO_LARGE", PayloadTooLarge],
  415: ["UNSUPPORTED_MEDIA", UnsupportedMedia],
  422: ["UNPROCESSABLE", Unprocessable],
  429: ["RATE_LIMITED", RateLimited],
  503: ["SERVICE_UNAVAILABLE", ServiceUnavailable],
};

/** The error that was answered, in whichever service's words: ours, OmniMod's or OpenAI's, by the route; or a proxy's. */
export function errorOf(status: number, headers: Headers, text: string): APIError {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined;
  }
  const said = members(body);
  const [usual, byStatus] = BY_STATUS[status] ?? (status >= 500 ? ["INTERNAL_ERROR", ServerError] : ["REFUSED", APIError]);
  const code = String(said["code"] || usual).toUpperCase();
  const details = said["details"] ?? said["errors"];
  const after = headers.get("retry-after");
  return new (BY_CODE[code] ?? byStatus)({
    status,
    code,
    message: String(said["message"] || "refused"),
    details: Array.isArray(details) ? details : [],
    requestId: headers.get("x-request-id") ?? (said["request_id"] as string | undefined),
    retryAfterSeconds: after !== null && /^\d+(\.\d+)?$/.test(after) ? Number(after) : undefined,
    body,
  });
}

function members(body: unknown): Record<string, unknown> {
  if (!isObject(body)) return {};
  if (isObject(body["detail"])) return body["detail"];
  if (typeof body["detail"] === "string") return { message: body["detail"] };
  if (isObject(body["error"])) return { message: body["error"]["message"] };
  return { ...body, code: body["error"] };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
