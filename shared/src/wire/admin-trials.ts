/** What operators and the `copal` command say to the gateway about masks on trial. snake_case: it is an edge. */
import { z } from 'zod'
import { modelId } from './node-rpc.ts'

/** `PUT /admin/canary` and `PUT /admin/shadow`. Strict: a field that is misspelt would try another share than was meant. */
export const startTrial = z.strictObject({
  /** Left out when the fleet serves one model. */
  model: modelId.optional(),
  /** A registered mask that is not active; 0 is dense. */
  mask_version: z.int().min(0),
  share: z
    .number()
    .gt(0, "a share above 0 is expected; to end it, use 'DELETE'")
    .max(1, 'a share of at most 1 is expected: 0.1 is a tenth'),
})
export type StartTrial = z.output<typeof startTrial>

const count = z.int().min(0)
const mean = z.number().nullable()

/** A mask on trial beside the active one. */
export const trialEntry = z.object({ mask_version: count, share: z.number(), since: z.iso.datetime() })
export type TrialEntry = z.output<typeof trialEntry>

/** Which nodes can take part. */
const trialNodes = z.object({
  ready: count.describe('That hold the mask, of those that are alive.'),
  alive: count,
  errors: z.array(z.object({ node: z.string(), message: z.string() })).describe('Why others do not.'),
})
export type TrialNodes = z.output<typeof trialNodes>

/** What one mask answered since a trial began. */
const versionTraffic = z.object({
  mask_version: count,
  requests: count,
  failed: count.describe('Of these, that ended in an error.'),
  prompt_tokens: count,
  completion_tokens: count,
  time_to_first_token_ms: mean.describe('Mean; null without a request that has one.'),
  total_ms: mean,
  scored_tokens: count.describe("Of sampled requests: the client's own text."),
  nll_masked: mean.describe('Nats a token; null while nothing was scored.'),
  nll_dense: mean,
})
export type VersionTraffic = z.output<typeof versionTraffic>

/** `GET /admin/canary?model=` */
export const canaryReport = z.object({
  model: z.string(),
  active_version: count,
  canary: trialEntry.nullable(),
  keys: z
    .object({ chosen: count, all: count })
    .nullable()
    .describe('API keys that it answers, of all; null without one.'),
  nodes: trialNodes.nullable(),
  versions: z.array(versionTraffic).describe('Of the active mask and the one on trial, since that began.'),
})
export type CanaryReport = z.output<typeof canaryReport>

/** Mean negative log-likelihood of the same tokens under two masks. */
const shadowMeans = z.object({
  tokens: count,
  nll_active: mean.describe('Nats a token; null of no tokens.'),
  nll_shadow: mean,
})
export type ShadowMeans = z.output<typeof shadowMeans>

/** `GET /admin/shadow?model=` */
export const shadowReport = z.object({
  model: z.string(),
  active_version: count,
  shadow: trialEntry.nullable(),
  nodes: trialNodes.nullable(),
  domains: z
    .array(
      z.object({
        domain: z.string().describe('`(other)`: all that are not registered.'),
        requests: count,
        prompt: shadowMeans.describe("What clients asked, with what the model's template adds."),
        answer: shadowMeans.describe('What the active mask answered, which flatters it.'),
      }),
    )
    .describe('Of the sampled requests in the share that the active mask answered since it began.'),
})
export type ShadowReport = z.output<typeof shadowReport>

/** Answer of `DELETE /admin/canary` and `DELETE /admin/shadow`. */
export const endedTrial = z.object({ model: z.string(), ended: z.boolean().describe('There was one.') })
