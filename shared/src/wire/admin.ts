/** What operators and the `copal` command say to the gateway under `/admin`. snake_case: it is an edge. */
import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import { domainName } from './inference-fields.ts'
import { jobReport, modelId, patternRules, selectionSpec } from './node-rpc.ts'
import { trialEntry } from './admin-trials.ts'

const count = z.int().min(0)
/** ISO 8601, UTC. */
const time = z.iso.datetime()

/** `POST /admin/domains/:domain/texts`: an operator's own texts for a domain, redacted and sampled like traffic. */
export const importTexts = z.object({
  texts: boundedArray(
    z
      .string()
      .min(1)
      .max(64 * 1024),
  )
    .min(1)
    .max(2_000),
})

/** Answer of `POST /admin/domains/:domain/texts`. */
export const importedTexts = z.object({
  domain: z.string(),
  texts: count,
  pieces: count.describe('Long texts are cut, so that they spread over the sample like traffic.'),
})

/** `GET /admin/domains` */
export const domainEntry = z.object({
  name: z.string(),
  samples: count.describe('Texts now in the reservoir.'),
  characters: count.describe('Of these texts.'),
  seen: count.describe('Texts that were ever offered to it.'),
  holdout_samples: count.describe('Held-out texts: never calibrated on.'),
  holdout_frozen: z.boolean().describe('They are, from the first evaluation on.'),
  calibrated_datasets: count.describe('Datasets that have entered a mask.'),
  last_sample_at: time.nullable(),
})
export type DomainEntry = z.output<typeof domainEntry>

/** Answer of `DELETE /admin/domains/:domain/samples`. */
export const deletedSamples = z.object({
  domain: z.string(),
  deleted: count.describe('Texts of the reservoir.'),
  deleted_frozen: count.describe(
    'Texts of datasets that updates have frozen; one that several have counts in each.',
  ),
})
export type DeletedSamples = z.output<typeof deletedSamples>

/** Answer of `DELETE /admin/domains/:domain`. */
export const deletedDomain = z.object({ domain: z.string(), deleted: z.literal(true) })

/** `POST /admin/updates` */
export const createUpdate = z.object({
  /** Left out when the fleet serves one model. */
  model: modelId.optional(),
  domains: boundedArray(domainName).min(1).max(64),
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
export const updateEntry = z.object({
  id: z.string(),
  model: z.string(),
  domains: z.array(z.string()),
  method: z.string(),
  pattern: z.string(),
  patterns: patternRules.describe('Of single linears; empty where all have `pattern`.'),
  scope: z.enum(['row', 'matrix']),
  state: updateState,
  progress: z.number().min(0).max(1).describe('0 to 1 over the whole update.'),
  message: z.string(),
  mask_version: count.nullable(),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  created_at: time,
  finished_at: time.nullable(),
  job: jobReport
    .pick({ state: true, progress: true, message: true })
    .extend({
      node: z.string().nullable(),
      attempt: count.describe(
        'Above 1 it was begun anew: a node had fallen silent, or come back without it.',
      ),
    })
    .nullable(),
})
export type UpdateEntry = z.output<typeof updateEntry>

/** `GET /admin/masks?model=` */
export const maskEntry = z.object({
  model: z.string(),
  version: count,
  sha256: z.string(),
  parent_version: count.nullable(),
  method: z.string(),
  pattern: z.string(),
  scope: z.enum(['row', 'matrix']),
  sparsity: z.number(),
  churn: z.number().nullable().describe('Of the weights, those that its parent decides otherwise.'),
  domains: z.array(z.string()),
  bytes: count,
  active: z.boolean(),
  previous: z.boolean(),
  created_at: time,
  promoted_at: time
    .nullable()
    .describe('When it was first active: a rollback leads to it. Null: never, or nodes could not load it.'),
})
export type MaskEntry = z.output<typeof maskEntry>

/** Answer of `PUT /admin/masks/:sha256/parts/:part`. */
export const storedPart = z.object({ sha256: z.string() })

/** `POST /admin/rollback`: to `version`, or to the previous mask; 0 is dense. */
export const rollback = z.object({ model: modelId.optional(), version: z.int().min(0).optional() })
export type RollbackRequest = z.output<typeof rollback>

/** Answer of `POST /admin/rollback`. */
export const rolledBack = z.object({ active_version: count })

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
const driftEntry = z.object({
  domain: z
    .string()
    .describe('`(other)`: all that are neither registered nor among the first 64 of their tenant.'),
  mask_version: count,
  requests: count,
  tokens: count,
  nll_masked: z.number(),
  nll_dense: z.number(),
  gap: z.number().describe('`nll_masked` minus `nll_dense`, nats a token.'),
})
export type DriftEntry = z.output<typeof driftEntry>

/**
 * `GET /admin/drift?model=`. `r` holds held-out perplexities: `perplexity[stage][domain]` after each mask,
 * null where the domain was not known then; `backward_transfer` is of COPAL.md: positive is forgetting.
 */
export const driftReport = z.object({
  model: z.string(),
  active_version: count,
  traffic: z.array(driftEntry),
  r: z.object({
    domains: z.array(z.string()),
    stages: z
      .array(z.object({ mask_version: count, calibrated_domains: z.array(z.string()) }))
      .describe('Version 0, dense, comes first; then in the order of promotion.'),
    perplexity: z.array(z.array(z.number().nullable())),
    backward_transfer: z.object({ mean: z.number(), max: z.number() }).nullable(),
  }),
})
export type DriftReport = z.output<typeof driftReport>

/** `GET /admin/nodes` */
export const nodeEntry = z.object({
  id: z.string(),
  url: z.string(),
  model: z.string(),
  alive: z.boolean(),
  draining: z.boolean().describe('It takes no new requests, by its own word or the operator’s.'),
  drained_by_operator: z.boolean().describe('Until it is undrained, or has left.'),
  active_version: count,
  weight_sets: z.array(z.object({ version: count, state: z.string(), requests: count })),
  running: count,
  waiting: count,
  leases: count.describe('Requests that it was given and that are not settled.'),
  seen_ms_ago: z.number(),
})
export type NodeEntry = z.output<typeof nodeEntry>

/** `GET /admin/status` */
export const statusReport = z.object({
  version: z.string(),
  models: z.array(
    z.object({
      id: z.string(),
      active_version: count,
      previous_version: count.nullable(),
      sparsity: z.number(),
      context_length: count,
      converged: z.boolean().describe('There are serving nodes, and all of them serve `active_version`.'),
      canary: trialEntry.nullable(),
      shadow: trialEntry.nullable(),
    }),
  ),
  nodes: z.array(nodeEntry),
  updates_running: count,
})
export type StatusReport = z.output<typeof statusReport>
