/** The client: every route as a method. */

import type * as answers from "./answers.js";
import { ConnectionFailed, CustomhouseError, WaitTimedOut } from "./errors.js";
import { Following, SILENCE_MS } from "./progress.js";
import { type Call, type Options, pause, type RequestOptions, Transport } from "./transport.js";

/** A picture or clip: an http, https or data: address, or its bytes. In Node, a file is `await openAsBlob(path)`. */
export type Media = string | URL | Blob | ArrayBuffer | Uint8Array;
/** ISO 8601, UTC where it says no zone; or a Date. */
export type When = string | Date;
/** A job, or its id. */
export type AnyJob = string | { job_id: string };
/** A batch, or its id. */
export type AnyBatch = string | { batch_id: string };

export interface SubmitOptions extends RequestOptions {
  /** Where the result is sent, instead of the registered address. */
  webhookUrl?: string | undefined;
  /** One is made for you, and sent with every attempt. */
  idempotencyKey?: string | undefined;
}

export interface WaitOptions extends RequestOptions {
  /** 300,000 ms. */
  timeoutMs?: number;
}

export interface ListOptions extends RequestOptions {
  limit?: number;
  offset?: number;
  type?: answers.JobType;
  decision?: "pass" | "reject";
  status?: answers.JobStatus | answers.JobStatus[];
  /** How an id begins. */
  search?: string;
  /** Included. */
  from?: When;
  /** Not included. */
  to?: When;
}

export interface ModerateOptions extends RequestOptions {
  /** A slug or an id; without it the default decides. */
  policy?: string;
  language?: string;
  /** Decide anew what was decided before. */
  forceFresh?: boolean;
  metadata?: Record<string, string>;
  /** One is made for you, and sent with every attempt. */
  idempotencyKey?: string;
}

export interface EventOptions extends RequestOptions {
  limit?: number;
  /** The `next_cursor` of the page before. */
  cursor?: string;
  decision?: "allow" | "flag" | "block";
  policy?: string;
  externalId?: string;
  language?: string;
  origin?: string;
  /** Included. */
  from?: When;
  /** Not included. */
  to?: When;
}

export interface CategoryState {
  name?: string;
  /** The question; yes prohibits. */
  system_prompt?: string;
  description?: string;
  enabled?: boolean;
  applies_to?: ("image" | "prompt" | "video")[];
}

export interface NewCategory extends CategoryState {
  name: string;
  system_prompt: string;
  /** Made of the name when it is left out, and never changed. */
  slug?: string;
}

export type Example = { text: string; image?: undefined } | { image: Media; text?: undefined };

/** A Customhouse, by one key. */
export class Customhouse {
  readonly jobs: Jobs;
  readonly batches: Batches;
  readonly moderations: Moderations;
  readonly events: Events;
  readonly policies: Policies;
  readonly account: Account;
  readonly usage: Use;
  readonly config: Config;
  readonly categories: Categories;
  readonly webhooks: Webhooks;
  readonly #transport: Transport;

  constructor(options: Options = {}) {
    const transport = new Transport(options);
    this.#transport = transport;
    this.jobs = new Jobs(transport);
    this.batches = new Batches(transport);
    this.moderations = new Moderations(transport);
    this.events = new Events(transport);
    this.policies = new Policies(transport);
    this.account = new Account(transport);
    this.usage = new Use(transport);
    this.config = new Config(transport);
    this.categories = new Categories(transport);
    this.webhooks = new Webhooks(transport);
  }

  /** Whether work is accepted and done, and in sentences what is wrong. */
  health(options?: RequestOptions): Promise<answers.Health> {
    return this.#transport.send({ verb: "GET", path: "/health", also: [503] }, options);
  }
}

class Room {
  constructor(protected readonly transport: Transport) {}

  protected send<T>(call: Call, options: RequestOptions | undefined): Promise<T> {
    return this.transport.send<T>(call, options);
  }
}

