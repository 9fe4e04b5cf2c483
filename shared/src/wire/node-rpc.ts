/**
 * What gateway and node say to each other. Every call in either direction is signed
 * (`signature.ts`). Fields are camelCase: this is our own protocol, not the OpenAI edge.
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

export const sha256Hex = z.string().regex(/^[0-9a-f]{64}$/, 'a SHA-256 in lower-case hex is expected')
export const modelId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/)
const count = z.int().min(0)

/** A registered mask: `version` is per model, `sha256` is over the mask file. Version 0 is dense and has no file. */
export const maskRef = z.object({ version: z.int().min(1), sha256: sha256Hex })
export type MaskRef = z.output<typeof maskRef>

/** More than any model has linears. */
const MAX_LINEARS = 4096

/**
 * Patterns of single linears, by the name of the weight, in which `*` stands for any characters; of several that match
 * a linear the last counts. Those that are `dense` are left out of the mask.
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
export type PatternRules = z.output<typeof patternRules>

/** Which weights a mask keeps: how they are chosen, how many, and whether those of rows or of whole matrices compete. */
export const selectionSpec = z.object({
  method: pruneMethod,
  /** `0.5` of the weights pruned, or `2:4` kept; see `mask/pattern.ts`. */
  pattern: z.string().refine((text) => patternError(text) === undefined, {
    error: ({ input }) => patternError(String(input)),
  }),
  /** Without meaning for n:m. */
  scope: z.enum(['row', 'matrix']).default('row'),
  patterns: patternRules.optional(),
})
export type SelectionSpec = z.output<typeof selectionSpec>

// ---- gateway -> node ---------------------------------------------------------------------------

/**
 * Proves that the gateway gave a node what the node tells of; it means nothing to nodes, which give it back as it came.
 * What is told without a good one counts for nothing.
 */
const attestation = sha256Hex.optional()

/** Where the gateway keeps an answer: a name without the version that gave it, and for how long. */
export const cacheTarget = z.object({ key: sha256Hex, ttlMs: z.int().min(1).max(86_400_000), attestation })
export type CacheTarget = z.output<typeof cacheTarget>

const callFields = {
  requestId: z.string().min(8).max(64),
  domain: domainName,
  /** The prompt may be scored under mask and dense; the figures come back in the receipt. */
  sample: z.boolean(),
  /** Whom the receipt shall name; means nothing to the node. */
  account: z.string().min(1).max(64).optional(),
  attestation,
  /** The weights that shall answer: 0 is dense. Left out: those that are active. */
  maskVersion: count.optional(),
  /** What is answered shall be scored under these weights too, when nobody waits for it: see {@link shadowScore}. */
  shadowVersion: count.optional(),
  /** A streamed answer that became whole shall be given to the gateway once more, for the same request of `tenant`. */
  cache: cacheTarget.optional(),
  /** Whose prompts may share what was computed of their common beginnings; none without it. */
  tenant: z.string().min(1).max(128).optional(),
  /** How its first prompt begins: the node tells in its heartbeats which beginnings it has ready. */
  prefix: promptPrefixKeys.optional(),
}
/** `POST /rpc/chat-completions`: the answer is the OpenAI JSON or SSE, ready to pass through. */
export const chatCall = z.object({ ...callFields, request: chatRequest })
export type ChatCall = z.output<typeof chatCall>
/** `POST /rpc/completions`. */
export const completionCall = z.object({ ...callFields, request: completionRequest })
export type CompletionCall = z.output<typeof completionCall>
/** `POST /rpc/embeddings`. */
export const embeddingsCall = z.object({ ...callFields, request: embeddingsRequest })
/** `POST /rpc/responses`. */
export const responsesCall = z.object({ ...callFields, request: responsesRequest })

/** Most that an answer at once may be: the gateway holds it whole, with others, in the 128 MB of a Worker's isolate. */
export const MAX_RESPONSE_BYTES = 8 * 1024 * 1024

/**
 * Header of an answer of which nothing is there yet, in place of `x-copal-mask`. Of one at once spaces come until it is,
 * and it is JSON, either the answer, among whose first fields `system_fingerprint` names the mask, or an error body. Of a
 * stream comments come until its first event, which says the same.
 */
export const LATE_HEADER = 'x-copal-late'

/** `POST /rpc/evaluate`: perplexity of a text; answers newline-delimited {@link EvaluateEvent}s. */
export const evaluateCall = z.object({
  model: modelId,
  /** 0 is dense; another version must be known to the node or come with its reference. */
  maskVersion: count,
  mask: maskRef.optional(),
  text: z
    .string()
    .min(1)
    .max(64 * 1024 * 1024),
  windowTokens: z.int().min(16).max(32768).default(1024),
  maxWindows: z.int().min(1).max(1_000_000).optional(),
})
export type EvaluateCall = z.output<typeof evaluateCall>
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
export type EvaluateEvent = z.output<typeof evaluateEvent>

