/** What operators and the `copal` command say to the gateway about masks on trial. snake_case: it is an edge. */
import { z } from 'zod'
import { modelId } from './node-rpc.ts'

/** `PUT /admin/canary`. Strict: a field that is misspelt would try another share than was meant. */
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

/** A mask on trial beside the active one. */
export interface TrialEntry {
  mask_version: number
  share: number
  since: string
}

/** Which nodes can take part. */
export interface TrialNodes {
  /** That hold the mask, of those that are alive. */
  ready: number
  alive: number
  /** Why others do not. */
  errors: { node: string; message: string }[]
}

/** What one mask answered since a trial began. */
export interface VersionTraffic {
  mask_version: number
  requests: number
  /** Of these, that ended in an error. */
  failed: number
  prompt_tokens: number
  completion_tokens: number
  /** Means, milliseconds; null without a request that has one. */
  time_to_first_token_ms: number | null
  total_ms: number | null
  /** Of sampled requests: the client's own text, nats a token; null while nothing was scored. */
  scored_tokens: number
  nll_masked: number | null
  nll_dense: number | null
}

/** `GET /admin/canary?model=` */
export interface CanaryReport {
  model: string
  active_version: number
  canary: TrialEntry | null
  /** API keys that it answers, of all; null without one. */
  keys: { chosen: number; all: number } | null
  nodes: TrialNodes | null
  /** Of the active mask and the one on trial, since that began. */
  versions: VersionTraffic[]
}