export class Jobs extends Room {
  /** A text, 1 to 20,000 characters, to be screened as a prompt. */
  text(text: string, options: SubmitOptions = {}): Promise<answers.Submitted> {
    const json = given({ text, webhook_url: options.webhookUrl });
    return this.send({ verb: "POST", path: "/api/v1/moderate/text", json, headers: once(options) }, options);
  }

  /** A picture: JPEG, PNG, WebP, GIF, AVIF, BMP or TIFF, up to 10 MB. */
  image(image: Media, options: SubmitOptions = {}): Promise<answers.Submitted> {
    return this.#media("image", image, options);
  }

  /** A clip: MP4, WebM, MOV or MKV, up to 300 MB. */
  video(video: Media, options: SubmitOptions = {}): Promise<answers.Submitted> {
    return this.#media("video", video, options);
  }

  /** How it stands, and its verdict. */
  get(job: AnyJob, options?: RequestOptions): Promise<answers.Job> {
    return this.send({ verb: "GET", path: `/api/v1/job/${jobId(job)}` }, options);
  }

  /** A page of your jobs, newest first. */
  list(options: ListOptions = {}): Promise<answers.JobPage> {
    const { limit, offset, type, decision, search, from, to } = options;
    const status = Array.isArray(options.status) ? options.status.join(",") : options.status;
    const query = { limit, offset, type, decision, status, search, from: moment(from), to: moment(to) };
    return this.send({ verb: "GET", path: "/api/v1/jobs", query }, options);
  }

  /** The jobs of that time as CSV, oldest first, in pieces as they come; 366 days at most. */
  async *export(from: When, to: When, options: RequestOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    const query = { from: moment(from), to: moment(to) };
    yield* this.transport.stream({ verb: "GET", path: "/api/v1/jobs/export", query }, options, SILENCE_MS);
  }

  /** The job once it is completed or failed. Throws WaitTimedOut. */
  wait(job: AnyJob, options: WaitOptions = {}): Promise<answers.Job> {
    const isOver = (one: answers.Job) => one.status === "completed" || one.status === "failed";
    return waited(`job ${idOf(job)}`, () => this.get(job, options), isOver, options);
  }

  /** Each state as it comes, the last one completed or failed. A broken stream is taken up where it broke. */
  async *progress(job: AnyJob, options: RequestOptions = {}): AsyncGenerator<answers.Progress, void, undefined> {
    const following = new Following();
    for (;;) {
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (following.id) headers["Last-Event-ID"] = following.id;
      let broken: unknown;
      try {
        const call: Call = { verb: "GET", path: `/api/v1/job/${jobId(job)}/progress`, headers };
        for await (const piece of this.transport.stream(call, options, SILENCE_MS)) yield* following.feed(piece);
      } catch (error) {
        if (!(error instanceof ConnectionFailed)) throw error;
        broken = error;
      }
      if (following.isOver) return;
      if (!following.broke()) {
        throw new ConnectionFailed(`the progress of job ${idOf(job)} ends before the job does`, { cause: broken });
      }
      await pause(following.pauseMs, options.signal);
    }
  }

  #media(kind: "image" | "video", media: Media, options: SubmitOptions): Promise<answers.Submitted> {
    const path = `/api/v1/moderate/${kind}`;
    const extra = given({ webhook_url: options.webhookUrl });
    const call = withMedia(path, extra, { url: `${kind}_url`, file: `${kind}_file` }, media);
    return this.send({ ...call, headers: once(options) }, options);
  }
}

export class Batches extends Room {
  /** 1 to 99 texts, each under a key of yours: all are accepted or none, as one request with one webhook. */
  create(texts: Record<string, string>, options: SubmitOptions = {}): Promise<answers.SubmittedBatch> {
    const items = Object.entries(texts).map(([key, text]) => ({ key, text }));
    const json = given({ items, webhook_url: options.webhookUrl });
    return this.send({ verb: "POST", path: "/api/v1/moderate/text/batch", json, headers: once(options) }, options);
  }

  /** Its state, its counts, and each text's verdict. */
  get(batch: AnyBatch, options?: RequestOptions): Promise<answers.Batch> {
    const id = typeof batch === "string" ? batch : batch.batch_id;
    return this.send({ verb: "GET", path: `/api/v1/moderate/text/batch/${safe(id)}` }, options);
  }

