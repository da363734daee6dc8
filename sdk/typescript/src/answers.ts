/** What the server answers, under the names that it has on the wire. Members that a later server adds are there too. */

export type JobType = "prompt" | "image" | "video" | "pre" | "post";
export type JobStatus = "queued" | "processing" | "completed" | "failed";
export type Severity = "none" | "low" | "medium" | "high" | "critical";
export type Period = "month" | "week" | "day" | "hour";

/** A job that was accepted, and is on disk. */
export interface Submitted {
  job_id: string;
  status?: string;
}

/** How a job stands. `is_prohibited` is null while it runs and when it failed: null is not "allowed". */
export interface Verdict {
  is_prohibited: boolean | null;
  /** Category → whether it was found; `custom` holds your own, by slug. */
  categories: Record<string, unknown>;
  /** Why it is prohibited, where that can be said in words. */
  reason?: string;
  /** Why it failed. */
  error_code?: string;
}

export interface Job extends Verdict {
  job_id: string;
  type: JobType;
  status: JobStatus;
  created_at: string;
  completed_at: string | null;
  /** Which version of each custom category it was asked. */
  custom_versions?: Record<string, number>;
  api_key_id?: string;
  api_key_name?: string;
  batch_id?: string;
  batch_key?: string;
}

export interface ListedJob {
  job_id: string;
  type: string;
  status: string;
  is_prohibited: boolean | null;
  created_at: string;
  completed_at: string | null;
  api_key_id?: string;
  api_key_name?: string;
  batch_id?: string;
  batch_key?: string;
}

export interface JobPage {
  jobs: ListedJob[];
  total: number;
  limit: number;
  offset: number;
}

/** How far a job is; the frame fields are there for videos only. */
export interface Progress {
  job_id: string;
  status: JobStatus;
  /** 0 to 100. */
  progress: number;
  detail?: string;
  frames_completed?: number;
  frame_count?: number;
}

export interface SubmittedBatch {
  batch_id: string;
  items: { key: string; job_id: string }[];
  status?: string;
}

export interface BatchItem extends Verdict {
  key: string;
  job_id: string;
  status: string;
  completed_at: string | null;
}

export interface Batch {
  batch_id: string;
  status: "processing" | "completed";
  counts: {
    total: number;
    queued: number;
    processing: number;
    completed: number;
    failed: number;
    prohibited: number;
  };
  items: BatchItem[];
  created_at: string;
  completed_at: string | null;
}

export interface AnalyzerResult {
  analyzer: string;
  score: number;
  severity: string;
  flagged: boolean;
  /** Entries of the word lists, never the words around them. */
  matched_tokens: string[];
}

/** A decision, made at once. */
export interface Moderation {
  id: string;
  request_id: string;
  /** allow, flag or block. */
  decision: string;
  /** allow, warn, review or block. */
  engine_action: string;
  modality: string;
  /** A `Severity`. */
  severity: string;
  scores: Record<string, number>;
  analyzer_results: AnalyzerResult[];
  policy: { id: string; version_id: string; version: number };
  provider: string;
  provider_version: string;
  /** complete, degraded or failed_closed. */
  provider_status: string;
  degraded_reason: string | null;
  routing: { mode: string; reason: string };
  language: { detected: string; confidence: number };
  provider_usage: { text_llm_credits: number };
  processing_time_ms: number;
  created_at: string;
  cache: { status: string; content_hash: string };
}

/** A decision in short. No text is kept: `content_hash` is the same for the same text under the same version. */
export interface ListedEvent {
  id: string;
  request_id: string;
  decision: string;
  engine_action: string;
  severity: string;
  modality: string;
  language: string;
  /** Which surface was asked: omnimod, openai, perspective … */
  origin: string;
  policy: { id: string; version_id: string; version: number };
  content_hash: string;
  external_id: string | null;
  api_key_id: string | null;
  job_id: string | null;
  created_at: string;
}

export interface EventPage {
  events: ListedEvent[];
  next_cursor: string | null;
}

/** The decision as it was answered, and where it came from. */
export interface ModerationEvent extends Moderation {
  origin: string;
  metadata: Record<string, string>;
  api_key_id: string | null;
  job_id: string | null;
}

/** It never changes. */
export interface PolicyVersion {
  id: string;
  version: number;
  is_active: boolean;
  analyzers: Record<
    string,
    {
      enabled: boolean;
      /** Scores from which on it warns, asks for review, blocks; null: it never does. */
      thresholds: { warn: number | null; review: number | null; block: number | null };
    }
  >;
  hash_reuse: { enabled: boolean; ttl_seconds: number };
  /** When the judge is asked, and what happens when it cannot be. */
  semantic: { mode: string; fail_mode: string; deadline_ms: number; audit_share: number; question: string };
  observe_only: boolean;
  copied_from: number | null;
  created_at: string;
}

/** A policy, with the version that is in force. */
export interface Policy {
  id: string;
  slug: string;
  name: string;
  is_default: boolean;
  version: PolicyVersion;
  created_at: string;
  updated_at: string;
}

