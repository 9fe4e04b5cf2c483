/** The node's messages to the gateway about finished requests: receipts, and responses for the cache. */
import { z } from 'zod'
import { ERROR_CASES } from '../errors.ts'
import { boundedArray } from './bounded-collections.ts'
import { attestation, count, modelId, traceparent } from './identifiers.ts'
import { domainName } from './inference-fields.ts'
import { cacheTarget } from './node-calls.ts'
import { nodeId } from './node-secret.ts'

/**
 * Whether the client's text of a request was scored for drift, and why not. `too_short`: fewer tokens than say anything.
 * `budget`: the node had no room to score it in time. `evicted`: it waited and gave way to traffic or to newer texts.
 */
export const scoringOutcome = z.enum(['scored', 'not_sampled', 'too_short', 'budget', 'evicted', 'failed'])
/** Whether the client's text of a request was scored for drift, and why not. */
export type ScoringOutcome = z.output<typeof scoringOutcome>

/** A node's account of one request. */
export const receipt = z.object({
  requestId: z.string().min(8).max(64),
  /** As in the call. */
  account: z.string().min(1).max(64).optional(),
  attestation,
  model: modelId,
  domain: domainName,
  maskVersion: count,
  promptTokens: count,
  completionTokens: count,
  /** `refused`: the request was invalid, which is no fault of the node; older nodes report it as `error`. */
  finishReason: z.enum(['stop', 'length', 'cancelled', 'refused', 'error']),
  /**
   * The code of the error that ended the request. Absent where none did, and from older nodes. A code that the reader does not know
   * is dropped, so that the receipt still settles.
   */
  errorCode: z
    .enum(ERROR_CASES.map(({ code }) => code))
    .optional()
    .catch(undefined),
  queueMs: z.number(),
  timeToFirstTokenMs: z.number().nullable(),
  totalMs: z.number(),
  /** Sampled requests: sums of negative log-likelihood, in nats, over the same `tokens` tokens of the client's text. */
  drift: z.object({ tokens: count, nllMasked: z.number(), nllDense: z.number() }).nullable(),
  /** Absent from older nodes. */
  scoring: scoringOutcome.optional(),
  /** The node's span of the request, so that its settlement ends the same trace. Never stored. */
  traceparent,
})

/** A node's account of one request. */
export type Receipt = z.output<typeof receipt>

/** Body of `POST /internal/nodes/receipts`. A node sends a batch again until it gets a response; each receipt settles once. */
export const receiptBatch = z.object({ nodeId, receipts: boundedArray(receipt).max(256) })

/** A parsed batch of receipts. */
export type ReceiptBatch = z.output<typeof receiptBatch>

/** Response of `POST /internal/nodes/receipts`: how many receipts of the batch were new. */
export const settledReceipts = z.object({ settled: count })

/** A response to a batch of receipts. */
export type SettledReceipts = z.output<typeof settledReceipts>

/** Maximum size of a cached response. */
export const MAX_CACHED_RESPONSE_BYTES = 1024 * 1024

/** Body of `POST /internal/nodes/answers`: a complete streamed response, to be stored in the response cache. */
export const cachedResponse = cacheTarget.extend({
  nodeId,
  tenant: z.string().min(1).max(128),
  maskVersion: count,
  contentType: z.string().max(128),
  body: z.string().max(MAX_CACHED_RESPONSE_BYTES),
})

/** A complete streamed response for the response cache. */
export type CachedResponse = z.output<typeof cachedResponse>

/** Response of `POST /internal/nodes/answers`. */
export const keptResponse = z.object({ kept: z.literal(true) })

/** A response to a complete streamed response. */
export type KeptResponse = z.output<typeof keptResponse>