// ---- node -> gateway ---------------------------------------------------------------------------

/**
 * A dataset frozen by the gateway: newline-delimited {@link TextSample}s, named by its SHA-256. Each line also
 * names its domain, so that no two domains share a dataset, and the texts of one can be deleted.
 */
export const datasetRef = z.object({ sha256: sha256Hex, domain: domainName, samples: count })
export type DatasetRef = z.output<typeof datasetRef>
/** One line of a dataset file. */
export const textSample = z.object({ text: z.string().min(1) })
export type TextSample = z.output<typeof textSample>

/**
 * Work that the gateway hands out in heartbeat answers until the node reports its end.
 * Both kinds are idempotent: the same job run twice gives the same result.
 */
export const calibrateJob = z.object({
  kind: z.literal('calibrate'),
  id: z.string(),
  model: modelId,
  /** Datasets of this update: calibrated now unless their statistics are already on disk. */
  datasets: z.array(datasetRef),
  /** Datasets whose statistics also count, calibrated in earlier updates; re-calibrated if this node lacks them. */
  accumulated: z.array(datasetRef),
  /** Tokens a dataset contributes at most: `samples × length`; a sample is `length` consecutive tokens. */
  samples: z.int().min(1).max(4096),
  length: z.int().min(16).max(32768),
  seed: count,
  selection: selectionSpec,
  parent: sha256Hex.nullable(),
  /** When the update was made: goes into the mask file, so that the job run twice gives the same bytes. */
  created: z.iso.datetime(),
})
export const evaluateJob = z.object({
  kind: z.literal('evaluate'),
  id: z.string(),
  model: modelId,
  /** The candidate; null evaluates dense. */
  mask: sha256Hex.nullable(),
  holdouts: z.array(datasetRef),
  windowTokens: z.int().min(16).max(32768),
})
export const job = z.discriminatedUnion('kind', [calibrateJob, evaluateJob])
export type Job = z.output<typeof job>
export type CalibrateJob = z.output<typeof calibrateJob>
export type EvaluateJob = z.output<typeof evaluateJob>

const errorsByLinear = boundedRecord(
  MAX_LINEARS,
  'linears',
  z.record(z.string(), z.object({ before: z.number(), after: z.number() })),
)
export const calibrateResult = z.object({
  kind: z.literal('calibrate'),
  /** Of the mask file or weights file, uploaded with `PUT /internal/masks/:sha256` before it is reported. */
  maskSha256: sha256Hex,
  maskBytes: count,
  /** What its ratios are counted over, where that may differ from what was asked for; older nodes do not say it. */
  scope: z.enum(['row', 'matrix']).optional(),
  /** Fraction of pruned weights over all pruned linears. */
  sparsity: z.number(),
  /** Fraction of mask bits that differ from the parent's; null without a parent. */
  churn: z.number().nullable(),
  /** The datasets whose statistics chose the mask. */
  tokens: boundedArray(z.object({ sha256: sha256Hex, tokens: count })),
  calibrateMs: z.number(),
  selectMs: z.number(),
  /** Of methods with swaps, by linear: squared output error, mean over tokens, before and after the swaps. */
  swaps: errorsByLinear.optional(),
  /** The same of methods that reconstruct: with the surviving weights as they were, and as solved. */
  reconstruction: errorsByLinear.optional(),
})
export type CalibrateResult = z.output<typeof calibrateResult>
export const evaluateResult = z.object({
  kind: z.literal('evaluate'),
  domains: boundedArray(
    z.object({
      domain: domainName,
      holdoutSha256: sha256Hex,
      tokens: count,
      /** Null where it is not finite, which JSON cannot carry: such a mask is never promoted. */
      nllMean: z.number().nullable(),
      perplexity: z.number().nullable(),
    }),
  ),
})
export type EvaluateResult = z.output<typeof evaluateResult>

export const jobReport = z.object({
  id: z.string(),
  state: z.enum(['running', 'done', 'failed', 'cancelled']),
  /** 0 to 1. */
  progress: z.number().min(0).max(1),
  /** What it does now, for people: `calibrating legal, block 12 of 30`. */
  message: z.string().max(512),
  result: z.discriminatedUnion('kind', [calibrateResult, evaluateResult]).optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
})
export type JobReport = z.output<typeof jobReport>

export const weightSetState = z.object({
  version: count,
  state: z.enum(['loading', 'ready', 'draining', 'failed']),
  requests: count,
  error: z.string().max(1024).optional(),
})
export type WeightSetState = z.output<typeof weightSetState>

