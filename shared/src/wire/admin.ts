/** What operators and the `copal` command say to the gateway under `/admin`. snake_case: it is an edge. */
import { z } from 'zod'
import { domainName } from './generation.ts'
import type { TrialEntry } from './trials.ts'
import { modelId, selectionSpec, type JobReport, type PatternRules } from './node-rpc.ts'

/** `POST /admin/domains/:domain/texts`: an operator's own texts for a domain, redacted and sampled like traffic. */
export const importTexts = z.object({
  texts: z
    .array(
      z
        .string()
        .min(1)
        .max(64 * 1024),
    )
    .min(1)
    .max(10_000),
})

/** `GET /admin/domains` */
export interface DomainEntry {
  name: string
  /** Texts now in the reservoir, their characters, and how many were ever offered to it. */
  samples: number
  characters: number
  seen: number
  /** The held-out texts: never calibrated on; frozen from the first evaluation on. */
  holdout_samples: number
  holdout_frozen: boolean
  /** Datasets that have entered a mask. */
  calibrated_datasets: number
  last_sample_at: string | null
}

/** `POST /admin/updates` */
export const createUpdate = z.object({
  /** Left out when the fleet serves one model. */
  model: modelId.optional(),
  domains: z.array(domainName).min(1).max(64),
  selection: selectionSpec.partial().default({}),
  samples: z.int().min(1).max(4096).default(16),
  length: z.int().min(16).max(32768).default(512),
  seed: z.int().min(0).default(0),
})
export type CreateUpdate = z.input<typeof createUpdate>
/** A parsed {@link CreateUpdate}. */
export type UpdateRequest = z.output<typeof createUpdate>

export const updateState = z.enum([
  'collecting',
  'calibrating',
  'evaluating',
  'promoting',
  'promoted',
  'rolled_back',
  'failed',
  'cancelled',
])
export type UpdateState = z.output<typeof updateState>

/** `GET /admin/updates[/:id]` */
export interface UpdateEntry {
  id: string
  model: string
  domains: string[]
  method: string
  pattern: string
  /** Of single linears; empty where all have `pattern`. */
  patterns: PatternRules
  scope: 'row' | 'matrix'
  state: UpdateState
  /** 0 to 1 over the whole update. */
  progress: number
  message: string
  mask_version: number | null
  error: { code: string; message: string } | null
  created_at: string
  finished_at: string | null
  job: Pick<JobReport, 'state' | 'progress' | 'message'> | null
}

/** `GET /admin/masks?model=` */
export interface MaskEntry {
  model: string
  version: number
  sha256: string
  parent_version: number | null
  method: string
  pattern: string
  scope: 'row' | 'matrix'
  sparsity: number
  churn: number | null
  domains: string[]
  bytes: number
  active: boolean
  previous: boolean
  created_at: string
}

/** `POST /admin/rollback`: to `version`, or to the previous mask; 0 is dense. */
export const rollback = z.object({ model: modelId.optional(), version: z.int().min(0).optional() })
export type RollbackRequest = z.output<typeof rollback>

/** `POST /admin/evaluate`: answers the node's newline-delimited EvaluateEvents. */
export const evaluateText = z.object({
  model: modelId.optional(),
  /** Default: the active mask. */
  mask_version: z.int().min(0).optional(),
  text: z
    .string()
    .min(1)
    .max(64 * 1024 * 1024),
  window_tokens: z.int().min(16).max(32768).default(1024),
  max_windows: z.int().min(1).optional(),
})

/** Live drift: what pruning costs on sampled traffic. Means are nats a token; `gap = nll_masked − nll_dense`. */
export interface DriftEntry {
  domain: string
  mask_version: number
  requests: number
  tokens: number
  nll_masked: number
  nll_dense: number
  gap: number
}

/**
 * `GET /admin/drift?model=`. `r` holds held-out perplexities: `perplexity[stage][domain]` after each mask,
 * null where the domain was not known then; `backward_transfer` is of COPAL.md: positive is forgetting.
 */
export interface DriftReport {
  model: string
  active_version: number
  traffic: DriftEntry[]
  r: {
    domains: string[]
    /** Version 0, dense, comes first; then in the order of promotion. */
    stages: { mask_version: number; calibrated_domains: string[] }[]
    perplexity: (number | null)[][]
    backward_transfer: { mean: number; max: number } | null
  }
}

/** `GET /admin/status` */
export interface StatusReport {
  version: string
  models: {
    id: string
    active_version: number
    previous_version: number | null
    sparsity: number
    context_length: number
    /** True when there are serving nodes, and all of them serve `active_version`. */
    converged: boolean
    canary: TrialEntry | null
  }[]
  nodes: {
    id: string
    url: string
    model: string
    alive: boolean
    draining: boolean
    active_version: number
    weight_sets: { version: number; state: string; requests: number }[]
    running: number
    waiting: number
    seen_ms_ago: number
  }[]
  updates_running: number
}
