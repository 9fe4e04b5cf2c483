import { AppError, toAppError } from '@copal/shared/errors.ts'
import type { Usage } from '@copal/shared/wire/inference-fields.ts'
import type { CacheTarget } from '@copal/shared/wire/node-calls.ts'
import { MAX_CACHED_RESPONSE_BYTES } from '@copal/shared/wire/receipts.ts'
import type { TokenScores } from '../../contract/backend.ts'
import type { TokenLogprob } from '../../engine/generated-text.ts'
import type { GenerationOutcome } from '../../engine/generation-request.ts'
import type { OutputFormat, OutputHead, FinishedChoice } from '../formats/output-format.ts'
import { responseHeaders, chooseWeights, fingerprint, requireModel } from './request-weights.ts'
import type { BeginRecord } from './call-record.ts'
import { startChoices, type ChoiceEvent, type Choices, type ChoicesPlan } from './completion-choices.ts'
import type { NodeServerDeps } from './node-server-deps.ts'
import { respondWhenReady, LATE_AFTER_MS } from './late-response.ts'
import { requireCollectedFit } from './response-size.ts'
import type { ClientText } from '../prompts/client-text.ts'
import type { ShadowScorer } from '../receipts/shadow-scoring.ts'
import { EVENT_STREAM, eventStream, type EventStreamOptions } from './event-stream.ts'
import { withTimeout } from '../../../platform/timeout.ts'

/** One call of either API, ready to run. */
interface GenerationCall {
  requestId: string
  domain: string
  account?: string | undefined
  attestation?: string | undefined
  /** Prompts of one tenant may share computed key/value pages. */
  tenant?: string | undefined
  /** Names that the gateway gives to prefixes of the first prompt. */
  prefix?: readonly string[] | undefined
  sample: boolean
  model: string
  /** Version of the weights to generate with; the active ones when undefined. */
  maskVersion?: number | undefined
  /** Version of trial weights under which the output is also scored. */
  shadowVersion?: number | undefined
  stream: boolean
  /** Where the gateway caches a streamed response; undefined when it is not cached. */
  cache?: CacheTarget | undefined
  /** Prefix of the response id: `chatcmpl-`, `cmpl-`, `resp_`. */
  idPrefix: string
  /**
   * Prepares the work of the engine; may be costly.
   *
   * @throws AppError when the request cannot be served as it is
   */
  prepare: (signal: AbortSignal) => Promise<ChoicesPlan>
  /** Returns the client's new text once `prepare` has returned; may be costly. */
  clientText: () => Promise<ClientText>
  format: (head: OutputHead) => OutputFormat
}

/** Runs a generation call and returns its response. */
export type Generate = (call: GenerationCall, request: Request) => Promise<Response>

/**
 * Creates the function that runs generations for both APIs. Each call has one receipt and one span. Headers are sent once
 * the weights are known, or after `LATE_AFTER_MS` without them. The request is aborted when the client disconnects.
 */
