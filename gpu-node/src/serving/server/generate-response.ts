import { AppError, toAppError } from '@copal/shared/errors.ts'
import type { Usage } from '@copal/shared/wire/inference-fields.ts'
import type { CacheTarget } from '@copal/shared/wire/node-calls.ts'
import { MAX_CACHED_RESPONSE_BYTES } from '@copal/shared/wire/receipts.ts'
import type { GenerationOutcome } from '../engine/generation-request.ts'
import { endGenerated, endRejected, startCallSpan } from '../telemetry/generation-spans.ts'
import type { OutputFormat, OutputHead, FinishedChoice } from './output-format.ts'
import { responseHeaders, chooseWeights, fingerprint, requireModel } from './request-weights.ts'
import type { RunningCalls } from './running-calls.ts'
import { startChoices, type ChoiceEvent, type Choices, type ChoicesPlan } from './completion-choices.ts'
import type { NodeServerDeps } from './node-server-deps.ts'
import { respondWhenReady, logBrokenResponse, LATE_AFTER_MS } from './late-response.ts'
import type { ReceiptIssuer, ReceiptCall } from './receipt-desk.ts'
import type { ShadowScorer } from './shadow-scoring.ts'
import { EVENT_STREAM, eventStream, type EventStreamOptions } from './event-stream.ts'
import { within } from '../../platform/timeout.ts'

/** One call, of either API, ready to run. */
interface GenerationCall {
  requestId: string
  domain: string
  account?: string | undefined
  attestation?: string | undefined
  /** Whose prompts may share what was computed of them. */
  tenant?: string | undefined
  /** Names that the gateway gives to prefixes of the first prompt. */
  prefix?: readonly string[] | undefined
  sample: boolean
  model: string
  /** The weights that shall answer, by their version; those that are active when it names none. */
  maskVersion?: number | undefined
  /** Weights on trial that the answer shall be scored under. */
  shadowVersion?: number | undefined
  stream: boolean
  /** Where the gateway keeps a streamed answer; nothing of it is kept without. */
  cache?: CacheTarget | undefined
  /** Prefix of the answer's id: `chatcmpl-`, `cmpl-`, `resp_`. */
  idPrefix: string
  /**
   * What the engine shall do, and the client's own text as tokens; may be costly.
   *
   * @throws AppError when the request cannot be served as it is
   */
  prepare: (signal: AbortSignal) => Promise<ChoicesPlan>
  clientText: () => readonly number[]
  format: (head: OutputHead) => OutputFormat
}

/** Runs jobs and answers them. */
export type Generate = (job: GenerationCall, request: Request) => Promise<Response>

/**
 * Runs generations for both APIs: one receipt and one span each, headers as soon as the weights are known or it has waited
 * for them for so long that it is late, the request aborted when the client leaves.
 */
