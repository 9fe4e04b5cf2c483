/** Requests and responses of the admin API about trials: canary and shadow masks. Public, so snake_case. */
import { z } from 'zod'
import { count, modelId } from './identifiers.ts'

/** Largest share of a canary: it is compared with the conversations that the active mask answers, so some must be left. */
export const MAX_CANARY_SHARE = 0.9
/** The share of a canary, in requests and policies. */
const canaryShare = z
  .number()
  .gt(0, "expected a share above 0; to end the trial, use 'DELETE'")
  .max(
    MAX_CANARY_SHARE,
    `expected a share of at most ${MAX_CANARY_SHARE}: the canary is compared with the conversations that the active mask answers`,
  )

/** Body of `PUT /admin/shadow`. Strict: a misspelt field would start another trial than intended. */
export const startTrial = z.strictObject({
  /** May be left out while the fleet serves one model. */
  model: modelId.optional(),
  /** A registered mask that is not active; 0 is dense. A canary's was active before or has passed the gate. */
  mask_version: z.int().min(0),
  share: z
    .number()
    .gt(0, "expected a share above 0; to end the trial, use 'DELETE'")
    .max(1, 'expected a share of at most 1: 0.1 is a tenth'),
})
/** Body of `PUT /admin/canary`. */
export const startCanary = startTrial.extend({ share: canaryShare })
/** A parsed body of `PUT /admin/canary` or `PUT /admin/shadow`. */
export type StartTrial = z.output<typeof startTrial>

const mean = z.number().nullable()

/** The evidence of an update's trial when it was judged last, by the prompts that both masks scored. */
const trialEvidence = z.object({
  requests: count.describe('Requests that both masks scored.'),
  tokens: count,
  gap: mean.describe(
    'Mean loss minus that of the other mask, nats a prompt token; null while nothing is scored.',
  ),
  lower: mean.describe('Lower confidence bound of the gap, valid at every time.'),
  upper: mean,
})

/** A trial of a mask beside the active one. */
export const trialEntry = z.object({
  mask_version: count,
  share: z
    .number()
    .describe('Share of the conversations that a canary answers, or of the requests that a shadow scores.'),
  since: z.iso.datetime(),
  update_id: z.string().nullable().describe("The update that runs it; null for an operator's trial."),
  evidence: trialEvidence.nullable().describe('Of the canary of an update; null before it was judged.'),
})
/** A trial of a mask. */
export type TrialEntry = z.output<typeof trialEntry>

/** The mask that is watched after its promotion. */
export const watchEntry = z.object({
  mask_version: count,
  beside_version: count.describe('The mask before, to which the watch returns if the new one does harm.'),
  update_id: z.string(),
  since: z.iso.datetime(),
  until: z.iso.datetime(),
  evidence: trialEvidence.nullable().describe('Null before it was judged.'),
})
/** The mask that is watched after its promotion. */
export type WatchEntry = z.output<typeof watchEntry>

/** The nodes that take part in a trial. */
const trialNodes = z.object({
  ready: count.describe('Nodes that are alive and have loaded the mask.'),
  alive: count,
  errors: z
    .array(z.object({ node: z.string(), message: z.string() }))
    .describe('Why other nodes have not loaded it.'),
})
/** The nodes that take part in a trial. */
export type TrialNodes = z.output<typeof trialNodes>

/** The traffic of one mask since a trial began. */
const versionTraffic = z.object({
  mask_version: count,
  requests: count,
  failed: count.describe('Requests of these that ended in an error.'),
  prompt_tokens: count,
  completion_tokens: count,
  time_to_first_token_ms: mean.describe('Mean; null where no request has one.'),
  total_ms: mean,
  scored_tokens: count.describe("Tokens of the client's own text in sampled requests."),
  nll_masked: mean.describe('Mean, nats a token; null while nothing was scored.'),
  nll_dense: mean,
})
/** The traffic of one mask since a trial began. */
export type VersionTraffic = z.output<typeof versionTraffic>

/** Response of `GET /admin/canary?model=`. */
export const canaryReport = z.object({
  model: z.string(),
  active_version: count,
  canary: trialEntry.nullable(),
  nodes: trialNodes.nullable(),
  versions: z.array(versionTraffic).describe('Traffic of the active mask and of the canary since it began.'),
})
/** A response of `GET /admin/canary`. */
export type CanaryReport = z.output<typeof canaryReport>

/** Mean negative log-likelihood of the same tokens under two masks. */
const shadowMeans = z.object({
  tokens: count,
  nll_active: mean.describe('Mean, nats a token; null without tokens.'),
  nll_shadow: mean,
})
/** Mean negative log-likelihood of the same tokens under two masks. */
export type ShadowMeans = z.output<typeof shadowMeans>

/** Response of `GET /admin/shadow?model=`. */
export const shadowReport = z.object({
  model: z.string(),
  active_version: count,
  shadow: trialEntry.nullable(),
  nodes: trialNodes.nullable(),
  domains: z
    .array(
      z.object({
        domain: z.string().describe('`(other)` sums the domains that are not registered.'),
        requests: count,
        prompt: shadowMeans.describe("Tokens of the prompts, including the model's chat template."),
        answer: shadowMeans.describe('Tokens of the output of the active mask, which favours that mask.'),
      }),
    )
    .describe('Sampled requests in the share that the active mask answered since the shadow began.'),
})
/** A response of `GET /admin/shadow`. */
export type ShadowReport = z.output<typeof shadowReport>

/** Response of `DELETE /admin/canary` and `DELETE /admin/shadow`. */
export const endedTrial = z.object({
  model: z.string(),
  ended: z.boolean().describe('Whether there was a trial to end.'),
})
