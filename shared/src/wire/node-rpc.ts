/**
 * The protocol between gateway and nodes. Every call in either direction is signed (`signature.ts`). Fields are camelCase,
 * because the protocol is internal.
 */
import { z } from 'zod'
import { boundedArray, boundedRecord } from './bounded-collections.ts'
import { chatRequest } from './chat.ts'
import { completionRequest } from './completions.ts'
import { DENSE } from '../mask/mask-metadata.ts'
import { patternError } from '../mask/sparsity-pattern.ts'
import { embeddingsRequest } from './embeddings.ts'
import { domainName } from './inference-fields.ts'
import { nodeId } from './node-secret.ts'
import { nodePrefixes, promptPrefixKeys } from './prefix.ts'
import { pruneMethod } from './prune-method.ts'
import { responsesRequest } from './responses.ts'

/** A SHA-256 in lower-case hex. */
export const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/, 'expected a SHA-256 in lower-case hex')
/** The id of a model, without version. */
export const modelId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/)
const count = z.int().min(0)

/** A registered mask: its version for the model, and the SHA-256 of its file. Dense (version 0) has no file. */
export const maskRef = z.object({ version: z.int().min(1), sha256: sha256Hex })
/** A registered mask. */
export type MaskRef = z.output<typeof maskRef>

/** Upper bound of the linears of a model. */
const MAX_LINEARS = 4096

/**
 * Patterns of single linears, by the name of the weight, in which `*` matches any characters. The last match counts. `dense`
 * leaves a linear out of the mask.
 */
export const patternRules = boundedRecord(
  MAX_LINEARS,
  'patterns of single linears',
  z.record(
    z.string().min(1).max(256),
    z.string().refine((text) => text === DENSE || patternError(text) === undefined, {
      error: ({ input }) => `${patternError(String(input))}, or '${DENSE}'`,
    }),
  ),
)
/** Patterns of single linears. */
export type PatternRules = z.output<typeof patternRules>

/** How a mask is selected: the method, the number of weights to keep, and whether those of a row or of a matrix compete. */
export const selectionSpec = z.object({
  method: pruneMethod,
  /** `0.5` prunes half of the weights, `2:4` keeps two of four; see `mask/sparsity-pattern.ts`. */
  pattern: z.string().refine((text) => patternError(text) === undefined, {
    error: ({ input }) => patternError(String(input)),
  }),
  /** Ignored for n:m. */
  scope: z.enum(['row', 'matrix']).default('row'),
  patterns: patternRules.optional(),
})
/** How a mask is selected. */
export type SelectionSpec = z.output<typeof selectionSpec>

// ---- gateway -> node ---------------------------------------------------------------------------

/**
 * Proof that the gateway sent a request to a node. Nodes return it unchanged with their receipts and scores, which count for
 * nothing without a valid one.
 */
const attestation = sha256Hex.optional()

/** The place of a response in the response cache: its key without the mask version, and its time to live. */
export const cacheTarget = z.object({ key: sha256Hex, ttlMs: z.int().min(1).max(86_400_000), attestation })
/** The place of a response in the response cache. */
export type CacheTarget = z.output<typeof cacheTarget>

const callFields = {
  requestId: z.string().min(8).max(64),
  domain: domainName,
  /** Whether the prompt may be scored under mask and dense weights; the receipt has the result. */
  sample: z.boolean(),
  /** The API key to name in the receipt; opaque to the node. */
  account: z.string().min(1).max(64).optional(),
  attestation,
  /** The mask version to use; 0 is dense, absent is the active one. */
  maskVersion: count.optional(),
  /** The mask version to score the response under afterwards: see {@link shadowScore}. */
  shadowVersion: count.optional(),
  /** Where the node stores a complete streamed response in the cache of `tenant`, by {@link cachedResponse}. */
  cache: cacheTarget.optional(),
  /** The tenant whose prompts may share cached prefixes; absent, nothing is shared. */
  tenant: z.string().min(1).max(128).optional(),
  /** Prefix keys of the first prompt; heartbeats report which of them the node has cached. */
  prefix: promptPrefixKeys.optional(),
}
/** Body of `POST /rpc/chat-completions`; the response is the OpenAI JSON or SSE, ready to relay. */
export const chatCall = z.object({ ...callFields, request: chatRequest })
/** A parsed body of `POST /rpc/chat-completions`. */
export type ChatCall = z.output<typeof chatCall>
/** Body of `POST /rpc/completions`. */
export const completionCall = z.object({ ...callFields, request: completionRequest })
/** A parsed body of `POST /rpc/completions`. */
export type CompletionCall = z.output<typeof completionCall>
/** Body of `POST /rpc/embeddings`. */
export const embeddingsCall = z.object({ ...callFields, request: embeddingsRequest })
/** Body of `POST /rpc/responses`. */
export const responsesCall = z.object({ ...callFields, request: responsesRequest })