  /** The batch once its last text has ended. Throws WaitTimedOut. */
  wait(batch: AnyBatch, options: WaitOptions = {}): Promise<answers.Batch> {
    return waited("the batch", () => this.get(batch, options), (one) => one.status === "completed", options);
  }
}

export class Moderations extends Room {
  /** A decision on a text of 1 to 10,000 characters, at once. An event stays, with scores and without the text. */
  create(text: string, options: ModerateOptions = {}): Promise<answers.Moderation> {
    const { policy, language, metadata } = options;
    const json = given({ modality: "text", input: text, policy, language, metadata, force_fresh: options.forceFresh });
    return this.send({ verb: "POST", path: "/v1/moderations", json, headers: once(options) }, options);
  }

  /** A decision on a picture of at most 4 MB, at once. It is a job, and is not sent again once it may have arrived. */
  image(
    image: Blob | ArrayBuffer | Uint8Array,
    options: RequestOptions & { policy?: string } = {},
  ): Promise<answers.Moderation> {
    const headers: Record<string, string> = { "Content-Type": "application/octet-stream" };
    if (options.policy !== undefined) headers["x-omnimod-policy"] = options.policy;
    const raw = image as BodyInit;
    return this.send({ verb: "POST", path: "/v1/moderations/image", raw, headers, isOnce: true }, options);
  }
}

export class Events extends Room {
  /** A page of decisions, newest first; `next_cursor` asks for the one after it. */
  list(options: EventOptions = {}): Promise<answers.EventPage> {
    const { limit, cursor, decision, policy, language, origin } = options;
    const range = { from: moment(options.from), to: moment(options.to) };
    const query = { limit, cursor, decision, policy, external_id: options.externalId, language, origin, ...range };
    return this.send({ verb: "GET", path: "/v1/events", query }, options);
  }

  /** A decision as it was answered. */
  get(eventId: string, options?: RequestOptions): Promise<answers.ModerationEvent> {
    return this.send({ verb: "GET", path: `/v1/events/${safe(eventId)}` }, options);
  }
}

export class Policies extends Room {
  /** The default first, each with the version that is in force. */
  list(options?: RequestOptions): Promise<answers.Policies> {
    return this.send({ verb: "GET", path: "/v1/policies" }, options);
  }

  /** By slug or id. */
  get(policy: string, options?: RequestOptions): Promise<answers.Policy> {
    return this.send({ verb: "GET", path: `/v1/policies/${safe(policy)}` }, options);
  }

  /** Every version that it had. */
  versions(policy: string, options?: RequestOptions): Promise<answers.PolicyVersions> {
    return this.send({ verb: "GET", path: `/v1/policies/${safe(policy)}/versions` }, options);
  }
}

export class Account extends Room {
  /** What is left of the month's decisions. */
  quota(options?: RequestOptions): Promise<answers.Quota> {
    return this.send({ verb: "GET", path: "/v1/quota" }, options);
  }

  /** Those on offer, and yours. */
  plans(options?: RequestOptions): Promise<answers.Plans> {
    return this.send({ verb: "GET", path: "/v1/plans" }, options);
  }

  /** Its standing, its plan and the rate limit that holds. */
  organisation(options?: RequestOptions): Promise<answers.Organisation> {
    return this.send({ verb: "GET", path: "/v1/org" }, options);
  }

  /** The quota, the last 24 hours, and how those who decide are. */
  overview(options?: RequestOptions): Promise<answers.Overview> {
    return this.send({ verb: "GET", path: "/v1/overview" }, options);
  }
}

export class Use extends Room {
  /** Decisions by day. `period` is a month, YYYY-MM; without one it is the present. */
  moderations(period?: string, options?: RequestOptions): Promise<answers.ModerationUsage> {
    return this.send({ verb: "GET", path: "/v1/usage", query: { period } }, options);
  }

  /** A month: totals, and every day. Any day of the month names it; without one it is the present. */
  month(billingPeriod?: When, options?: RequestOptions): Promise<answers.Usage> {
    const query = { billing_period: moment(billingPeriod)?.slice(0, 10) };
    return this.send({ verb: "GET", path: "/api/v1/usage", query }, options);
  }