export interface Policies {
  policies: Policy[];
}

export interface PolicyVersions {
  versions: PolicyVersion[];
}

/** A month of decisions, in UTC. */
export interface ModerationUsage {
  period: string;
  standard_requests: number;
  text_llm_credits: number;
  cache_hits: number;
  by_decision: Record<string, number>;
  daily: {
    date: string;
    requests?: number;
    allow?: number;
    flag?: number;
    block?: number;
    cache_hits?: number;
    text_llm_credits?: number;
  }[];
}

/** Decisions of this month against the plan's; null: there is no end. */
export interface Quota {
  plan_tier: string;
  monthly_request_quota: number | null;
  used: number;
  remaining: number | null;
  resets_at: string;
}

export interface Plans {
  plans: {
    slug: string;
    name: string;
    monthly_request_quota: number | null;
    rate_limit_per_minute: number;
    is_current: boolean;
    is_sold: boolean;
  }[];
}

export interface Organisation {
  id: string;
  name: string;
  status: string;
  plan_tier: string;
  rate_limit_per_minute: number;
  created_at: string;
}

export interface Overview {
  quota: Quota;
  last_24_hours: { requests: number; by_decision: Record<string, number> };
  /** How those who decide are. */
  provider: { status: string; rules: string; heads: string; judge: string };
  /** Of what was passed without the judge, how often it would have decided otherwise, by policy version. */
  sampling: { rates: SampleRate[] };
}

export interface SampleRate {
  policy_id: string;
  version_id: string;
  version: number;
  sampled: number;
  disagreed: number;
  missed: number;
  share: number;
}

/** A month, in UTC. */
export interface Usage {
  billing_period: string;
  total_tokens: number;
  total_cost_usd: number;
  total_gpu_seconds: number;
  total_jobs: number;
  passed_jobs: number;
  rejected_jobs: number;
  daily: { date: string; tokens: number; cost_usd: number; gpu_seconds: number }[];
}

/** By type in every bucket of the period: jobs, or dollars. */
export interface Series {
  period: string;
  bucket: string;
  data: { ts: string; pre: number; post: number; prompt: number; image: number; video: number }[];
}

export interface Rejections {
  period: string;
  /** Category → how many; `custom` holds your own, by slug. */
  categories: Record<string, unknown>;
}

export interface ModerationConfig {
  /** Only those that are switched off. */
  enabled_categories: Record<string, boolean>;
  /** Every check: its label, description and icon. */
  catalogue: Record<string, unknown>;
}

/** Analyzers that are asked of a prompt after the blocklist. */
export interface PromptSteps {
  /** Analyzer → the score from which on it rejects. */
  steps: Record<string, number>;
  available: { analyzer: string; by: string }[];
}

export interface DefaultCategories {
  categories: {
    slug: string;
    label: string;
    description: string;
    icon: string;
    enabled: boolean;
    answered_by: {
      by: string;
      label?: string;
      model?: string;
      question?: string;
      threshold?: number | null;
    }[];
  }[];
  count: number;
}

export interface CustomCategory {
  category_id: string;
  name: string;
  slug: string;
  description: string;
  system_prompt: string;
  enabled: boolean;
  applies_to: string[];
  version: number;
  created_at: string;
  updated_at: string;
}

export interface CustomCategories {
  categories: CustomCategory[];
  count: number;
  limit: number;
}

export interface CategoryVersions {
  versions: {
    category_id: string;
    version: number;
    change: string;
    at: string;
    name: string;
    slug: string;
    description: string;
    system_prompt: string;
    enabled: boolean;
    applies_to: string[];
  }[];
}

/** A question, put to one example. */
export interface Trial {
  is_prohibited: boolean;
  score: number;
  threshold: number;
  model: string;
  digest: string;
  device: string;
  ms: number;
}

export interface RegisteredWebhook {
  url: string;
  updated_at: string;
  /** Shown when the first address is registered. */
  secret?: string;
}

export interface WebhookSecrets {
  secrets: {
    prefix: string;
    status: "current" | "previous";
    created_at: string | null;
    expires_at: string | null;
  }[];
  tolerance_seconds: number;
  grace_hours: number;
}

export interface RevealedSecret {
  secret: string;
}

/** A delivery: a job ended. It may come twice; `delivery_id` is the same then. */
export interface JobNotice extends Verdict {
  job_id: string;
  status: "completed" | "failed";
  completed_at: string;
  delivery_id: string;
  type?: "prompt" | "image" | "video";
}

/** A delivery: the last text of a batch has ended. */
export interface BatchNotice {
  type: "text_batch";
  batch_id: string;
  status: "completed";
  items: (Verdict & { key: string; job_id: string; status: "completed" | "failed"; completed_at: string })[];
  completed_at: string;
  delivery_id: string;
}

export interface Health {
  status: string;
  version: string;
  database: string;
  queue: string;
  gpu: string;
  models: Record<string, string>;
  /** What is wrong, in sentences. */
  degraded?: string[];
}
