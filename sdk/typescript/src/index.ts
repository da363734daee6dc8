export type * as answers from "./answers.js";
export type {
  Batch,
  BatchNotice,
  Job,
  JobNotice,
  JobStatus,
  Moderation,
  Progress,
  Submitted,
  Verdict,
} from "./answers.js";
export * from "./client.js";
export * from "./errors.js";
export { type Options, type RequestOptions, VERSION } from "./transport.js";
export { type GivenHeaders, verifyWebhook, type VerifyOptions } from "./webhooks.js";
