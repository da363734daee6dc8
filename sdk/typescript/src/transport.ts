/**
 * Requests and their attempts. Tried again: a connection that failed, 429 and 503 by their `Retry-After`, and 502 and
 * 504, which a proxy says. A request that makes something carries one Idempotency-Key through all attempts, so that the
 * server does it once; one that cannot carry a key is not sent again once it may have arrived.
 */

import { type APIError, ConnectionFailed, CustomhouseError, errorOf, QuotaExceeded, UnexpectedAnswer } from "./errors.js";

export const VERSION = "0.1.0";

/** What is to be waited for longer is for the caller to decide: the error is thrown at once. */
const LONGEST_WAIT_MS = 60_000;
const FIRST_WAIT_MS = 500;

/** Of every method. */
export interface RequestOptions {
  signal?: AbortSignal | undefined;
}

export interface Options {
  /** From CUSTOMHOUSE_API_KEY when it is not given, where there is an environment. */
  apiKey?: string;
  /** From CUSTOMHOUSE_BASE_URL, or http://127.0.0.1:8000. */
  baseUrl?: string;
  /** For each attempt: 60,000 ms. */
  timeoutMs?: number;
  /** Attempts after the first: 3. */
  retries?: number;
  /** Instead of the global one. */
  fetch?: typeof fetch;
}

/** What is asked. */
export interface Call {
  verb: "GET" | "POST" | "PUT" | "DELETE";
  path: string;
  query?: Record<string, string | number | undefined>;
  json?: Record<string, unknown>;
  form?: FormData;
  raw?: BodyInit;
  headers?: Record<string, string>;
  /** Statuses that are no success and answer the same. */
  also?: number[];
  /** Sent twice it would do harm. */
  isOnce?: boolean;
}

export class Transport {
  readonly #key: string;
  readonly #base: string;
  readonly #timeoutMs: number;
  readonly #retries: number;
  readonly #fetch: typeof fetch;

  constructor(options: Options) {
    const environ = environment();
    const key = options.apiKey ?? environ["CUSTOMHOUSE_API_KEY"];
    if (!key) throw new CustomhouseError("no key: give apiKey, or set CUSTOMHOUSE_API_KEY");
    const base = options.baseUrl ?? environ["CUSTOMHOUSE_BASE_URL"] ?? "http://127.0.0.1:8000";
    if (!/^https?:\/\//.test(base)) {
      throw new CustomhouseError(`baseUrl must begin with http:// or https://, not be '${base}'`);
    }
    this.#key = key.trim();
    this.#base = base.replace(/\/+$/, "");
    this.#timeoutMs = options.timeoutMs ?? 60_000;
    this.#retries = options.retries ?? 3;
    this.#fetch = options.fetch ?? ((...args) => globalThis.fetch(...args));
  }