export function createGenerate(
  deps: NodeServerDeps,
  desk: ReceiptIssuer,
  shadows: ShadowScorer,
  calls: RunningCalls,
  nowMs: () => number,
): Generate {
  const { engine, telemetry, log } = deps
  const { tracing, metrics } = telemetry
  const keepAliveMs = deps.keepAliveMs ?? 5_000
  const lateMs = deps.keepAliveMs ?? LATE_AFTER_MS

  /** Gives the gateway a streamed answer that became whole, where it shall be kept. */
  function captureForCache(
    { cache, tenant }: GenerationCall,
    maskVersion: () => number,
  ): EventStreamOptions['capture'] {
    const { onCacheableResponse } = deps
    if (!cache || tenant === undefined || !onCacheableResponse) return undefined
    const known = { ...cache, nodeId: deps.nodeId, tenant, contentType: EVENT_STREAM }
    return {
      mostBytes: MAX_CACHED_RESPONSE_BYTES,
      take: (body) => onCacheableResponse({ ...known, maskVersion: maskVersion(), body }),
    }
  }

  return async function generate(job, request) {
    const arrivedMs = nowMs()
    const running = calls.begin(job.requestId)
    const call: ReceiptCall = { ...job, sampledText: job.sample ? job.clientText : null }
    const route = new URL(request.url).pathname
    const span = startCallSpan(tracing.tracer, tracing.contextOf(request.headers), route)
    span.span.setAttributes({ 'copal.request': job.requestId, 'copal.domain': job.domain })
    const abort = new AbortController()
    const cancel = () => abort.abort()
    request.signal.addEventListener('abort', cancel, { once: true })
    if (request.signal.aborted) cancel()

    async function start(): Promise<Choices> {
      try {
        requireModel(deps, job.model)
        const plan = await job.prepare(abort.signal)
        const common = {
          id: job.requestId,
          weights: chooseWeights(deps, job, plan.prompts.length * plan.choicesPerPrompt),
          restartable: !job.stream,
          partition: job.tenant,
          deadlineMs: deps.requestTimeoutMs,
        }
        const choices = startChoices(engine, plan, common, abort)
        for (const { prompt, outcome } of choices.parts) running.track(prompt, outcome)
        void choices.outcome.then(settle)
        return choices
      } catch (thrown) {
        const error = toAppError(thrown)
        endRejected(span, error)
        metrics.rejected(error.code)
        desk.reject(call, arrivedMs, error)
        running.end()
        throw thrown
      }
    }

    function settle(outcome: GenerationOutcome): void {
      endGenerated(tracing.tracer, span, outcome)
      desk.settle(call, outcome)
      running.end()
      const { shadowVersion } = job
      if (job.sample && shadowVersion !== undefined) shadows.score({ ...job, shadowVersion }, outcome)
    }

    const headOf = (maskVersion: number): OutputHead => ({
      id: job.idPrefix + job.requestId,
      created: Math.floor(arrivedMs / 1000),
      model: job.model,
      system_fingerprint: fingerprint(job.model, maskVersion),
    })
    const headersOf = (maskVersion: number | undefined) =>
      responseHeaders(deps.nodeId, job.domain, maskVersion)
    const onError = logBrokenResponse(log, job.requestId)
    const starting = start()
    if (!job.stream) {
      const pending = starting.then(async (choices) => {
        const { maskVersion, whole } = await collectChoices(choices)
        const usage = usageOf(await choices.outcome)
        return { maskVersion, answer: job.format(headOf(maskVersion)).body(whole, usage) }
      })
      return respondWhenReady(pending, headersOf, { keepAliveMs: lateMs, onCancel: cancel, onError })
    }
    const pinned = starting.then(({ events }) => pinnedVersion(events))
    const inTime = await within(pinned, lateMs)
    let maskVersion = inTime ?? 0
    const head = headOf(maskVersion)
    const format = job.format(head)
    async function* objects() {
      maskVersion = await pinned
      // Nothing was made of the head before.
      head.system_fingerprint = fingerprint(job.model, maskVersion)
      yield* streamObjects(await starting, format)
    }
    const body = eventStream(objects(), {
      format,
      keepAliveMs,
      isLate: inTime === undefined,
      onCancel: cancel,
      onError,
      capture: captureForCache(job, () => maskVersion),
    })
    return new Response(body, {
      headers: { 'content-type': EVENT_STREAM, ...headersOf(inTime), 'cache-control': 'no-cache' },
    })
  }
}

async function collectChoices({
  events,
  count,
}: Choices): Promise<{ maskVersion: number; whole: FinishedChoice[] }> {
  let maskVersion = 0
  const whole = Array.from({ length: count }, (): FinishedChoice => ({
    text: '',
    tokens: [],
    reason: 'stop',
  }))
  for await (const { choice, event } of events) {
    const answer = whole[choice]!
    if (event.type === 'pinned') {
      // Again: it started over on other weights, and nothing before counts.
      maskVersion = event.maskVersion
      Object.assign(answer, { text: '', tokens: [] })
    } else if (event.type === 'text') {
      answer.text += event.text
      answer.tokens.push(...event.tokens)
    } else answer.reason = event.reason
  }
  return { maskVersion, whole }
}

/** Of the choice that begins first; all of them have the same. */
async function pinnedVersion(events: AsyncIterator<ChoiceEvent>): Promise<number> {
  const { value, done } = await events.next()
  if (done || value.event.type !== 'pinned')
    throw new AppError('internal_error', 'The answer began without its weights.')
  return value.event.maskVersion
}

async function* streamObjects(
  { events, count, outcome }: Choices,
  format: OutputFormat,
): AsyncGenerator<object, void, undefined> {
  // Held back until there is a token: before it, another node can still give the answer.
  let isOpen = false
  for await (const { choice, event } of events) {
    if (event.type === 'pinned') continue
    if (!isOpen) yield* format.start(count)
    isOpen = true
    if (event.type === 'text') yield* format.delta(choice, event.text, event.tokens)
    else yield* format.endChoice(choice, event.reason)
  }
  yield* format.end(usageOf(await outcome))
}

function usageOf({
  promptTokens,
  cachedTokens,
  completionTokens,
}: {
  promptTokens: number
  cachedTokens: number
  completionTokens: number
}): Usage {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  }
}
