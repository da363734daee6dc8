/** Who sent this? Deliveries are signed by Standard Webhooks 1.0: HMAC-SHA-256 over id, time and the raw body. */

import type { BatchNotice, JobNotice } from "./answers.js";
import { WebhookRefused } from "./errors.js";

export interface VerifyOptions {
  /** How far from now a delivery may say that it was sent: 300. */
  toleranceSeconds?: number;
}

/** As fetch has them, or as node:http has. */
export type GivenHeaders = Headers | Record<string, string | string[] | undefined>;

/**
 * What was delivered: a job's verdict, or a batch's (`"batch_id" in notice`). `body` is the raw body, as it came. Throws
 * WebhookRefused when it is not signed with this secret, or not of now.
 */
export async function verifyWebhook(
  body: string | Uint8Array,
  headers: GivenHeaders,
  secret: string,
  options: VerifyOptions = {},
): Promise<JobNotice | BatchNotice> {
  const id = header(headers, "webhook-id");
  const sent = header(headers, "webhook-timestamp");
  const signatures = header(headers, "webhook-signature");
  const apart = Math.abs(Date.now() / 1000 - Number(sent));
  if (!/^\d+$/.test(sent) || apart > (options.toleranceSeconds ?? 300)) {
    throw new WebhookRefused("webhook-timestamp is not of now");
  }
  const raw = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const signed = joined(new TextEncoder().encode(`${id}.${sent}.`), raw);
  const { subtle } = await webcrypto();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await subtle.importKey("raw", bytes(secret.replace(/^whsec_/, ""), "the secret"), algorithm, false, ["verify"]);
  for (const one of signatures.split(" ")) {
    const [version, value = ""] = one.split(",");
    if (version !== "v1") continue;
    let signature: Uint8Array<ArrayBuffer>;
    try {
      signature = bytes(value, "a signature");
    } catch {
      continue;
    }
    if (await subtle.verify("HMAC", key, signature, signed)) return notice(raw);
  }
  throw new WebhookRefused("no signature of this secret's fits the body");
}

function header(headers: GivenHeaders, name: string): string {
  const plain = headers as Record<string, string | string[] | undefined>;
  const found =
    typeof headers.get === "function"
      ? (headers as Headers).get(name)
      : plain[Object.keys(plain).find((one) => one.toLowerCase() === name) ?? name];
  const value = Array.isArray(found) ? found[0] : found;
  if (!value) throw new WebhookRefused(`the header ${name} is missing`);
  return value;
}

function notice(raw: Uint8Array): JobNotice | BatchNotice {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(raw)) as JobNotice | BatchNotice;
  } catch (cause) {
    throw new WebhookRefused("the body is no delivery", { cause });
  }
}

function bytes(base64: string, what: string): Uint8Array<ArrayBuffer> {
  try {
    const text = atob(base64);
    if (text === "") throw new RangeError("it is empty");
    return Uint8Array.from(text, (character) => character.charCodeAt(0));
  } catch (cause) {
    throw new WebhookRefused(`${what} is no base64`, { cause });
  }
}

function joined(one: Uint8Array, other: Uint8Array): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(one.length + other.length);
  whole.set(one);
  whole.set(other, one.length);
  return whole;
}

/** Node 18 has it in a module only; the name is a variable, so that no bundler looks for that module. */
async function webcrypto(): Promise<{ subtle: SubtleCrypto }> {
  if (globalThis.crypto?.subtle) return globalThis.crypto;
  const module = "node:crypto";
  const found = (await import(module)) as { webcrypto: { subtle: SubtleCrypto } };
  return found.webcrypto;
}