  /** The answer, as JSON; undefined where there is none. Throws what errors.ts has. */
  async send<T>(call: Call, options: RequestOptions = {}): Promise<T> {
    return this.#tried(call, options, this.#timeoutMs, async (response) => {
      const text = await response.text();
      if (response.status === 204) return undefined as T;
      try {
        return JSON.parse(text) as T;
      } catch (cause) {
        throw new UnexpectedAnswer(`${call.verb} ${call.path} answered ${response.status} with what is no JSON`, { cause });
      }
    });
  }

  /** The answer's pieces as they come. After `silenceMs` without one the connection is dead. */
  async *stream(call: Call, options: RequestOptions, silenceMs: number): AsyncGenerator<Uint8Array, void, undefined> {
    const [body, limit] = await this.#tried(call, options, silenceMs, async ({ body }, limit) => [body, limit] as const, true);
    const reader = body?.getReader();
    try {
      for (;;) {
        limit.restart();
        const piece = await reader?.read();
        limit.pause(); // what the caller does with a piece is no silence
        if (piece === undefined || piece.done) return;
        yield piece.value;
      }
    } catch (cause) {
      if (options.signal?.aborted) throw options.signal.reason;
      throw new ConnectionFailed(`${call.path} broke off: ${reason(cause)}`, { cause });
    } finally {
      limit.stop();
      reader?.cancel().catch(() => undefined);
    }
  }

  /** `isHeld`: the limit goes on after the answer has begun, and is the reader's to stop. */
  async #tried<T>(
    call: Call,
    options: RequestOptions,
    timeoutMs: number,
    read: (response: Response, limit: Limit) => Promise<T>,
    isHeld = false,
  ): Promise<T> {
    for (let made = 0; ; made += 1) {
      const isLast = made >= this.#retries;
      const limit = new Limit(options.signal, timeoutMs);
      let isStopped = true;
      let waitMs = FIRST_WAIT_MS * 2 ** Math.min(made, 4) * (0.5 + Math.random() / 2);
      try {
        const response = await this.#fetch(this.#url(call), this.#init(call, limit.signal));
        if (response.ok || call.also?.includes(response.status)) {
          const answer = await read(response, limit);
          isStopped = !isHeld;
          return answer;
        }
        const error = errorOf(response.status, response.headers, await response.text());
        if (isLast || !passes(error, call, made)) throw error;
        if (error.retryAfterSeconds !== undefined) waitMs = error.retryAfterSeconds * 1000;
        if (waitMs > LONGEST_WAIT_MS) throw error;
      } catch (cause) {
        if (options.signal?.aborted) throw options.signal.reason;
        if (cause instanceof CustomhouseError) throw cause;
        if (isLast || call.isOnce) {
          const why = limit.signal.aborted ? `no answer in ${timeoutMs} ms` : reason(cause);
          const idempotencyKey = call.headers?.["Idempotency-Key"];
          throw new ConnectionFailed(`${call.verb} ${call.path}: ${why}`, { cause, idempotencyKey });
        }
      } finally {
        if (isStopped) limit.stop();
      }
      await pause(waitMs, options.signal);
    }
  }

  #url(call: Call): string {
    const query = Object.entries(call.query ?? {}).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, String(value)] as [string, string]],
    );
    return this.#base + call.path + (query.length ? `?${new URLSearchParams(query)}` : "");
  }

  #init(call: Call, signal: AbortSignal): RequestInit {
    const headers: Record<string, string> = { Authorization: `Bearer ${this.#key}`, Accept: "application/json" };
    // A browser has a name of its own, and asks the server's leave for every other header.
    if (isNode()) headers["User-Agent"] = `customhouse-client-typescript/${VERSION}`;
    if (call.json !== undefined) headers["Content-Type"] = "application/json";
    const body = call.json === undefined ? (call.form ?? call.raw ?? null) : JSON.stringify(call.json);
    return { method: call.verb, headers: { ...headers, ...call.headers }, body, signal };
  }
}

function passes(error: APIError, call: Call, made: number): boolean {
  switch (error.status) {
    case 429:
      return !(error instanceof QuotaExceeded);
    case 503:
      return true;
    case 502:
    case 504:
      return !call.isOnce;
    case 409: // our own first attempt is still at work on the server
      return made > 0 && call.headers?.["Idempotency-Key"] !== undefined;
    default:
      return false;
  }
}

/** Ends what takes too long, or what the caller gave up. */
class Limit {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #ms: number;
  readonly #forward = () => this.#controller.abort(this.#outer?.reason);
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(outer: AbortSignal | undefined, ms: number) {
    this.#outer = outer;
    this.#ms = ms;
    if (outer?.aborted) this.#forward();
    outer?.addEventListener("abort", this.#forward, { once: true });
    this.restart();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  restart(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#controller.abort(new Error(`silent for ${this.#ms} ms`)), this.#ms);
  }

  pause(): void {
    clearTimeout(this.#timer);
  }

  stop(): void {
    this.pause();
    this.#outer?.removeEventListener("abort", this.#forward);
  }
}

/** Throws the signal's reason when it is given up meanwhile. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal?.aborted) stop();
    signal?.addEventListener("abort", stop, { once: true });
  });
}

function reason(cause: unknown): string {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  return inner instanceof Error ? inner.message || inner.name : String(inner);
}

interface Surroundings {
  process?: { env?: Record<string, string | undefined>; versions?: { node?: string } };
}

function environment(): Record<string, string | undefined> {
  return (globalThis as Surroundings).process?.env ?? {};
}

function isNode(): boolean {
  return (globalThis as Surroundings).process?.versions?.node !== undefined;
}
