/**
 * Calls from the gateway to a node. Every call in either direction is signed (`signature.ts`). Fields are camelCase, because
 * the protocol between gateway and nodes is internal.
 */
import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import { chatRequest } from './chat.ts'
import { completionRequest } from './completions.ts'
import { embeddingsRequest } from './embeddings.ts'
import { attestation, count, maskRef, modelId, sha256Hex } from './identifiers.ts'
import { domainName } from './inference-fields.ts'
import { promptPrefixKeys } from './prefix.ts'
import { responsesRequest } from './responses.ts'

/** The place of a response in the response cache: its key without the mask version, and its time to live. */
export const cacheTarget = z.object({ key: sha256Hex, ttlMs: z.int().min(1).max(86_400_000), attestation })

/** The place of a response in the response cache. */
export type CacheTarget = z.output<typeof cacheTarget>

/** Fields of every inference call. */
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
  /** The mask version to score the response under afterwards: see `shadowScore` in `heartbeat.ts`. */
  shadowVersion: count.optional(),
  /** Where the node stores a complete streamed response in the cache of `tenant`, see `cachedResponse` in `receipts.ts`. */
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
 * sends spaces until it is ready, then its JSON, whose `system_fingerprint` names the mask, or an error body. A stream sends
 * comments until its first event; the last of them is {@link MASK_COMMENT} with the mask version.
 */
export const LATE_HEADER = 'x-copal-late'

/** Beginning of the comment that names the mask version of a late stream before its first event: `: mask 12`. */
export const MASK_COMMENT = ': mask '

/** Body of `POST /rpc/describe`: what the dense weights make of texts, by which they are sorted into domains. */
export const describeCall = z.object({
  /** Tells equal calls of one millisecond apart, which would have one signature; of any value. */
  callId: z.string().max(64).optional(),
  model: modelId,
  texts: boundedArray(
    z
      .string()
      .min(1)
      .max(64 * 1024),
  )
    .min(1)
    .max(64),
  /** Tokens of each text that are read, from its beginning. */
  maxTokens: z.int().min(1).max(4096).default(256),
})

/** A parsed body of `POST /rpc/describe`. */
export type DescribeCall = z.output<typeof describeCall>

/** The description of one text under the dense weights, which do not move when masks change. */
export const textDescription = z.object({
  /** The tokens that were read. */
  tokens: count,
  /** Mean over the tokens of the last hidden states, f32; empty where the text has no token. */
  embedding: boundedArray(z.number()).max(16_384),
  /** Mean negative log-likelihood, nats a token, of the tokens after the first; null with fewer than two. */
  nllMean: z.number().nullable(),
})

/** The description of one text. */
export type TextDescription = z.output<typeof textDescription>

/** Response of `POST /rpc/describe`, in the order of the texts. */
export const describeResult = z.object({ texts: boundedArray(textDescription).max(64) })

/** Largest body of an operator with a text to evaluate: its parsed copy and the call to the node must fit into a Worker's 128 MB. */
export const MAX_EVALUATE_BYTES = 16 * 1024 * 1024

/** Body of `POST /rpc/evaluate`, the perplexity of a text; the response is newline-delimited {@link EvaluateEvent}s. */
export const evaluateCall = z.object({
  model: modelId,
  /** 0 is dense; a version that the node does not know needs `mask`. */
  maskVersion: count,
  mask: maskRef.optional(),
  text: z.string().min(1).max(MAX_EVALUATE_BYTES),
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
