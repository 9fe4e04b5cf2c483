/**
 * Runs requests on weight sets: the loop around the scheduler.
 *
 * Each weight set has a lane, in which one step runs at a time; lanes run side by side. A lane
 * that has nothing to do sleeps until a request arrives, ends, or another lane made progress.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError, toAppError } from '@copal/shared/errors.ts'
import type { StepResult, WeightSet } from '../backends/backend.ts'
import { heldBeginnings } from './beginnings.ts'
import { createAnswer } from './answer.ts'
import type { Engine, EngineDeps } from './api.ts'
import { createDrains } from './drains.ts'
import type { Embedding, EmbedRequest } from './embedding.ts'
import { createEventQueue } from './event-queue.ts'
import type { GenerateEvent, GenerateRequest, GenerationOutcome } from './generation.ts'
import { watch, type Job } from './job.ts'
import { createPolicy } from './policy.ts'
import {
  cancelled,
  checkBiases,
  checkTokens,
  contextExceeded,
  overloaded,
  shuttingDown,
  stepError,
  textTooLong,
  tooLate,
  weightsLost,
} from './refusals.ts'
import type { Goal, Request } from './request.ts'
import { choosePreemptions, isIdle, planStep } from './scheduler.ts'
import { createEmbeddingSink, createGenerationSink, type Sink } from './sinks.ts'
import {
  addRequest,
  boundTo,
  createState,
  endRequest,
  forgetWeights,
  kvTokensCached,
  kvTokensUsed,
  preemptRequest,
  restartRequest,
  runningRequests,
  waitingRequests,
} from './state.ts'
import {
  commitStep,
  releaseStep,
  reserveStep,
  tokensByKind,
  type ReservedStep,
  type StepOutcome,
} from './step-plan.ts'

/** Time for a dead weight set to say so after it rejected a step. */
const FAILURE_PAUSE_MS = 100