  /** Jobs by type in every bucket of the period. */
  volume(period: answers.Period = "week", options?: RequestOptions): Promise<answers.Series> {
    return this.send({ verb: "GET", path: "/api/v1/usage/volume", query: { period } }, options);
  }

  /** Dollars by type in every bucket of the period. */
  cost(period: answers.Period = "week", options?: RequestOptions): Promise<answers.Series> {
    return this.send({ verb: "GET", path: "/api/v1/usage/cost", query: { period } }, options);
  }

  /** Rejected jobs by category. */
  rejections(period: "month" | "week" | "day" = "month", options?: RequestOptions): Promise<answers.Rejections> {
    return this.send({ verb: "GET", path: "/api/v1/usage/rejections", query: { period } }, options);
  }
}

export interface Checks {
  nsfw?: boolean;
  ai_adult_general?: boolean;
  underage?: boolean;
  text?: boolean;
}

export class Config extends Room {
  /** Which checks are switched off, and which there are. */
  get(options?: RequestOptions): Promise<answers.ModerationConfig> {
    return this.send({ verb: "GET", path: "/api/v1/me/moderation-config" }, options);
  }

  /** The complete new state: a check that is left out is switched on. */
  set(checks: Checks, options?: RequestOptions): Promise<answers.ModerationConfig> {
    return this.send({ verb: "PUT", path: "/api/v1/me/moderation-config", json: { ...checks } }, options);
  }

  /** Which analyzers are asked of a prompt after the blocklist, each with its threshold. */
  promptSteps(options?: RequestOptions): Promise<answers.PromptSteps> {
    return this.send({ verb: "GET", path: "/api/v1/me/prompt-steps" }, options);
  }

  /** The complete new state: an analyzer that is left out is off. */
  setPromptSteps(steps: Record<string, number>, options?: RequestOptions): Promise<answers.PromptSteps> {
    return this.send({ verb: "PUT", path: "/api/v1/me/prompt-steps", json: { steps } }, options);
  }
}

export class Categories extends Room {
  /** The built-in checks, and what answers each on this box. */
  defaults(options?: RequestOptions): Promise<answers.DefaultCategories> {
    return this.send({ verb: "GET", path: "/api/v1/me/default-categories" }, options);
  }

  /** Your own categories. */
  list(options?: RequestOptions): Promise<answers.CustomCategories> {
    return this.send({ verb: "GET", path: MINE }, options);
  }

  /** A question of your own; yes prohibits. */
  create(
    category: NewCategory,
    options: RequestOptions & { idempotencyKey?: string } = {},
  ): Promise<answers.CustomCategory> {
    return this.send({ verb: "POST", path: MINE, json: { ...category }, headers: once(options) }, options);
  }

  /** A new version; what is left out stays. */
  change(categoryId: string, state: CategoryState, options?: RequestOptions): Promise<answers.CustomCategory> {
    return this.send({ verb: "PUT", path: `${MINE}/${safe(categoryId)}`, json: { ...state } }, options);
  }

  /** Jobs keep its name and words. */
  remove(categoryId: string, options?: RequestOptions): Promise<void> {
    return this.send({ verb: "DELETE", path: `${MINE}/${safe(categoryId)}`, isOnce: true }, options);
  }

  /** Every state it had. */
  versions(categoryId: string, options?: RequestOptions): Promise<answers.CategoryVersions> {
    return this.send({ verb: "GET", path: `${MINE}/${safe(categoryId)}/versions` }, options);
  }

  /** Put a question to one text or one picture; nothing is stored. */
  tryQuestion(systemPrompt: string, example: Example, options?: RequestOptions): Promise<answers.Trial> {
    return this.send(tried(`${MINE}/try`, { system_prompt: systemPrompt }, example), options);
  }

