import { Hono } from 'hono'
import { AppError, toAppError } from '@copal/shared/errors.ts'
import { inputsOf, type EmbeddingsResponse } from '@copal/shared/wire/embeddings.ts'
import { embeddingsCall } from '@copal/shared/wire/node-calls.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import type { WeightSet } from '../../contract/backend.ts'
import type { Engine } from '../../engine/engine-api.ts'
import type { Embedding, EmbeddingCall, EmbedRequest } from '../../engine/embedding-request.ts'
import type { GenerationOutcome } from '../../engine/generation-request.ts'
import { deadlineExceeded, finishReasonOf, textTooLong } from '../../engine/request-errors.ts'
import { requireEmbeddingsFit } from '../generation/response-size.ts'
import { responseHeaders, chooseWeights, fingerprint, requireModel } from '../generation/request-weights.ts'
import type { BeginRecord, CallRecord } from '../generation/call-record.ts'
import { combineOutcomes } from '../generation/completion-choices.ts'
import type { NodeServerDeps } from '../generation/node-server-deps.ts'
import { MAX_CALL_BYTES, type InferenceRouteDeps, ownerOf } from './route-deps.ts'
import { respondWhenReady, LATE_AFTER_MS, type CompleteResponse } from '../generation/late-response.ts'
import { tokensOf } from '../prompts/prompt-tokens.ts'

/** Texts of one call that the engine holds at once, so that one call does not fill its queue. */
const MAX_CONCURRENT_TEXTS = 8

/**
 * Creates the route of `POST /rpc/embeddings`. All texts of a call are embedded under the same weights, and the call has
 * one receipt.
 */
export function embeddings(
  deps: NodeServerDeps,
  beginRecord: BeginRecord,
  { encoder, read }: Pick<InferenceRouteDeps, 'encoder' | 'read'>,
): Hono {
  const { engine, model } = deps
  return new Hono().post('/', async (c) => {
    const { request, ...call } = validate(embeddingsCall, await read(c.req.raw, MAX_CALL_BYTES))
    const record = beginRecord({ ...call, model: request.model, sampledText: null }, c.req.raw)
    const started: EmbeddingCall[] = []
    const clientGone = new AbortController()
    const signal = AbortSignal.any([clientGone.signal, c.req.raw.signal])

    async function embed(): Promise<CompleteResponse> {
      requireModel(deps, request.model)
      const field = { name: 'input', value: request.input }
      const caller = { signal, ...ownerOf(call) }
      const texts = await tokensOf(inputsOf(request), field, model.config, encoder, caller)
      const format = request.encoding_format ?? 'float'
      requireEmbeddingsFit(texts.length, model.config.hiddenSize, format)
      // All lengths are checked before the first text is embedded.
      for (const { length } of texts)
        if (length > engine.policy.contextLength) throw textTooLong(length, engine.policy.contextLength)
      const weights = chooseWeights(deps, { ...call, model: request.model }, texts.length)
      const embedded = await embedAll(
        engine,
        texts,
        { id: call.requestId, weights },
        { signal, deadlineMs: deps.requestTimeoutMs, started, record },
      )
      const data = embedded.map(({ embedding }, index) => ({
        object: 'embedding' as const,
        index,
        embedding: encodeVector(unitLength(embedding), format),
      }))
      const outcome = combineOutcomes(await outcomesOf(started), 1)
      record.ended(outcome, texts.length)
      const maskVersion = embedded[0]?.maskVersion ?? 0
      const body: EmbeddingsResponse = {
        object: 'list',
        model: request.model,
        system_fingerprint: fingerprint(request.model, maskVersion),
        data,
        usage: { prompt_tokens: outcome.promptTokens, total_tokens: outcome.promptTokens },
      }
      return { maskVersion, body }
    }

    async function fail(thrown: unknown): Promise<never> {
      const error = toAppError(thrown)
      if (started.length > 0) {
        const outcome = combineOutcomes(await outcomesOf(started), 1)
        // By the error that ended the call: the texts were embedded, or cancelled because of it.
        record.ended({ ...outcome, finishReason: finishReasonOf(error), error }, started.length)
      } else record.rejected(error)
      throw thrown
    }

    return respondWhenReady(
      embed().catch(fail),
      (maskVersion) => responseHeaders(deps.nodeId, call.domain, maskVersion),
      {
        keepAliveMs: deps.keepAliveMs ?? LATE_AFTER_MS,
        onCancel: () => clientGone.abort(),
        onError: record.broken,
      },
    )
  })
}

/**
 * Embeds texts in order. Throws when one fails, or at the deadline of all of them, which cancels the others. Appends every call
 * made to `started`.
 */
async function embedAll(
  engine: Pick<Engine, 'embed' | 'hold'>,
  texts: readonly (readonly number[])[],
  common: Pick<EmbedRequest, 'id'> & { weights: WeightSet | null },
  {
    signal,
    deadlineMs,
    started,
    record,
  }: {
    signal: AbortSignal
    deadlineMs: number | undefined
    started: EmbeddingCall[]
    record: Pick<CallRecord, 'track'>
  },
): Promise<Embedding[]> {
  const abort = new AbortController()
  const cancel = () => abort.abort()
  signal.addEventListener('abort', cancel, { once: true })
  if (signal.aborted) cancel()
  // Keeps the weights loaded between two texts, when no request is bound to them.
  const release = common.weights ? engine.hold(common.weights) : undefined
  const late = Promise.withResolvers<never>()
  const timer =
    deadlineMs === undefined
      ? undefined
      : setTimeout(() => late.reject(deadlineExceeded(deadlineMs)), deadlineMs)
  const results: Embedding[] = []
  let next = 0
  const work = async () => {
    for (let index = next++; index < texts.length; index = next++) {
      const call = engine.embed({
        ...common,
        part: index,
        tokens: texts[index]!,
        takesPlace: index >= MAX_CONCURRENT_TEXTS,
        signal: abort.signal,
      })
      started.push(call)
      record.track(index, call.outcome)
      results[index] = await call.embedding
    }
  }
  try {
    const embedded = Promise.all(Array.from({ length: Math.min(MAX_CONCURRENT_TEXTS, texts.length) }, work))
    await Promise.race([embedded, late.promise])
    return results
  } finally {
    clearTimeout(timer)
    next = texts.length
    abort.abort()
    signal.removeEventListener('abort', cancel)
    release?.()
  }
}

function outcomesOf(started: readonly EmbeddingCall[]): Promise<GenerationOutcome[]> {
  return Promise.all(started.map(({ outcome }) => outcome))
}

/**
 * Scales a vector to length 1.
 *
 * @throws AppError `invalid_output` when the vector is not finite, which JSON cannot represent
 */
function unitLength(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0))
  if (!Number.isFinite(length)) {
    throw new AppError(
      'invalid_output',
      "The model's hidden states are not finite numbers. Its weights are damaged.",
    )
  }
  return length > 0 ? vector.map((value) => value / length) : vector
}

/** Encodes a vector as numbers, or as base64 of little-endian f32, which OpenAI's clients request. */
function encodeVector(vector: Float32Array, format: 'float' | 'base64'): number[] | string {
  if (format === 'float') return [...vector]
  const bytes = Buffer.alloc(vector.length * 4)
  vector.forEach((value, index) => bytes.writeFloatLE(value, index * 4))
  return bytes.toString('base64')
}
