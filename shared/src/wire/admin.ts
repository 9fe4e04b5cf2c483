/** Requests and responses of the admin API (`/admin`), which operators and the `copal` command use. Public, so snake_case. */
import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import { domainName } from './inference-fields.ts'
import { jobReport } from './adaptation-jobs.ts'
import { count, modelId, time } from './identifiers.ts'
import { MAX_EVALUATE_BYTES } from './node-calls.ts'
import { pageAfter, pageLimit } from './paging.ts'
import { calibrationLength, calibrationSamples, partialSelection, patternRules } from './selection.ts'
import { trialEntry, watchEntry } from './admin-trials.ts'
import { decisionEntry } from './admin-decisions.ts'

/** Body of `POST /admin/updates`. */
export const createUpdate = z.object({
  /** May be left out while the fleet serves one model. */
  model: modelId.optional(),
  domains: boundedArray(domainName).min(1).max(64),
  /** What an update does not say here, the policy of the model says. */
  selection: partialSelection.default({}),
  samples: calibrationSamples.optional(),
  length: calibrationLength.optional(),
  seed: z.int().min(0).default(0),
})
/** A body of `POST /admin/updates`, as sent. */
export type CreateUpdate = z.input<typeof createUpdate>
/** A parsed body of `POST /admin/updates`. */
export type UpdateRequest = z.output<typeof createUpdate>

/** Body of `POST /admin/domains/:domain/mask`. */
export const createOwnMask = createUpdate.omit({ domains: true })

/** The state of an update. */
export const updateState = z.enum([
  'collecting',
  'calibrating',
  'evaluating',
  'confirming',
  'canary',
  'promoting',
  'promoted',
  'rolled_back',
  'failed',
  'cancelled',
])
/** The state of an update. */
export type UpdateState = z.output<typeof updateState>

/** The trigger of an update. */
export const updateTrigger = z.enum(['manual', 'volume', 'drift', 'schedule', 'own_mask'])
/** The trigger of an update. */
export type UpdateTrigger = z.output<typeof updateTrigger>

/** A job of an update, as the response for a single update lists it. */
const updateJob = z.object({
  kind: z.enum(['calibrate', 'evaluate']),
  state: z.enum(['queued', 'running', 'done', 'failed', 'cancelled']),
  progress: z.number().min(0).max(1),
  node: z.string().nullable(),
  created_at: time,
  started_at: time.nullable().describe('When the node took it; null while none has.'),
  reported_at: time.nullable().describe("The node's last report; of a job that is done, its end."),
})
/** A job of an update. */
export type UpdateJob = z.output<typeof updateJob>

/** An update, as `GET /admin/updates` and `GET /admin/updates/:id` return it. */
export const updateEntry = z.object({
  id: z.string(),
  model: z.string(),
  domains: z.array(z.string()),
  method: z.string(),
  pattern: z.string(),
  patterns: patternRules.describe('Patterns of single linears; empty where all have `pattern`.'),
  scope: z.enum(['row', 'matrix']),
  state: updateState,
  progress: z.number().min(0).max(1).describe('0 to 1, over the whole update.'),
  message: z.string(),
  mask_version: count.nullable(),
  parent_version: count
    .nullable()
    .describe('The mask that was active when the update collected its texts; null before.'),
  candidate: count.describe(
    'The mask of the update that was selected last, from 1: the gate may ask for two more from the same statistics.',
  ),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  trigger: updateTrigger.describe('What started it.'),
  own_domain: z
    .string()
    .nullable()
    .optional()
    .describe('The domain that gets the mask for itself; null where all domains share it.'),
  trigger_reason: z.string().describe('Why it started then; empty where an operator started it.'),
  created_at: time,
  finished_at: time.nullable(),
  ended_in: updateState
    .nullable()
    .optional()
    .describe('The state in which it failed or was cancelled; null for others, and where that is not known.'),
  job: jobReport
    .pick({ state: true, progress: true, message: true })
    .extend({
      node: z.string().nullable(),
      attempt: count.describe(
        'Above 1 where the job was restarted, because its node fell silent or came back without it.',
      ),
    })
    .nullable(),
  jobs: z
    .array(updateJob)
    .optional()
    .describe('Its jobs, oldest first. Only in the response for a single update.'),
  decisions: z
    .array(decisionEntry)
    .optional()
    .describe('What was decided and why, oldest first. Only in the response for a single update.'),
  forceable: z
    .boolean()
    .optional()
    .describe(
      'Whether an operator can force its rejected mask now. Only in the response for a single update.',
    ),
})
/** An update. */
export type UpdateEntry = z.output<typeof updateEntry>