  /** The same with a stored category, enabled or not; `systemPrompt` tries other words for it. */
  tryCategory(
    categoryId: string,
    example: Example,
    options: RequestOptions & { systemPrompt?: string } = {},
  ): Promise<answers.Trial> {
    const words = given({ system_prompt: options.systemPrompt });
    return this.send(tried(`${MINE}/${safe(categoryId)}/try`, words, example), options);
  }
}

export class Webhooks extends Room {
  /** Where verdicts are sent. */
  register(url: string, options?: RequestOptions): Promise<answers.RegisteredWebhook> {
    return this.send({ verb: "POST", path: "/api/v1/webhook/register", json: { url } }, options);
  }

  /** Send no more. */
  unregister(options?: RequestOptions): Promise<void> {
    return this.send({ verb: "DELETE", path: "/api/v1/webhook/register" }, options);
  }

  /** Which secrets sign now, by their first characters. */
  secrets(options?: RequestOptions): Promise<answers.WebhookSecrets> {
    return this.send({ verb: "GET", path: "/api/v1/me/webhook-secrets" }, options);
  }

  /** The secret to verify with; noted in the operator's audit log. */
  revealSecret(options?: RequestOptions): Promise<answers.RevealedSecret> {
    return this.send({ verb: "POST", path: "/api/v1/me/webhook-secrets/reveal" }, options);
  }

  /** A new one; the former signs too for a day. */
  rotateSecret(options?: RequestOptions): Promise<answers.RevealedSecret> {
    return this.send({ verb: "POST", path: "/api/v1/me/webhook-secrets/rotate", isOnce: true }, options);
  }
}

const MINE = "/api/v1/me/custom-categories";

/** Asked again at growing intervals, so that many waits at once stay within a minute's requests. */
async function waited<T>(
  what: string,
  look: () => Promise<T>,
  isOver: (one: T) => boolean,
  options: WaitOptions,
): Promise<T> {
  const timeoutMs = options.timeoutMs ?? 300_000;
  const ends = Date.now() + timeoutMs;
  for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 1.6, 5000)) {
    const found = await look();
    if (isOver(found)) return found;
    const left = ends - Date.now();
    if (left <= 0) throw new WaitTimedOut(`${what} was still open after ${timeoutMs} ms`);
    await pause(Math.min(pauseMs, left), options.signal);
  }
}

function given(members: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}

function once(options: { idempotencyKey?: string | undefined }): Record<string, string> {
  return { "Idempotency-Key": options.idempotencyKey ?? newKey() };
}

/** Not crypto.randomUUID: a page that came over plain http has none. */
function newKey(): string {
  const part = () => Math.random().toString(36).slice(2).padEnd(11, "0");
  return `ts-${Date.now().toString(36)}-${part()}${part()}`;
}

function tried(path: string, words: Record<string, unknown>, example: Example): Call {
  if (example.text !== undefined) return { verb: "POST", path, json: { ...words, input: example.text } };
  return withMedia(path, words, { url: "image_url", file: "image_file" }, example.image);
}

function withMedia(
  path: string,
  extra: Record<string, unknown>,
  names: { url: string; file: string },
  media: Media,
): Call {
  if (typeof media === "string" || media instanceof URL) {
    const url = String(media);
    if (!/^(https?:\/\/|data:)/i.test(url)) {
      throw new CustomhouseError("a string is an http, https or data: address; send a file as a Blob or its bytes");
    }
    return { verb: "POST", path, json: { ...extra, [names.url]: url } };
  }
  const form = new FormData();
  for (const [name, value] of Object.entries(extra)) form.set(name, String(value));
  const blob = media instanceof Blob ? media : new Blob([media as BlobPart]);
  form.set(names.file, blob, "name" in blob && typeof blob.name === "string" ? blob.name : "upload");
  return { verb: "POST", path, form };
}

function moment(when: When | undefined): string | undefined {
  return when instanceof Date ? when.toISOString() : when;
}

function idOf(job: AnyJob): string {
  return typeof job === "string" ? job : job.job_id;
}

function jobId(job: AnyJob): string {
  return safe(idOf(job));
}

/** One segment of a path, whatever it holds. */
function safe(part: string): string {
  return encodeURIComponent(part) || "%20";
}