export function createGenerate(
  deps: NodeServerDeps,
  beginRecord: BeginRecord,
  shadows: ShadowScorer,
): Generate {
  const { engine } = deps
  const keepAliveMs = deps.keepAliveMs ?? 5_000
  const lateMs = deps.keepAliveMs ?? LATE_AFTER_MS

  /** Returns the capture that passes a complete streamed response to the gateway; undefined when it is not cached. */
  function captureForCache(
    { cache, tenant }: GenerationCall,
    maskVersion: () => number,
  ): EventStreamOptions['capture'] {
    const { onCacheableResponse } = deps
    if (!cache || tenant === undefined || !onCacheableResponse) return undefined
    const fields = { ...cache, nodeId: deps.nodeId, tenant, contentType: EVENT_STREAM }
    return {
      maxBytes: MAX_CACHED_RESPONSE_BYTES,
      onComplete: (body) => onCacheableResponse({ ...fields, maskVersion: maskVersion(), body }),
    }
  }

  return async function generate(call, request) {
    const created = Math.floor(Date.now() / 1000)
    const record = beginRecord({ ...call, sampledText: call.sample ? call.clientText : null }, request)
    const abort = new AbortController()
    const cancel = () => abort.abort()
    request.signal.addEventListener('abort', cancel, { once: true })
    if (request.signal.aborted) cancel()

    async function start(): Promise<Choices> {
      try {
        requireModel(deps, call.model)
        const plan = await call.prepare(abort.signal)
        const common = {
          id: call.requestId,
          weights: chooseWeights(deps, call, plan.prompts.length * plan.choicesPerPrompt),
          restartable: !call.stream,
          partition: call.tenant,
          deadlineMs: deps.requestTimeoutMs,
        }
        const choices = startChoices(engine, plan, common, abort)
        for (const { prompt, outcome } of choices.parts) record.track(prompt, outcome)
        void choices.outcome.then((outcome) => settle(outcome, choices.parts.length))
        return choices
      } catch (thrown) {
        record.rejected(toAppError(thrown))
        throw thrown
      }
    }

    function settle(outcome: GenerationOutcome, outputs: number): void {
      record.ended(outcome, outputs)
      const { shadowVersion } = call
      if (call.sample && shadowVersion !== undefined) shadows.score({ ...call, shadowVersion }, outcome)
    }

    const headOf = (maskVersion: number): OutputHead => ({
      id: call.idPrefix + call.requestId,
      created,
      model: call.model,
      system_fingerprint: fingerprint(call.model, maskVersion),
    })
    const headersOf = (maskVersion: number | undefined) =>
      responseHeaders(deps.nodeId, call.domain, maskVersion)
    const onError = record.broken
    const starting = start()
    if (!call.stream) {
      const pending = starting.then(async (choices) => {
        const { maskVersion, finished } = await collectChoices(choices)
        const usage = usageOf(await choices.outcome)
        return { maskVersion, body: call.format(headOf(maskVersion)).body(finished, usage) }
      })
      return respondWhenReady(pending, headersOf, { keepAliveMs: lateMs, onCancel: cancel, onError })
    }
    const pinned = starting.then(({ events }) => pinnedVersion(events))
    const versionInTime = await withTimeout(pinned, lateMs)
    let maskVersion = versionInTime ?? 0
    const head = headOf(maskVersion)
    const format = call.format(head)
    async function* objects() {
      maskVersion = await pinned
      // The format has not used the head yet.
      head.system_fingerprint = fingerprint(call.model, maskVersion)
      yield* streamObjects(await starting, format)
    }
    const body = eventStream(objects(), {
      format,
      keepAliveMs,
      lateMask: versionInTime === undefined ? () => maskVersion : undefined,
      onCancel: cancel,
      onError,
      capture: captureForCache(call, () => maskVersion),
    })
    return new Response(body, {
      headers: { 'content-type': EVENT_STREAM, ...headersOf(versionInTime), 'cache-control': 'no-cache' },
    })
  }
}

async function collectChoices({
  events,
  count,
}: Choices): Promise<{ maskVersion: number; finished: FinishedChoice[] }> {
  let maskVersion = 0
  let logprobs = 0
  const finished = Array.from({ length: count }, (): FinishedChoice => ({
    text: '',
    tokens: [],
    reason: 'stop',
  }))
  for await (const { choice, event } of events) {
    const current = finished[choice]!
    if (event.type === 'pinned') {
      // A second `pinned` event means a restart on other weights, which discards the output so far.
      maskVersion = event.maskVersion
      logprobs -= logprobsOf(current.tokens)
      Object.assign(current, { text: '', tokens: [], promptScores: undefined })
    } else if (event.type === 'prompt') current.promptScores = event.scores
    else if (event.type === 'text') {
      current.text += event.text
      current.tokens.push(...event.tokens)
      logprobs += logprobsOf(event.tokens)
      requireCollectedFit(logprobs)
    } else current.reason = event.reason
  }
  return { maskVersion, finished }
}

/** Returns how many log-probabilities tokens and their alternatives have. */
function logprobsOf(tokens: readonly TokenLogprob[]): number {
  return tokens.reduce((count, { top }) => count + 1 + top.length, 0)
}

/** Returns the mask version of the choice that starts first; all choices have the same one. */
async function pinnedVersion(events: AsyncIterator<ChoiceEvent>): Promise<number> {
  const { value, done } = await events.next()
  if (done || value.event.type !== 'pinned')
    throw new AppError('internal_error', 'The generation started without weights.')
  return value.event.maskVersion
}

async function* streamObjects(
  { events, count, outcome }: Choices,
  format: OutputFormat,
): AsyncGenerator<object, void, undefined> {
  // Nothing is sent before the first token, because until then another node can still serve the request.
  let isStarted = false
  const promptScores = new Map<number, TokenScores>()
  const echoed = new Set<number>()
  for await (const { choice, event } of events) {
    if (event.type === 'pinned') continue
    if (event.type === 'prompt') {
      promptScores.set(choice, event.scores)
      continue
    }
    if (!isStarted) yield* format.start(count)
    isStarted = true
    if (format.echo && !echoed.has(choice)) yield* format.echo(choice, promptScores.get(choice))
    echoed.add(choice)
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
