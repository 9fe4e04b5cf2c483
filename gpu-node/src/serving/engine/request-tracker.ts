/**
 * Tracks the requests in the scheduler's state for their callers: clients that read sampled tokens, and callers of
 * scores. Delivers the results of each step and the end of each request.
 */
import { AppError } from '@copal/shared/errors.ts'
import type { SampledToken, WeightSet } from '../contract/backend.ts'
import type { GenerateRequest, GenerationOutcome, PartProgress } from './generation-request.ts'
import type { EngineObserver } from './engine-observer.ts'
import { finishReasonOf, deadlineExceeded } from './request-errors.ts'
import { cancelled } from '../../platform/unless-aborted.ts'
import type { Request } from './engine-request.ts'
import type { OutputHandler } from './output-handlers.ts'
import { endRequest, preemptRequest, restartRequest, type EngineState } from './engine-state.ts'
import type { StepOutcome } from './step-plan.ts'

/** State of one request beyond what the scheduler knows. */
interface TrackedRequest {
  /** The caller's id. */
  id: string
  part: number | undefined
  request: Request
  output: OutputHandler
  weights: WeightSet | null
  /** Prompt tokens that were already cached when it started on these weights. */
  cachedTokens: number
  startedMs: number | null
  firstTokenMs: number | null
  lastTokenMs: number | null
  /** Start of its first step since it last waited; null while it waits. */
  runsSinceMs: number | null
  progressMs: number
  arrivedMs: number
  resolveOutcome: (outcome: GenerationOutcome) => void
  dispose: () => void
}

/** Times of one step, and the weights it ran on. */
interface StepTimes {
  weights: WeightSet
  startedMs: number
  endedMs: number
}

/** The requests that callers wait for. */
export interface RequestTracker {
  /** Running mean of the duration of requests. */
  readonly meanRequestMs: number
  /** Number of scorings that callers wait for. */
  readonly pendingScores: number
  /** Tracks a request that serves a client until it ends. */
  track(
    request: Request,
    spec: Pick<GenerateRequest, 'id' | 'part' | 'signal' | 'deadlineMs'>,
    arrivedMs: number,
    output: OutputHandler,
  ): Promise<GenerationOutcome>
  /** Tracks a scoring until its goal is reached. */
  trackScore(request: Request, signal: AbortSignal | undefined): Promise<void>
  /** Delivers the results of a step and ends the requests that it completed. */
  deliverStep(outcome: StepOutcome, times: StepTimes): void
  /** Ends a request or scoring with an error. */
  fail(request: Request, error: AppError): void
  /** Sends a request back to wait for pages. */
  preempt(request: Request): void
  /** Restarts a client's request on other weights. @returns false for a request that is not tracked */
  restart(request: Request): boolean
  /** Ends every request with an error. */
  failAll(error: () => AppError): void
  /** Returns the progress of every client's request. */
  progress(): PartProgress[]
}

/**
 * Creates an empty tracker.
 *
 * @param ended called after a request has ended and the state is consistent again
 */