/** Maximum size of a response that is not streamed: the gateway buffers several in the 128 MB of a Worker's isolate. */
export const MAX_RESPONSE_BYTES = 8 * 1024 * 1024

/**
 * Header of a response that starts before its result is known; it replaces `x-copal-mask`. A response that is not streamed
 * sends spaces until it is ready, then its JSON or an error body; a stream sends comments until its first event. The mask is
 * named by `system_fingerprint` in the JSON or the event.
 */
export const LATE_HEADER = 'x-copal-late'

/** Body of `POST /rpc/evaluate`, the perplexity of a text; the response is newline-delimited {@link EvaluateEvent}s. */
export const evaluateCall = z.object({
  model: modelId,
  /** 0 is dense; a version that the node does not know needs `mask`. */
  maskVersion: count,
  mask: maskRef.optional(),
  text: z
    .string()
    .min(1)
    .max(64 * 1024 * 1024),
  windowTokens: z.int().min(16).max(32768).default(1024),
  maxWindows: z.int().min(1).max(1_000_000).optional(),
})
/** A parsed body of `POST /rpc/evaluate`. */
export type EvaluateCall = z.output<typeof evaluateCall>
/** One line of the response of `POST /rpc/evaluate`. */
export const evaluateEvent = z.discriminatedUnion('type', [
  z.object({ type: z.literal('progress'), windowsDone: count, windowsTotal: count }),
  z.object({
    type: z.literal('result'),
    tokens: count,
    windows: count,
    nllMean: z.number(),
    perplexity: z.number(),
    maskVersion: count,
  }),
  z.object({
    type: z.literal('error'),
    error: z.object({
      message: z.string(),
      type: z.string(),
      param: z.string().nullable(),
      code: z.string(),
    }),
  }),
])
/** One line of the response of `POST /rpc/evaluate`. */
export type EvaluateEvent = z.output<typeof evaluateEvent>

// ---- node -> gateway ---------------------------------------------------------------------------

/**
 * A dataset that the gateway froze: newline-delimited {@link TextSample}s, named by its SHA-256. Each line also names its
 * domain, so that no two domains share a dataset and the texts of one domain can be deleted.
 */
export const datasetRef = z.object({ sha256: sha256Hex, domain: domainName, samples: count })
/** A dataset that the gateway froze. */
export type DatasetRef = z.output<typeof datasetRef>
/** One line of a dataset file. */
export const textSample = z.object({ text: z.string().min(1) })
/** One line of a dataset file. */
export type TextSample = z.output<typeof textSample>

/**
 * A calibration job: accumulate statistics of datasets and select a mask from them. Heartbeat responses list a job until the
 * node reports its end. Jobs are idempotent: the same job run twice gives the same result.
 */
