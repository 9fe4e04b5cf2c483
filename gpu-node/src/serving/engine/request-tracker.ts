/**
 * Who waits for the requests in the scheduler's state: clients that read what is sampled, and callers of scores. They
 * are told of each step, and of the end.
 */
import type { AppError } from '@copal/shared/errors.ts'
import type { WeightSet } from '../contract/backend.ts'
import type { GenerateRequest, GenerationOutcome, PartProgress } from './generation-request.ts'
import type { EngineObserver } from './engine-observer.ts'
import { finishReasonOf, deadlineExceeded } from './request-errors.ts'
import { cancelled } from '../../platform/unless-aborted.ts'
import type { Request } from './engine-request.ts'
import type { OutputHandler } from './output-handlers.ts'
import { endRequest, preemptRequest, restartRequest, type EngineState } from './engine-state.ts'
import type { StepOutcome } from './step-plan.ts'

/** What the engine keeps of a request beyond what the scheduler knows. */
interface TrackedRequest {
  /** The caller's. */
  id: string
  part: number | undefined
  request: Request
  output: OutputHandler
  weights: WeightSet | null
  /** Tokens of its prompt that others had computed when it began on these weights. */
  cachedTokens: number
  startedMs: number | null
  firstTokenMs: number | null
  lastTokenMs: number | null
  /** The start of its first step since it last waited; null while it waits. */
  runsSinceMs: number | null
  progressMs: number
  arrivedMs: number
  resolveOutcome: (outcome: GenerationOutcome) => void
  dispose: () => void
}

/** When a step ran, and on which weights. */
interface StepTimes {
  weights: WeightSet
  startedMs: number
  endedMs: number
}

/** Those who wait. */
export interface RequestTracker {
  /** Running mean of how long requests take. */
  readonly meanRequestMs: number
  /** Scores that somebody waits for. */
  readonly pendingScores: number
  /** Follows a request that serves a client until it ends. */
  track(
    request: Request,
    spec: Pick<GenerateRequest, 'id' | 'part' | 'signal' | 'deadlineMs'>,
    arrivedMs: number,
    sink: OutputHandler,
  ): Promise<GenerationOutcome>
  /** Waits for the scores of a request. */
  trackScore(request: Request, signal: AbortSignal | undefined): Promise<Float32Array>
  /** Tells everybody what a step brought, and ends what it completed. */
  deliverStep(outcome: StepOutcome, times: StepTimes): void
  /** Ends a request or scoring with an error. */
  fail(request: Request, error: AppError): void
  /** Sends a request back to wait for room. */
  preempt(request: Request): void
  /** Starts a client's request over on other weights. @returns whether there is one */
  restart(request: Request): boolean
  /** Ends everything with an error. */
  failAll(error: () => AppError): void
  /** Every request of a client, and how far it is. */
  progress(): PartProgress[]
}

/**
 * Nobody yet.
 *
 * @param ended called after each end, when the state is complete
 */
export function createRequestTracker(
  state: EngineState,
  nowMs: () => number,
  observer: EngineObserver | undefined,
  ended: () => void,
): RequestTracker {
  const jobs = new Map<Request, TrackedRequest>()
  const scores = new Map<Request, { resolve: (nll: Float32Array) => void; reject: (error: Error) => void }>()
  let meanRequestMs = 1000

  function announce(request: Request, weights: WeightSet, startedMs: number, cachedTokens: number): void {
    const job = jobs.get(request)
    if (!job) return
    job.runsSinceMs = startedMs
    // A preempted request that comes back is still the same answer.
    if (job.weights === weights) return
    job.weights = weights
    job.cachedTokens = cachedTokens
    job.startedMs ??= startedMs
    job.output.pinned(weights.version)
  }

  function deliver(job: TrackedRequest, output: Parameters<OutputHandler['token']>[0], atMs: number): void {
    observer?.token?.({ sinceMs: atMs - (job.lastTokenMs ?? job.arrivedMs), first: job.lastTokenMs === null })
    job.firstTokenMs ??= atMs
    job.lastTokenMs = atMs
    const reason = job.output.token(output)
    if (reason) end(job, reason, null)
  }

  function end(job: TrackedRequest, finishReason: GenerationOutcome['finishReason'], error: AppError | null): void {
    const { request, output } = job
    if (!jobs.delete(request)) return
    endRequest(state, request)
    job.dispose()
    const endedMs = nowMs()
    const outcome = outcomeOf(job, finishReason, error, endedMs)
    if (finishReason === 'stop' || finishReason === 'length') {
      output.finished(finishReason, outcome.promptTokens, job.cachedTokens)
      meanRequestMs += 0.1 * (endedMs - job.arrivedMs - meanRequestMs)
    }
    observer?.ended?.(outcome)
    job.resolveOutcome(outcome)
    output.closed(error ?? undefined)
    ended()
  }

  function completeScore(request: Request): void {
    const { goal } = request
    const waiter = scores.get(request)
    scores.delete(request)
    endRequest(state, request)
    if (goal.kind === 'score') waiter?.resolve(goal.nll)
  }

  function fail(request: Request, error: AppError): void {
    const job = jobs.get(request)
    if (job) return end(job, finishReasonOf(error), error)
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

    track(request, spec, arrivedMs, sink) {
      const { promise: outcome, resolve: finish } = Promise.withResolvers<GenerationOutcome>()
      const cancel = () => fail(request, cancelled())
      jobs.set(request, {
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
      const { promise, resolve, reject } = Promise.withResolvers<Float32Array>()
      scores.set(request, { resolve, reject })
      const dispose = watch({ signal }, () => fail(request, cancelled()), undefined)
      try {
        return await promise
      } finally {
        dispose()
      }
    },

    deliverStep(outcome, { weights, startedMs, endedMs }) {
      for (const { request, cachedTokens } of outcome.pinned)
        announce(request, weights, startedMs, cachedTokens)
      for (const request of outcome.progressed) {
        const job = jobs.get(request)
        if (job) job.progressMs = endedMs
      }
      for (const { request, output } of outcome.sampled) {
        const job = jobs.get(request)
        if (job) deliver(job, output, endedMs)
      }
      for (const request of outcome.scored) completeScore(request)
      for (const request of outcome.embedded) {
        const job = jobs.get(request)
        if (job) end(job, 'stop', null)
      }
    },

    fail,

    preempt(request) {
      preemptRequest(state, request)
      const job = jobs.get(request)
      if (job) job.runsSinceMs = null
    },

    restart(request) {
      const job = jobs.get(request)
      if (!job) return false
      restartRequest(state, request)
      job.output.restart()
      job.weights = null
      job.startedMs = null
      job.runsSinceMs = null
      job.firstTokenMs = null
      job.lastTokenMs = null
      return true
    },

    failAll(error) {
      for (const request of [...jobs.keys(), ...scores.keys()]) fail(request, error())
    },

    progress: () => [...jobs.values()].map((job) => progressOf(job, nowMs())),
  }
}

function progressOf(job: TrackedRequest, nowMs: number): PartProgress {
  const { id, part, weights, output, request, progressMs, runsSinceMs, firstTokenMs } = job
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

/** Calls back on abort and at the deadline until it is disposed of. */
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