export function createRequestTracker(
  state: EngineState,
  nowMs: () => number,
  observer: EngineObserver | undefined,
  ended: () => void,
): RequestTracker {
  const tracked = new Map<Request, TrackedRequest>()
  const scores = new Map<Request, { resolve: () => void; reject: (error: Error) => void }>()
  let meanRequestMs = 1000

  function markStarted(request: Request, weights: WeightSet, startedMs: number, cachedTokens: number): void {
    const entry = tracked.get(request)
    if (!entry) return
    entry.runsSinceMs = startedMs
    // A preempted request that resumes on the same weights continues the same response.
    if (entry.weights === weights) return
    entry.weights = weights
    entry.cachedTokens = cachedTokens
    entry.startedMs ??= startedMs
    entry.output.pinned(weights.version)
  }

  function deliverTokens(entry: TrackedRequest, tokens: readonly SampledToken[], atMs: number): void {
    const { request, output, lastTokenMs, arrivedMs } = entry
    entry.firstTokenMs ??= atMs
    entry.lastTokenMs = atMs
    let reason: ReturnType<OutputHandler['token']>
    let taken = 0
    for (; taken < tokens.length && !reason; taken++) reason = output.token(tokens[taken] as SampledToken)
    observer?.sampled?.({
      tokens: taken,
      sinceMs: atMs - (lastTokenMs ?? arrivedMs),
      first: lastTokenMs === null,
    })
    if (!reason) return
    // What the step sampled after the end is not part of the output.
    request.tokens.length -= tokens.length - taken
    end(entry, reason, null)
  }

  function end(
    entry: TrackedRequest,
    finishReason: GenerationOutcome['finishReason'],
    error: AppError | null,
  ): void {
    const { request, output } = entry
    if (!tracked.delete(request)) return
    endRequest(state, request)
    entry.dispose()
    const endedMs = nowMs()
    const outcome = outcomeOf(entry, finishReason, error, endedMs)
    if (finishReason === 'stop' || finishReason === 'length') {
      output.finished(finishReason, outcome.promptTokens, entry.cachedTokens)
      meanRequestMs += 0.1 * (endedMs - entry.arrivedMs - meanRequestMs)
    }
    observer?.ended?.(outcome)
    entry.resolveOutcome(outcome)
    output.closed(error ?? undefined)
    ended()
  }

  function completeScore(request: Request): void {
    const waiter = scores.get(request)
    scores.delete(request)
    endRequest(state, request)
    waiter?.resolve()
  }

  function fail(request: Request, error: AppError): void {
    const entry = tracked.get(request)
    if (entry) return end(entry, finishReasonOf(error), error)
    const waiter = scores.get(request)
    if (!waiter) return
    scores.delete(request)
    endRequest(state, request)
    waiter.reject(error)
    ended()
  }

  return {
    get meanRequestMs() {
      return meanRequestMs
    },
    get pendingScores() {
      return scores.size
    },

    track(request, spec, arrivedMs, output) {
      const { promise: outcome, resolve: resolveOutcome } = Promise.withResolvers<GenerationOutcome>()
      const cancel = () => fail(request, cancelled())
      tracked.set(request, {
        id: spec.id,
        part: spec.part,
        request,
        output,
        weights: null,
        cachedTokens: 0,
        startedMs: null,
        firstTokenMs: null,
        lastTokenMs: null,
        runsSinceMs: null,
        progressMs: arrivedMs,
        arrivedMs,
        resolveOutcome,
        dispose: watch(spec, cancel, () => fail(request, deadlineExceeded(spec.deadlineMs))),
      })
      if (spec.signal?.aborted) cancel()
      return outcome
    },

    async trackScore(request, signal) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      scores.set(request, { resolve, reject })
      const dispose = watch({ signal }, () => fail(request, cancelled()), undefined)
      try {
        await promise
      } finally {
        dispose()
      }
    },

    deliverStep(outcome, { weights, startedMs, endedMs }) {
      for (const { request, cachedTokens } of outcome.pinned)
        markStarted(request, weights, startedMs, cachedTokens)
      for (const request of outcome.progressed) {
        const entry = tracked.get(request)
        if (entry) entry.progressMs = endedMs
      }
      for (const { request, tokens } of outcome.sampled) {
        const entry = tracked.get(request)
        if (entry) deliverTokens(entry, tokens, endedMs)
      }
      for (const { request, message } of outcome.failed)
        fail(request, new AppError('invalid_output', message))
      for (const request of outcome.scored) completeScore(request)
      for (const request of outcome.embedded) {
        const entry = tracked.get(request)
        if (entry) end(entry, 'stop', null)
      }
    },

    fail,

    preempt(request) {
      preemptRequest(state, request)
      const entry = tracked.get(request)
      if (entry) entry.runsSinceMs = null
    },

    restart(request) {
      const entry = tracked.get(request)
      if (!entry) return false
      restartRequest(state, request)
      entry.output.restart()
      entry.weights = null
      entry.startedMs = null
      entry.runsSinceMs = null
      entry.firstTokenMs = null
      entry.lastTokenMs = null
      return true
    },

    failAll(error) {
      for (const request of [...tracked.keys(), ...scores.keys()]) fail(request, error())
    },

    progress: () => [...tracked.values()].map((entry) => progressOf(entry, nowMs())),
  }
}

function progressOf(entry: TrackedRequest, nowMs: number): PartProgress {
  const { id, part, weights, output, request, progressMs, runsSinceMs, firstTokenMs } = entry
  const lacksToken = runsSinceMs !== null && firstTokenMs === null && request.goal.kind === 'generate'
  return {
    requestId: id,
    part,
    promptTokens: weights === null ? 0 : request.promptTokens,
    completionTokens: output.completionTokens,
    idleMs: request.status.kind === 'waiting' ? 0 : Math.max(0, nowMs - progressMs),
    ...(lacksToken ? { firstTokenWaitMs: Math.max(0, nowMs - runsSinceMs) } : {}),
  }
}

function outcomeOf(
  { request, output, weights, cachedTokens, arrivedMs, startedMs, firstTokenMs }: TrackedRequest,
  finishReason: GenerationOutcome['finishReason'],
  error: AppError | null,
  endedMs: number,
): GenerationOutcome {
  return {
    finishReason,
    weights,
    promptTokens: weights === null ? 0 : request.promptTokens,
    cachedTokens,
    completionTokens: output.completionTokens,
    text: { tokens: request.tokens, promptTokens: request.promptTokens },
    times: { arrivedMs, startedMs, firstTokenMs, endedMs },
    error,
  }
}

/** Calls back on abort and at the deadline until the returned function is called. */
function watch(
  { signal, deadlineMs }: { signal?: AbortSignal | undefined; deadlineMs?: number | undefined },
  onAbort: () => void,
  onDeadline: (() => void) | undefined,
): () => void {
  signal?.addEventListener('abort', onAbort, { once: true })
  const timer = deadlineMs === undefined || !onDeadline ? undefined : setTimeout(onDeadline, deadlineMs)
  return () => {
    signal?.removeEventListener('abort', onAbort)
    clearTimeout(timer)
  }
}