export const calibrateJob = z.object({
  kind: z.literal('calibrate'),
  id: z.string(),
  model: modelId,
  /** Datasets of this update, to calibrate unless their statistics are on disk. */
  datasets: z.array(datasetRef),
  /** Datasets of earlier updates, whose statistics also count; calibrated again where this node lacks them. */
  accumulated: z.array(datasetRef),
  /** Maximum sequences of `length` consecutive tokens from each dataset. */
  samples: z.int().min(1).max(4096),
  length: z.int().min(16).max(32768),
  seed: count,
  selection: selectionSpec,
  parent: sha256Hex.nullable(),
  /** Creation time of the update; part of the mask file, so that the job run twice gives the same bytes. */
  created: z.iso.datetime(),
})
/** An evaluation job: the loss of a mask on holdouts. */
export const evaluateJob = z.object({
  kind: z.literal('evaluate'),
  id: z.string(),
  model: modelId,
  /** The mask to evaluate; null is dense. */
  mask: sha256Hex.nullable(),
  holdouts: z.array(datasetRef),
  windowTokens: z.int().min(16).max(32768),
})
/** A job that the gateway hands to a node. */
export const job = z.discriminatedUnion('kind', [calibrateJob, evaluateJob])
/** A job that the gateway hands to a node. */
export type Job = z.output<typeof job>
/** A calibration job. */
export type CalibrateJob = z.output<typeof calibrateJob>
/** An evaluation job. */
export type EvaluateJob = z.output<typeof evaluateJob>

const errorsByLinear = boundedRecord(
  MAX_LINEARS,
  'linears',
  z.record(z.string(), z.object({ before: z.number(), after: z.number() })),
)
/** The result of a calibration job. */
export const calibrateResult = z.object({
  kind: z.literal('calibrate'),
  /** SHA-256 of the mask file, which the node uploads with `PUT /internal/masks/:sha256` before it reports the result. */
  maskSha256: sha256Hex,
  maskBytes: count,
  /** The scope of the mask, which may differ from the requested one; absent from older nodes. */
  scope: z.enum(['row', 'matrix']).optional(),
  /** Fraction of weights pruned, over all masked linears. */
  sparsity: z.number(),
  /** Fraction of mask bits that differ from the parent's; null without a parent. */
  churn: z.number().nullable(),
  /** The datasets whose statistics the mask was selected from, with their tokens. */
  tokens: boundedArray(z.object({ sha256: sha256Hex, tokens: count })),
  calibrateMs: z.number(),
  selectMs: z.number(),
  /** Methods with `+swaps`: squared output error of each linear, mean over tokens, before and after the exchange. */
  swaps: errorsByLinear.optional(),
  /** Methods with `+reconstruct`: the same error with the dense values, and with the solved ones. */
  reconstruction: errorsByLinear.optional(),
})
/** The result of a calibration job. */
export type CalibrateResult = z.output<typeof calibrateResult>
/** The result of an evaluation job. */
export const evaluateResult = z.object({
  kind: z.literal('evaluate'),
  domains: boundedArray(
    z.object({
      domain: domainName,
      holdoutSha256: sha256Hex,
      tokens: count,
      /** Null where it is not finite, which JSON cannot represent; that mask is never promoted. */
      nllMean: z.number().nullable(),
      perplexity: z.number().nullable(),
    }),
  ),
})
/** The result of an evaluation job. */
export type EvaluateResult = z.output<typeof evaluateResult>

/** A node's report on a job. */
export const jobReport = z.object({
  id: z.string(),
  state: z.enum(['running', 'done', 'failed', 'cancelled']),
  /** 0 to 1. */
  progress: z.number().min(0).max(1),
  /** The current activity, for people: `calibrating legal, block 12 of 30`. */
  message: z.string().max(512),
  result: z.discriminatedUnion('kind', [calibrateResult, evaluateResult]).optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
})
/** A node's report on a job. */
export type JobReport = z.output<typeof jobReport>

/** The state of a weight set on a node. */
export const weightSetState = z.object({
  version: count,
  state: z.enum(['loading', 'ready', 'draining', 'failed']),
  requests: count,
  error: z.string().max(1024).optional(),
})
/** The state of a weight set on a node. */
export type WeightSetState = z.output<typeof weightSetState>

/** The progress of a request on a node. */
export const requestProgress = z.object({
  requestId: z.string(),
  /** Tokens processed so far; a request whose node dies is charged these. */
  promptTokens: count,
  completionTokens: count,
  /** Time since its last step; 0 while it is queued. */
  idleMs: z.number().min(0),
  /** Time since its first step while it has no token; absent while it is queued, and for embeddings. */
  firstTokenWaitMs: z.number().min(0).optional(),
})
/** The progress of a request on a node. */
export type RequestProgress = z.output<typeof requestProgress>

