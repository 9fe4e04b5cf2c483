import { AppError, toAppError } from '@copal/shared/errors.ts'
import type { Usage } from '@copal/shared/wire/generation.ts'
import type { TokenLogprob } from '../engine/answer.ts'
import type { GenerateEvent, GenerateRequest, Generation } from '../engine/generation.ts'
import { reasonOf } from '../log.ts'
import { endGenerated, endRefused, startCallSpan } from '../telemetry/generation-spans.ts'
import type { AnswerFormat, AnswerHead } from './answer-format.ts'
import type { NodeServerDeps } from './deps.ts'
import type { ReceiptDesk, SettledCall } from './receipts.ts'
import { EVENT_STREAM, eventStream } from './sse.ts'

/** One call, of either API, ready to run. */
interface GenerateJob {
  requestId: string
  domain: string
  account?: string | undefined
  sample: boolean
  model: string
  stream: boolean
  withUsage: boolean
  /** Prefix of the answer's id: `chatcmpl`, `cmpl`. */
  idPrefix: string
  /**
   * What the engine shall do, and the client's own text as tokens; may be costly.
   *
   * @throws AppError when the request cannot be served as it is
   */
  prepare: () => Pick<GenerateRequest, 'prompt' | 'maxTokens' | 'sampling' | 'stops'>
  clientText: () => readonly number[]
  format: (head: AnswerHead) => AnswerFormat
}

/** Runs jobs and answers them. */
export type Generate = (job: GenerateJob, request: Request) => Promise<Response>

/**
 * Runs generations for both APIs: one receipt and one span each, headers as soon as the weights are
 * known, the request aborted when the client leaves.
 */
export function createGenerate(deps: NodeServerDeps, desk: ReceiptDesk, nowMs: () => number): Generate {
  const { engine, telemetry, log } = deps
  const { tracing, metrics } = telemetry
  const keepAliveMs = deps.keepAliveMs ?? 15_000

  return async function generate(job, request) {
    const arrivedMs = nowMs()
    const call: SettledCall = { ...job, sampledText: job.sample ? job.clientText : null }
    const route = new URL(request.url).pathname
    const span = startCallSpan(tracing.tracer, tracing.contextOf(request.headers), route)
    span.span.setAttributes({ 'copal.request': job.requestId, 'copal.domain': job.domain })
    const abort = new AbortController()
    request.signal.addEventListener('abort', () => abort.abort(), { once: true })
    if (request.signal.aborted) abort.abort()

    let generation: Generation
    try {
      if (job.model !== deps.model.id) throw unknownModel(job.model, deps.model.id)
      generation = engine.generate({
        ...job.prepare(),
        id: job.requestId,
        restartable: !job.stream,
        signal: abort.signal,
        ...(deps.requestTimeoutMs === undefined ? {} : { deadlineMs: deps.requestTimeoutMs }),
      })
    } catch (thrown) {
      const error = toAppError(thrown)
      endRefused(span, error)
      metrics.refused(error.code)
      desk.refuse(call, arrivedMs)
      throw thrown
    }
    void generation.outcome.then((outcome) => {
      endGenerated(tracing.tracer, span, outcome)
      desk.settle(call, outcome)
    })

    const headOf = (maskVersion: number): AnswerHead => ({
      id: `${job.idPrefix}-${job.requestId}`,
      created: Math.floor(arrivedMs / 1000),
      model: job.model,
      system_fingerprint: fingerprint(job.model, maskVersion),
    })
    const headersOf = (maskVersion: number, contentType: string) => ({
      'content-type': contentType,
      'x-copal-mask': String(maskVersion),
      'x-copal-node': deps.nodeId,
      'x-copal-domain': job.domain,
    })
    if (!job.stream) {
      const whole = await readWhole(generation.events)
      const answer = job.format(headOf(whole.maskVersion)).whole(whole)
      return new Response(JSON.stringify(answer), {
        headers: headersOf(whole.maskVersion, 'application/json'),
      })
    }
    const iterator = generation.events[Symbol.asyncIterator]()
    const maskVersion = await pinnedVersion(iterator)
    const objects = streamObjects(iterator, job.format(headOf(maskVersion)), job.withUsage)
    const body = eventStream(objects, {
      keepAliveMs,
      onCancel: () => abort.abort(),
      onError: (thrown) => {
        if (abort.signal.aborted) return
        log.error('an answer broke off', { requestId: job.requestId, reason: reasonOf(thrown) })
      },
    })
    return new Response(body, {
      headers: { ...headersOf(maskVersion, EVENT_STREAM), 'cache-control': 'no-cache' },
    })
  }
}

/** What `system_fingerprint` says: the model and the mask that made the answer. */
function fingerprint(model: string, maskVersion: number): string {
  return `copal-${model}-m${maskVersion}`
}

async function readWhole(events: AsyncIterable<GenerateEvent>) {
  let maskVersion = 0
  let text = ''
  let tokens: TokenLogprob[] = []
  for await (const event of events) {
    if (event.type === 'pinned') {
      // Again: it started over on other weights, and nothing before counts.
      maskVersion = event.maskVersion
      text = ''
      tokens = []
    } else if (event.type === 'text') {
      text += event.text
      tokens.push(...event.tokens)
    } else return { maskVersion, text, tokens, reason: event.reason, usage: usageOf(event) }
  }
  throw new AppError('internal_error', 'The answer ended without a reason.')
}

async function pinnedVersion(iterator: AsyncIterator<GenerateEvent>): Promise<number> {
  const { value, done } = await iterator.next()
  if (done || value.type !== 'pinned')
    throw new AppError('internal_error', 'The answer began without its weights.')
  return value.maskVersion
}

async function* streamObjects(
  iterator: AsyncIterator<GenerateEvent>,
  format: AnswerFormat,
  withUsage: boolean,
): AsyncGenerator<object, void, undefined> {
  const opening = format.opening()
  if (opening) yield opening
  while (true) {
    const { value: event, done } = await iterator.next()
    if (done) throw new AppError('internal_error', 'The answer ended without a reason.')
    if (event.type === 'text') yield format.delta(event.text, event.tokens)
    if (event.type !== 'finished') continue
    yield format.closing(event.reason)
    if (withUsage) yield format.usage(usageOf(event))
    return
  }
}

function usageOf({
  promptTokens,
  completionTokens,
}: {
  promptTokens: number
  completionTokens: number
}): Usage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  }
}

function unknownModel(asked: string, served: string): AppError {
  return new AppError(
    'model_not_found',
    `The model '${asked}' is not on this node, which serves '${served}'.`,
    {
      param: 'model',
    },
  )
}