/** Body of `POST /admin/updates/:id/force`. */
export const forceUpdate = z.strictObject({
  reason: z
    .string()
    .trim()
    .min(10, 'expected a reason of at least 10 characters, which is kept with the decision')
    .max(500),
})

/** One entry of `GET /admin/masks?model=`. */
export const maskEntry = z.object({
  model: z.string(),
  version: count,
  sha256: z.string(),
  parent_version: count.nullable(),
  method: z.string(),
  pattern: z.string(),
  scope: z.enum(['row', 'matrix']),
  sparsity: z.number(),
  churn: z
    .number()
    .nullable()
    .describe('Fraction of weights that the parent mask treats differently; null without a parent.'),
  domains: z.array(z.string()),
  bytes: count,
  pinned: z.boolean().describe('Whether its file is kept however old it is.'),
  swept_at: time
    .nullable()
    .optional()
    .describe('When its file was given up, because nothing used it; null while the file is kept.'),
  active: z.boolean(),
  previous: z.boolean(),
  canary: z.boolean().optional().describe('Whether it is the canary of its model now.'),
  shadow: z.boolean().optional().describe('Whether it is the shadow of its model now.'),
  created_at: time,
  promoted_at: time
    .nullable()
    .describe(
      'When it was first active, so that a roll-back may return to it; null if never, or if nodes could not load it.',
    ),
})
/** One entry of `GET /admin/masks`. */
export type MaskEntry = z.output<typeof maskEntry>

/** Query of `GET /admin/masks`: of the newest masks first. */
export const masksQuery = z.object({
  model: z.string().optional().describe('Id of the model. Optional if there is only one.'),
  limit: pageLimit,
  after: z.coerce
    .number()
    .int()
    .min(1)
    .optional()
    .describe('Only masks that are older than this version: `next_after` of a page.'),
})

/** Response of `PUT` and `POST /admin/masks/:sha256`. */
export const importedMask = maskEntry.extend({
  update: z
    .string()
    .optional()
    .describe('Id of the update that evaluates the mask and activates it if it passes the gate.'),
})
/** A response of `PUT /admin/masks/:sha256`. */
export type ImportedMask = z.output<typeof importedMask>

/** Response of `PUT /admin/masks/:sha256/parts/:part`. */
export const storedPart = z.object({ sha256: z.string() })

/**
 * Body of `POST /admin/rollback`: the version to return to, by default the previous one; 0 is dense. A mask that was rolled
 * back must be named.
 */
export const rollback = z.object({ model: modelId.optional(), version: z.int().min(0).optional() })
/** A parsed body of `POST /admin/rollback`. */
export type RollbackRequest = z.output<typeof rollback>

/** Response of `POST /admin/rollback`. */
export const rolledBack = z.object({ active_version: count })

/** Body of `POST /admin/evaluate`; the response is the node's newline-delimited EvaluateEvents. */
export const evaluateText = z.object({
  model: modelId.optional(),
  /** By default the active mask; 0 is dense. */
  mask_version: z.int().min(0).optional(),
  text: z.string().min(1).max(MAX_EVALUATE_BYTES),
  window_tokens: z.int().min(16).max(32768).default(1024),
  max_windows: z.int().min(1).optional(),
})

/** Live drift of one domain and mask, measured on sampled traffic. Means are nats a token; `gap = nll_masked − nll_dense`. */
const driftEntry = z.object({
  domain: z
    .string()
    .describe(
      '`(other)` sums the domains that are neither registered nor among the first 64 of their tenant.',
    ),
  mask_version: count,
  requests: count,
  tokens: count,
  nll_masked: z.number(),
  nll_dense: z.number(),
  gap: z.number().describe('`nll_masked` minus `nll_dense`, nats a token: the cost of pruning.'),
})
/** Live drift of one domain and mask. */
export type DriftEntry = z.output<typeof driftEntry>

const earlierMask = z.object({
  mask_version: count,
  perplexity: z.number(),
  difference: z.number().describe('Perplexity under the active mask minus this one; positive is forgetting.'),
})

const forgetting = z.object({
  domain: z.string(),
  holdout_version: count.nullable(),
  first: earlierMask
    .nullable()
    .describe('The first mask that learned the domain; null if it was not evaluated on this version.'),
  best: earlierMask.nullable().describe('The best mask before the active one.'),
  active: z.number().describe('Perplexity under the active mask.'),
})

/** Query of `GET /admin/drift`: a page is of domains, by name. */
export const driftQuery = z.object({
  model: z.string().optional().describe('Id of the model. Optional if there is only one.'),
  limit: pageLimit.default(100).describe('Largest number of domains of the page.'),
  after: pageAfter,
  mask_version: z.coerce
    .number()
    .int()
    .min(1)
    .optional()
    .describe('Instead of the newest masks only this one, beside dense and the active one.'),
})