/** How far a request is. */
export const requestProgress = z.object({
  requestId: z.string(),
  /** Of what it has fed and made so far; a request whose node dies is charged these. */
  promptTokens: count,
  completionTokens: count,
  /** Since its last step; 0 while it waits for its turn. */
  idleMs: z.number().min(0),
  /** Since it began to run, while it has no token; left out while it waits, and where none will come. */
  firstTokenWaitMs: z.number().min(0).optional(),
})
export type RequestProgress = z.output<typeof requestProgress>

const shadowSums = z.object({ tokens: count, nll: z.number(), nllShadow: z.number() })

/**
 * What one answer is worth under the weights that gave it and under those on trial: sums of negative log-likelihood, in
 * nats, of the same tokens of its prompt and of the answer itself. It charges nobody, and holds no text.
 */
export const shadowScore = z.object({
  requestId: z.string().min(8).max(64),
  /** As the call had them. */
  account: z.string().min(1).max(64).optional(),
  attestation,
  model: modelId,
  domain: domainName,
  maskVersion: count,
  shadowVersion: count,
  prompt: shadowSums,
  answer: shadowSums,
})
export type ShadowScore = z.output<typeof shadowScore>

/** Most scores that one heartbeat tells. */
export const MAX_SHADOW_SCORES = 64

/** `POST /internal/nodes/heartbeat`, every 2 s and at once when something changed. */
export const heartbeat = z.object({
  nodeId,
  /** Where the gateway reaches this node: `http://127.0.0.1:8790`. */
  url: z.url({ protocol: /^https?$/ }),
  draining: z.boolean(),
  /** The last heartbeat: what is leased here and was not settled will not be. */
  leaving: z.boolean().default(false),
  /** Another one than before: the node was started again, also when it could not say that it left. */
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
    /** Most requests that run at once; without it the gateway never takes the node for full. */
    slots: z.int().min(1).optional(),
  }),
  /**
   * Names of the pruning methods that this node offers. They do not change while its process runs, so it leaves them out
   * once the gateway has answered `registered`.
   */
  methods: boundedArray(pruneMethod).max(1024).optional(),
  /** Beginnings of prompts that its prefix cache holds, as the calls named them; left out by a node without such a cache. */
  prefixes: nodePrefixes.optional(),
  /** Every request that the node has taken and not told the receipt of. */
  requests: boundedArray(requestProgress).default([]),
  /** Told until a heartbeat that holds them is answered. */
  shadows: boundedArray(shadowScore).max(MAX_SHADOW_SCORES).optional(),
  jobs: boundedArray(jobReport),
})
export type Heartbeat = z.output<typeof heartbeat>

/** The response to a heartbeat. */
export const heartbeatResponse = z.object({
  /** The gateway knows what does not change about this process (`methods`): the next heartbeat may leave it out. */
  registered: z.boolean().optional(),
  desired: z.object({
    active: maskRef.nullable(),
    previous: maskRef.nullable(),
    /** Masks that are tried beside the active one: kept ready too. */
    trials: z.array(maskRef).max(4).optional(),
  }),
  /** Jobs this node shall be running. A reported job that is missing here is settled: forget it, or cancel it if it runs. */
  jobs: z.array(job),
})
export type HeartbeatResponse = z.output<typeof heartbeatResponse>

export const receipt = z.object({
  requestId: z.string().min(8).max(64),
  /** As the call had them. */
  account: z.string().min(1).max(64).optional(),
  attestation,
  model: modelId,
  domain: domainName,
  maskVersion: count,
  promptTokens: count,
  completionTokens: count,
  /** `refused`: the request cannot be served as it is, which is no fault of the node; older nodes say `error` of it. */
  finishReason: z.enum(['stop', 'length', 'cancelled', 'refused', 'error']),
  queueMs: z.number(),
  timeToFirstTokenMs: z.number().nullable(),
  totalMs: z.number(),
  /** Of sampled requests: sums of negative log-likelihood, in nats, of the same `tokens` tokens of the client's text. */
  drift: z.object({ tokens: count, nllMasked: z.number(), nllDense: z.number() }).nullable(),
})
export type Receipt = z.output<typeof receipt>

/** `POST /internal/nodes/receipts`; a batch is sent again until it is answered, and settles once. */
export const receiptBatch = z.object({ nodeId, receipts: boundedArray(receipt).max(256) })
export type ReceiptBatch = z.output<typeof receiptBatch>

/** Most bytes of an answer that is kept. */
export const MAX_CACHED_RESPONSE_BYTES = 1024 * 1024

/** `POST /internal/nodes/answers`: a streamed answer as its client got it, that is whole and shall be kept. */
export const cachedResponse = cacheTarget.extend({
  nodeId,
  tenant: z.string().min(1).max(128),
  maskVersion: count,
  contentType: z.string().max(128),
  body: z.string().max(MAX_CACHED_RESPONSE_BYTES),
})
export type CachedResponse = z.output<typeof cachedResponse>