/** An engine without weights: requests wait until the first `setActive`. */
export function createEngine(deps: EngineDeps): Engine {
  const { backend, config, codec, observer } = deps
  const nowMs = deps.nowMs ?? (() => performance.timeOrigin + performance.now())
  const policy = createPolicy(config.contextLength, deps.policy)
  const state = createState(policy)
  const jobs = new Map<Request, Job>()
  const scores = new Map<Request, { resolve: (nll: Float32Array) => void; reject: (error: Error) => void }>()
  const lanes = new Map<WeightSet, { busy: boolean }>()
  const endTokens = new Set(config.eosTokenIds)
  let closed = false
  /** Running mean of how long requests take, for Retry-After. */
  let meanRequestMs = 1000

  const inspect = () => deps.inspect?.(state, policy)
  const drains = createDrains({
    boundTo: (version) => boundTo(state, (weights) => weights.version === version),
    activeVersion: () => state.active?.version,
    giveUp: (request) => giveUpAtDeadline(request),
  })

  function lane(weights: WeightSet): { busy: boolean } {
    const known = lanes.get(weights)
    if (known) return known
    const made = { busy: false }
    lanes.set(weights, made)
    void weights.ended.then((cause) => loseWeights(weights, cause))
    return made
  }

  /** Lets every idle lane look for work, after the caller's own changes are complete. */
  function wake(): void {
    for (const [weights, entry] of lanes) {
      if (entry.busy) continue
      entry.busy = true
      queueMicrotask(() => void runLane(weights, entry))
    }
  }

  async function runLane(weights: WeightSet, entry: { busy: boolean }): Promise<void> {
    while (!closed && lanes.get(weights) === entry) {
      const victims = choosePreemptions(state, weights, policy)
      for (const victim of victims) preemptRequest(state, victim)
      // A victim on another weight set leaves its lane something to do.
      if (victims.length > 0) wake()
      const draft = planStep(state, weights, policy)
      if (isIdle(draft)) break
      const step = reserveStep(state, draft)
      inspect()
      await runStep(step)
      inspect()
      wake()
    }
    entry.busy = false
  }

  async function runStep(step: ReservedStep): Promise<void> {
    const startedMs = nowMs()
    let result: StepResult
    let outcome: StepOutcome
    try {
      result = await backend.step(step.plan)
      outcome = commitStep(state, step, result)
    } catch (thrown) {
      releaseStep(state, step)
      return failStep(step, thrown)
    }
    const endedMs = nowMs()
    observer?.step?.({
      maskVersion: step.plan.weights.version,
      durationMs: endedMs - startedMs,
      ...tokensByKind(step),
    })
    for (const { request, cachedTokens } of outcome.pinned)
      announce(request, step.plan.weights, startedMs, cachedTokens)
    for (const request of outcome.progressed) {
      const job = jobs.get(request)
      if (job) job.progressMs = endedMs
    }
    for (const { request, output } of outcome.sampled) {
      const job = jobs.get(request)
      if (job) deliver(job, output, endedMs)
    }
    for (const request of outcome.scored) {
      const { goal } = request
      const waiter = scores.get(request)
      scores.delete(request)
      endRequest(state, request)
      if (goal.kind === 'score') waiter?.resolve(goal.nll)
    }
    for (const request of outcome.embedded) {
      const job = jobs.get(request)
      if (job) end(job, 'stop', null)
    }
    drains.settle()
  }

  function announce(request: Request, weights: WeightSet, startedMs: number, cachedTokens: number): void {
    const job = jobs.get(request)
    // A preempted request that comes back is still the same answer.
    if (!job || job.weights === weights) return
    job.weights = weights
    job.cachedTokens = cachedTokens
    job.startedMs ??= startedMs
    job.sink.pinned(weights.version)
  }

  function deliver(job: Job, output: Parameters<Sink['token']>[0], atMs: number): void {
    observer?.token?.({ sinceMs: atMs - (job.lastTokenMs ?? job.arrivedMs), first: job.lastTokenMs === null })
    job.firstTokenMs ??= atMs
    job.lastTokenMs = atMs
    const reason = job.sink.token(output)
    if (reason) end(job, reason, null)
  }

  function end(job: Job, finishReason: GenerationOutcome['finishReason'], error: AppError | null): void {
    const { request, sink } = job
    if (!jobs.delete(request)) return
    endRequest(state, request)
    job.dispose()
    const endedMs = nowMs()
    const { completionTokens } = sink
    const promptTokens = job.weights === null ? 0 : request.promptTokens
    if (finishReason === 'stop' || finishReason === 'length') {
      sink.finished(finishReason, promptTokens, job.cachedTokens)
      meanRequestMs += 0.1 * (endedMs - job.arrivedMs - meanRequestMs)
    }
    const times = {
      arrivedMs: job.arrivedMs,
      startedMs: job.startedMs,
      firstTokenMs: job.firstTokenMs,
      endedMs,
    }
    const { weights, cachedTokens } = job
    const text = { tokens: request.tokens, promptTokens: request.promptTokens }
    const outcome = {
      finishReason,
      weights,
      promptTokens,
      cachedTokens,
      completionTokens,
      text,
      times,
      error,
    }
    observer?.ended?.(outcome)
    job.finish(outcome)
    sink.closed(error ?? undefined)
    drains.settle()
    inspect()
    wake()
  }

  /** Ends a request or scoring with an error. */
  function fail(request: Request, error: AppError): void {
    const job = jobs.get(request)
    if (job) return end(job, error.code === 'client_closed_request' ? 'cancelled' : 'error', error)
    const waiter = scores.get(request)
    if (!waiter) return
    scores.delete(request)
    endRequest(state, request)
    waiter.reject(error)
    drains.settle()
    inspect()
    wake()
  }

  /** A step was rejected: the requests in it cannot go on, since nobody knows what the backend holds of them. */
  async function failStep(step: ReservedStep, thrown: unknown): Promise<void> {
    const error = thrown instanceof AppError ? thrown : stepError(thrown)
    for (const { request } of step.draft.work) fail(request, error)
    // If the whole set died, let that be known before more requests are sent into it.
    await Promise.race([step.plan.weights.ended, sleep(FAILURE_PAUSE_MS, undefined, { ref: false })])
  }

  function loseWeights(weights: WeightSet, cause: Error | undefined): void {
    lanes.delete(weights)
    const error = weightsLost(weights.version, cause)
    for (const request of boundTo(state, (other) => other === weights)) fail(request, error)
    forgetWeights(state, weights)
    drains.settle()
    inspect()
    wake()
  }

  function giveUpAtDeadline(request: Request): void {
    const job = jobs.get(request)
    if (job && mayRestart(request) && state.active) {
      restartRequest(state, request)
      job.sink.restart()
      job.weights = null
      job.startedMs = null
      job.firstTokenMs = null
      job.lastTokenMs = null
      inspect()
      wake()
    } else if (!job || deps.stragglers === 'fail') {
      fail(
        request,
        new AppError('deadline_exceeded', 'The mask was replaced and this request did not finish in time.'),
      )
    }
  }

  /** How long until what is here now will be done, by the mean of what ended. */
  const backlogMs = () => (meanRequestMs * state.requests.length) / policy.maxRunning

  function accept(goal: Goal, tokens: readonly number[], pin: WeightSet | null): Request {
    if (pin) lane(pin)
    const request = addRequest(state, goal, tokens, pin)
    inspect()
    wake()
    return request
  }

  /** Follows a request that serves a client until it ends. */
  function follow(
    request: Request,
    spec: Pick<GenerateRequest, 'id' | 'signal' | 'deadlineMs'>,
    arrivedMs: number,
    sink: Sink,
  ): Promise<GenerationOutcome> {
    const { promise: outcome, resolve: finish } = Promise.withResolvers<GenerationOutcome>()
    const cancel = () => fail(request, cancelled())
    jobs.set(request, {
      id: spec.id,
      request,
      sink,
      weights: null,
      cachedTokens: 0,
      startedMs: null,
      firstTokenMs: null,
      lastTokenMs: null,
      progressMs: arrivedMs,
      arrivedMs,
      finish,
      dispose: watch(spec, cancel, () => fail(request, tooLate(spec.deadlineMs))),
    })
    if (spec.signal?.aborted) cancel()
    return outcome
  }

  function checkQueue(): void {
    if (waitingRequests(state).length >= policy.maxWaiting)
      throw overloaded('requests waiting', policy.maxWaiting, backlogMs())
  }

  function checkOpen(): void {
    if (closed) throw shuttingDown()
  }

  return {
    policy,
    get activeVersion() {
      return state.active?.version ?? null
    },
    get active() {
      return state.active
    },

    setActive(weights) {
      checkOpen()
      lane(weights)
      state.active = weights
      drains.settle()
      wake()
    },

    generate(spec) {
      checkOpen()
      checkTokens(spec.prompt, config.vocabSize, 'prompt')
      checkBiases(spec.sampling.logitBias ?? [], config.vocabSize)
      const room = policy.contextLength - spec.prompt.length
      if (room < 1) throw contextExceeded(spec.prompt.length, policy.contextLength)
      checkQueue()
      const maxNewTokens = Math.min(spec.maxTokens ?? room, room)
      const sampler = { ...spec.sampling, promptTokens: spec.prompt.length }
      const newAnswer = () =>
        createAnswer({
          codec,
          endTokens,
          stops: spec.stops,
          maxNewTokens,
          logprobs: sampler.topLogprobs >= 0,
        })
      const { constraint } = spec
      const allowedAfter =
        constraint &&
        ((generated: readonly number[]) =>
          constraint.allowedAfter(generated).catch((thrown: unknown) => {
            fail(request, toAppError(thrown))
            return null
          }))
      const arrivedMs = nowMs()
      const request = accept(
        {
          kind: 'generate',
          sampler,
          maxNewTokens,
          restartable: spec.restartable && !spec.weights,
          partition: spec.partition ?? null,
          beginnings: spec.beginnings ?? [],
          allowedAfter,
        },
        spec.prompt,
        spec.weights ?? null,
      )
      const queue = createEventQueue<GenerateEvent>(() => fail(request, cancelled()))
      const outcome = follow(request, spec, arrivedMs, createGenerationSink(queue, newAnswer))
      return { events: queue.events, outcome }
    },

    embed(spec: EmbedRequest) {
      checkOpen()
      checkTokens(spec.tokens, config.vocabSize, 'tokens')
      if (spec.tokens.length > policy.contextLength)
        throw textTooLong(spec.tokens.length, policy.contextLength)
      checkQueue()
      const arrivedMs = nowMs()
      const goal = {
        kind: 'embed' as const,
        sum: new Float64Array(config.hiddenSize),
        restartable: !spec.weights,
      }
      const result = Promise.withResolvers<Embedding>()
      // Who only waits for the outcome hears of an error there.
      result.promise.catch(() => undefined)
      const request = accept(goal, spec.tokens, spec.weights ?? null)
      const outcome = follow(request, spec, arrivedMs, createEmbeddingSink(goal, result))
      return { embedding: result.promise, outcome }
    },

    async score({ weights, tokens, signal }) {
      checkOpen()
      checkTokens(tokens, config.vocabSize, 'tokens')
      if (tokens.length < 2)
        throw new AppError('invalid_request', 'At least two tokens are needed to score a text.')
      if (tokens.length > policy.contextLength) throw textTooLong(tokens.length, policy.contextLength)
      if (scores.size >= policy.maxScores) throw overloaded('texts to score', policy.maxScores, backlogMs())
      if (signal?.aborted) throw cancelled()
      const request = accept({ kind: 'score', nll: new Float32Array(tokens.length - 1) }, tokens, weights)
      const { promise, resolve, reject } = Promise.withResolvers<Float32Array>()
      scores.set(request, { resolve, reject })
      const dispose = watch({ signal }, () => fail(request, cancelled()), undefined)
      try {
        return await promise
      } finally {
        dispose()
      }
    },

    requestsOn: (version) => boundTo(state, (weights) => weights.version === version).length,

    drain: (version, deadlineMs) => drains.start(version, deadlineMs),

    load: () => ({
      running: runningRequests(state).length,
      waiting: waitingRequests(state).length,
      scoring: scores.size,
      kvTokensUsed: kvTokensUsed(state),
      kvTokensTotal: policy.kvTokens,
      kvTokensCached: kvTokensCached(state),
    }),

    heldBeginnings: () => (state.active?.paged ? heldBeginnings(state.named, state.pages) : null),

    underWay: () =>
      [...jobs.values()].map(({ id, weights, sink, request, progressMs }) => ({
        requestId: id,
        promptTokens: weights === null ? 0 : request.promptTokens,
        completionTokens: sink.completionTokens,
        idleMs: request.status.kind === 'waiting' ? 0 : Math.max(0, nowMs() - progressMs),
      })),

    close() {
      closed = true
      for (const request of [...jobs.keys(), ...scores.keys()]) fail(request, shuttingDown())
    },
  }
}

/** Nothing of it has reached the client. */
function mayRestart({ goal }: Request): boolean {
  return goal.kind !== 'score' && goal.restartable
}