/**
 * Response of `GET /admin/drift`, for the domains of a page. `r` is the R matrix of held-out perplexities: `perplexity[stage][domain]` after
 * each mask, null where it was not measured on the holdout version of the column, or with other numerics. A positive `backward_transfer` is forgetting.
 */
export const driftReport = z.object({
  model: z.string(),
  active_version: count,
  traffic: z
    .array(driftEntry)
    .describe('Of each domain the newest 100 masks (or the named one), the active one and dense.'),
  r: z.object({
    domains: z.array(z.string()),
    stages: z
      .array(z.object({ mask_version: count, calibrated_domains: z.array(z.string()) }))
      .describe(
        'Dense (version 0) first, then the newest 100 masks (or the named one) in the order of promotion, and the active one.',
      ),
    earlier_stages: count.optional().describe('Promoted masks that are left out.'),
    perplexity: z.array(z.array(z.number().nullable())),
    holdouts: z
      .array(z.object({ domain: z.string(), version: count.nullable(), sha256: z.string() }))
      .default([])
      .describe(
        'The holdout version of each column: the newest with most stages of those that the active mask (or the named one) was evaluated on. `version` is null if its texts were deleted.',
      ),
    backward_transfer: z
      .object({ mean: z.number(), max: z.number() })
      .nullable()
      .describe('Over the differences to the first masks in `forgetting`, of the domains of all pages.'),
    forgetting: z
      .array(forgetting)
      .default([])
      .describe('Domains that were learned before the active mask. Each is compared on one holdout version.'),
  }),
  next_after: z.string().nullable().optional().describe('`after` of the next page; null on the last.'),
})
/** A response of `GET /admin/drift`. */
export type DriftReport = z.output<typeof driftReport>

/** One entry of `GET /admin/nodes`. */
export const nodeEntry = z.object({
  id: z.string(),
  url: z.string(),
  model: z.string(),
  alive: z.boolean(),
  draining: z.boolean().describe('Takes no new requests, because it is stopping or an operator drains it.'),
  drained_by_operator: z.boolean().describe('An operator drains it, until it is undrained or has left.'),
  active_version: count,
  weight_sets: z.array(
    z.object({
      version: count,
      state: z.string(),
      requests: count,
      bytes: count.nullable().optional().describe('Bytes that it takes in memory.'),
      form: z
        .string()
        .nullable()
        .optional()
        .describe(
          "How its pruned weights are stored: 'packed', 'dense' (with zeros) or 'both'; null if nothing is pruned.",
        ),
      form_reason: z.string().nullable().optional().describe('Why the node stores them so.'),
      error: z.string().nullable().optional().describe('Why the node could not load it.'),
    }),
  ),
  weight_memory: z
    .object({
      budget_bytes: count.describe('Memory for all of its weight sets.'),
      free_bytes: count,
      unheld: z
        .array(z.object({ version: count, bytes: count }))
        .describe(
          'Weight sets that it should hold but has no memory for. It loads one when it has to serve.',
        ),
    })
    .nullable()
    .optional()
    .describe('Null from older nodes. Sizes of sets that it has not loaded are estimates.'),
  kv_tokens_used: count.optional().describe('Tokens of key/value cache in use.'),
  kv_tokens_total: count.optional(),
  device: z.string().nullable().optional().describe('What it runs on; null from older nodes.'),
  tokens_per_second: z.number().nullable().optional().describe('Tokens generated, over the last seconds.'),
  running: count,
  waiting: count,
  leases: count.describe('Requests dispatched to it that are not settled yet.'),
  seen_ms_ago: z.number(),
  last_failed_job: z
    .object({
      at: z.iso.datetime(),
      job: z.string().describe('Id of the job, which begins with that of its update.'),
      code: z.string(),
      reason: z.string(),
    })
    .nullable()
    .optional()
    .describe(
      'The last job of an update that failed on it for a reason that may be its own, such as a full disk. Only in `GET /admin/nodes`.',
    ),
})
/** One entry of `GET /admin/nodes`. */
export type NodeEntry = z.output<typeof nodeEntry>

/** Response of `GET /admin/status`. */
export const statusReport = z.object({
  version: z.string(),
  models: z.array(
    z.object({
      id: z.string(),
      active_version: count,
      previous_version: count.nullable(),
      sparsity: z.number(),
      context_length: count,
      converged: z
        .boolean()
        .describe('At least one node serves the model, and all that do serve `active_version`.'),
      canary: trialEntry.nullable(),
      shadow: trialEntry.nullable(),
      watch: watchEntry.nullable(),
    }),
  ),
  nodes: z.array(nodeEntry),
  updates_running: count,
})
/** A response of `GET /admin/status`. */
export type StatusReport = z.output<typeof statusReport>
