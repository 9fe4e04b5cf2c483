import { Hono } from 'hono'
import { AppError, toAppError } from '@copal/shared/errors.ts'
import { inputsOf, type EmbeddingsResponse } from '@copal/shared/wire/embeddings.ts'
import { embeddingsCall } from '@copal/shared/wire/node-calls.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import type { WeightSet } from '../contract/backend.ts'
import type { Engine } from '../engine/engine-api.ts'
import type { Embedding, EmbeddingCall, EmbedRequest } from '../engine/embedding-request.ts'
import type { GenerationOutcome } from '../engine/generation-request.ts'
import { textTooLong } from '../engine/request-errors.ts'
import { endGenerated, endRejected, startCallSpan } from '../telemetry/generation-spans.ts'
import { requireEmbeddingsFit } from './response-size.ts'
import { responseHeaders, chooseWeights, fingerprint, requireModel } from './request-weights.ts'
import type { RunningCall, RunningCalls } from './running-calls.ts'
import { combineOutcomes } from './completion-choices.ts'
import type { NodeServerDeps } from './node-server-deps.ts'
import { MAX_CALL_BYTES, type InferenceRouteDeps } from './route-deps.ts'
import { respondWhenReady, logBrokenResponse, LATE_AFTER_MS, type CompleteResponse } from './late-response.ts'
import { tokensOf } from './prompt-tokens.ts'
import type { ReceiptIssuer, ReceiptCall } from './receipt-desk.ts'

/** Texts of one call that are in the engine at the same time, so that one call does not fill its queue. */
const MAX_CONCURRENT_TEXTS = 8

/** `POST /rpc/embeddings`: all of one call by the same weights, with one receipt. */
export function embeddings(
  deps: NodeServerDeps,
  desk: ReceiptIssuer,
  calls: RunningCalls,
  nowMs: () => number,
  { encoder, read }: Pick<InferenceRouteDeps, 'encoder' | 'read'>,
): Hono {
  const { engine, model, telemetry } = deps
  const { tracing, metrics } = telemetry
  return new Hono().post('/', async (c) => {
    const { request, ...call } = validate(embeddingsCall, await read(c.req.raw, MAX_CALL_BYTES))
    const arrivedMs = nowMs()
    const settled: ReceiptCall = { ...call, model: request.model, sampledText: null }
    const span = startCallSpan(tracing.tracer, tracing.contextOf(c.req.raw.headers), '/rpc/embeddings')
    const started: EmbeddingCall[] = []
    const running = calls.begin(call.requestId)
    const clientGone = new AbortController()
    const signal = AbortSignal.any([clientGone.signal, c.req.raw.signal])

    async function embed(): Promise<CompleteResponse> {
      requireModel(deps, request.model)
      const field = { name: 'input', value: request.input }
      const texts = await tokensOf(inputsOf(request), field, model.config, encoder, signal)
      const format = request.encoding_format ?? 'float'
      requireEmbeddingsFit(texts.length, model.config.hiddenSize, format)
      // Before any of them is begun.
      for (const { length } of texts)
        if (length > engine.policy.contextLength) throw textTooLong(length, engine.policy.contextLength)
      const weights = chooseWeights(deps, { ...call, model: request.model }, texts.length)
      const common = { id: call.requestId, weights, deadlineMs: deps.requestTimeoutMs }
      const embedded = await embedAll(engine, texts, common, { signal, started, running })
      const data = embedded.map(({ embedding }, index) => ({
        object: 'embedding' as const,
        index,
        embedding: encodeVector(unitLength(embedding), format),
      }))
      const outcome = combineOutcomes(await outcomesOf(started), 1)
      endGenerated(tracing.tracer, span, outcome)
      desk.settle(settled, outcome)
      const maskVersion = embedded[0]?.maskVersion ?? 0
      const answer: EmbeddingsResponse = {
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
        endGenerated(tracing.tracer, span, { ...outcome, error })
        desk.settle(settled, outcome)
      } else {
        endRejected(span, error)
        metrics.rejected(error.code)
        desk.reject(settled, arrivedMs, error)
      }
      throw thrown
    }

    return respondWhenReady(
      embed()
        .catch(fail)
        .finally(() => running.end()),
      (maskVersion) => responseHeaders(deps.nodeId, call.domain, maskVersion),
      {
        keepAliveMs: deps.keepAliveMs ?? LATE_AFTER_MS,
        onCancel: () => clientGone.abort(),
        onError: logBrokenResponse(deps.log, call.requestId),
      },
    )
  })
}

/** Embeds texts in their order; when one fails the others are ended, and it throws. `started` gets every call made. */
async function embedAll(
  engine: Pick<Engine, 'embed' | 'hold'>,
  texts: readonly (readonly number[])[],
  common: Pick<EmbedRequest, 'id' | 'deadlineMs'> & { weights: WeightSet | null },
  { signal, started, underWay }: { signal: AbortSignal; started: EmbeddingCall[]; underWay: RunningCall },
): Promise<Embedding[]> {
  const abort = new AbortController()
  const leave = () => abort.abort()
  signal.addEventListener('abort', leave, { once: true })
  if (signal.aborted) leave()
  // Between two texts no request may be bound to them.
  const release = common.weights ? engine.hold(common.weights) : undefined
  const results: Embedding[] = []
  let next = 0
  const work = async () => {
    for (let index = next++; index < texts.length; index = next++) {
      const call = engine.embed({ ...common, part: index, tokens: texts[index]!, signal: abort.signal })
      started.push(call)
      underWay.track(index, call.outcome)
      results[index] = await call.embedding
    }
  }
  try {
    await Promise.all(Array.from({ length: Math.min(MAX_CONCURRENT_TEXTS, texts.length) }, work))
    return results
  } finally {
    next = texts.length
    abort.abort()
    signal.removeEventListener('abort', leave)
    release?.()
  }
}

function outcomesOf(started: readonly EmbeddingCall[]): Promise<GenerationOutcome[]> {
  return Promise.all(started.map(({ outcome }) => outcome))
}

/** @throws AppError `node_failed` for a vector that JSON could not carry */
function unitLength(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0))
  if (!Number.isFinite(length)) {
    throw new AppError(
      'node_failed',
      "The model's hidden states are not finite numbers. Its weights are damaged.",
    )
  }
  return length > 0 ? vector.map((value) => value / length) : vector
}

/** As numbers, or as OpenAI's clients ask for them: base64 of little-endian f32. */
function encodeVector(vector: Float32Array, format: 'float' | 'base64'): number[] | string {
  if (format === 'float') return [...vector]
  const bytes = Buffer.alloc(vector.length * 4)
  vector.forEach((value, index) => bytes.writeFloatLE(value, index * 4))
  return bytes.toString('base64')
}
