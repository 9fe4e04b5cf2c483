/** The heartbeats of a node, and the gateway's response. */
import { z } from 'zod'
import { job, jobReport } from './adaptation-jobs.ts'
import { boundedArray } from './bounded-collections.ts'
import { attestation, count, maskRef, modelId, sha256Hex } from './identifiers.ts'
import { domainName } from './inference-fields.ts'
import { nodeId } from './node-secret.ts'
import { nodePrefixes } from './prefix.ts'
import { pruneMethod } from './prune-method.ts'

/** Maximum characters of the reason of a form. */
const MAX_FORM_REASON = 512

/** The state of a weight set on a node. */
export const weightSetState = z.object({
  version: count,
  state: z.enum(['loading', 'ready', 'draining', 'failed']),
  requests: count,
  /** Bytes that it takes in memory; absent from older nodes. */
  bytes: count.optional(),
  /** How its pruned weights are stored, and why; absent from older nodes, and where nothing is pruned. */
  form: z
    .object({ name: z.enum(['packed', 'dense', 'both']), why: z.string().max(MAX_FORM_REASON) })
    .optional(),
  /** Why it could not be loaded, also while it is loaded again after more than one failure. */
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

/** Sums over the same tokens under both masks. */
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

/**
 * A node's score of the probe texts, which are the same on every node (`probe-texts.ts`), under one weight set: sums of
 * negative log-likelihood, nats, over `tokens` tokens. Nodes with the same mask should agree.
 */
export const probeScore = z.object({
  maskVersion: count,
  tokens: z.int().min(1),
  nll: z.number(),
  /** Milliseconds before this heartbeat. */
  measuredMsAgo: z.number().min(0),
})

/** A node's score of the probe texts. */
export type ProbeScore = z.output<typeof probeScore>

/** The memory of a node for weight sets. Sizes are estimates for sets that it has not loaded. */
const setMemory = z.object({
  /** Bytes for all sets together. */
  budgetBytes: count,
  freeBytes: count,
  /**
   * Desired sets that do not fit now, except masks of single domains. The node loads one when it has to serve, or has room. A mask on
   * trial that waits for memory which an update takes is also in `weightSets`, as loading.
   */
  unheld: boundedArray(z.object({ version: count, bytes: count })).default([]),
})

/** The memory of a node for weight sets. */
export type SetMemoryReport = z.output<typeof setMemory>

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
  /** The numerics of its active weights, see `numericsOf`; absent from older nodes, and while these are not loaded. */
  numerics: z.string().min(1).max(64).optional(),
  /** Absent from older nodes. */
  memory: setMemory.optional(),
  load: z.object({
    running: count,
    waiting: count,
    /** Tokens of key/value cache in use, and how many there are. */
    kvTokensUsed: count,
    kvTokensTotal: count,
    /** Maximum requests that run at once; without it the gateway never considers the node full. */
    slots: z.int().min(1).optional(),
    /** Tokens that it generated per second over the last seconds; absent from older nodes. */
    tokensPerSecond: z.number().min(0).optional(),
  }),
  /** Its device, for people, like `AMD EPYC 9B14, 8 threads, avx512_bf16`; absent from older nodes. */
  device: z.string().max(128).optional(),
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
  /** The newest score of the probe texts under each weight set; absent from older nodes. */
  probes: boundedArray(probeScore).max(8).optional(),
  jobs: boundedArray(jobReport),
})

/** A parsed heartbeat. */
export type Heartbeat = z.output<typeof heartbeat>

/** Maximum number of domains of a model that have masks of their own. */
export const MAX_OWN_MASKS = 64

/** A mask that serves one domain instead of the active one. */
const ownMaskRef = maskRef.extend({ domain: domainName })

/** A mask that serves one domain instead of the active one. */
export type OwnMaskRef = z.output<typeof ownMaskRef>

/** The response to a heartbeat. */
export const heartbeatResponse = z.object({
  /** The gateway knows what does not change about this process (`methods`): the next heartbeat may leave it out. */
  registered: z.boolean().optional(),
  desired: z.object({
    active: maskRef.nullable(),
    previous: maskRef.nullable(),
    /** Masks of running trials, which nodes also keep loaded. */
    trials: z.array(maskRef).max(4).optional(),
    /** Masks of single domains, which nodes load beside the others as far as their memory allows. */
    own: boundedArray(ownMaskRef).max(MAX_OWN_MASKS).optional(),
  }),
  /** Jobs that this node should run. A reported job that is missing here is over: the node forgets it, or cancels it if it runs. */
  jobs: z.array(job),
})

/** The response to a heartbeat. */
export type HeartbeatResponse = z.output<typeof heartbeatResponse>