const shadowSums = z.object({ tokens: count, nll: z.number(), nllShadow: z.number() })

/**
 * The score of one response under the active mask and under the shadow: sums of negative log-likelihood, in nats, over the
 * same tokens of its prompt and of its output. It contains no text and is charged to nobody.
 */
export const shadowScore = z.object({
  requestId: z.string().min(8).max(64),
  /** As in the call. */
  account: z.string().min(1).max(64).optional(),
  attestation,
  model: modelId,
  domain: domainName,
  maskVersion: count,
  shadowVersion: count,
  prompt: shadowSums,
  answer: shadowSums,
})
/** The score of one response under the active mask and under the shadow. */
export type ShadowScore = z.output<typeof shadowScore>

/** Maximum scores in one heartbeat. */
export const MAX_SHADOW_SCORES = 64

/** Body of `POST /internal/nodes/heartbeat`, which a node sends every 2 s and at once when something changed. */
export const heartbeat = z.object({
  nodeId,
  /** The address at which the gateway reaches this node, like `http://127.0.0.1:8790`. */
  url: z.url({ protocol: /^https?$/ }),
  draining: z.boolean(),
  /** The node stops: this is its last heartbeat, and its open leases will get no receipts. */
  leaving: z.boolean().default(false),
  /** Identifies the process; a new value means that the node was restarted. */
  process: z.string().min(1).max(64).optional(),
  model: z.object({ id: modelId, baseSha256: sha256Hex, contextLength: count, parameters: count }),
  /** The version new requests start on. */
  activeVersion: count,
  weightSets: boundedArray(weightSetState),
  load: z.object({
    running: count,
    waiting: count,
    /** Tokens of key/value cache in use, and how many there are. */
    kvTokensUsed: count,
    kvTokensTotal: count,
    /** Maximum requests that run at once; without it the gateway never considers the node full. */
    slots: z.int().min(1).optional(),
  }),
  /**
   * Names of the pruning methods that this node offers. They do not change while its process runs, so it leaves them out
   * once the gateway has answered `registered`.
   */
  methods: boundedArray(pruneMethod).max(1024).optional(),
  /** Prefixes in its cache, by the keys of the calls; absent from a node without a prefix cache. */
  prefixes: nodePrefixes.optional(),
  /** Every request that the node has accepted and not sent a receipt for. */
  requests: boundedArray(requestProgress).default([]),
  /** Repeated until a heartbeat with them gets its response. */
  shadows: boundedArray(shadowScore).max(MAX_SHADOW_SCORES).optional(),
  jobs: boundedArray(jobReport),
})
/** A parsed heartbeat. */
export type Heartbeat = z.output<typeof heartbeat>

/** The response to a heartbeat. */
export const heartbeatResponse = z.object({
  /** The gateway knows what does not change about this process (`methods`): the next heartbeat may leave it out. */
  registered: z.boolean().optional(),
  desired: z.object({
    active: maskRef.nullable(),
    previous: maskRef.nullable(),
    /** Masks of running trials, which nodes also keep loaded. */
    trials: z.array(maskRef).max(4).optional(),
  }),
  /** Jobs that this node should run. A reported job that is missing here is over: the node forgets it, or cancels it if it runs. */
  jobs: z.array(job),
})
/** The response to a heartbeat. */
export type HeartbeatResponse = z.output<typeof heartbeatResponse>

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
  queueMs: z.number(),
  timeToFirstTokenMs: z.number().nullable(),
  totalMs: z.number(),
  /** Sampled requests: sums of negative log-likelihood, in nats, over the same `tokens` tokens of the client's text. */
  drift: z.object({ tokens: count, nllMasked: z.number(), nllDense: z.number() }).nullable(),
})
/** A node's account of one request. */
export type Receipt = z.output<typeof receipt>

/** Body of `POST /internal/nodes/receipts`. A node sends a batch again until it gets a response; each receipt settles once. */
export const receiptBatch = z.object({ nodeId, receipts: boundedArray(receipt).max(256) })
/** A parsed batch of receipts. */
export type ReceiptBatch = z.output<typeof receiptBatch>

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
