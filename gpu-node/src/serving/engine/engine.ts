/**
 * Runs requests on weight sets around the scheduler.
 *
 * `admission.ts` accepts requests, `step-loop.ts` runs one step after another on each weight set, and
 * `request-tracker.ts` delivers results to callers. This file joins them and handles weight sets that come and go.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '@copal/shared/errors.ts'
import { monotonicMs } from '../../platform/clock.ts'
import type { StepResult, WeightSet } from '../contract/backend.ts'
import type { Engine, EngineDeps } from './engine-api.ts'
import { cachedPrefixNames } from './prefix-names.ts'
import { createDrains } from './weight-drains.ts'
import { createAdmission } from './admission.ts'
import { createRequestTracker } from './request-tracker.ts'
import { costsOf, findForced } from './drafting.ts'
import { createStepLoops } from './step-loop.ts'
import { createPolicy } from './engine-policy.ts'
import { noWeights, ShuttingDownError, stepError, weightsLost } from './request-errors.ts'
import { pinOf, type Request } from './engine-request.ts'
import { choosePreemptions, isIdle, planStep } from './scheduler.ts'
import { payForStep } from './scoring-share.ts'
import {
  addRequest,
  boundTo,
  createState,
  forgetWeights,
  kvTokensCached,
  kvTokensUsed,
  runningRequests,
  waitingRequests,
} from './engine-state.ts'
import {
  commitStep,
  releaseStep,
  reserveStep,
  tokensByKind,
  type ReservedStep,
  type StepOutcome,
} from './step-plan.ts'

/** Time that a dead weight set has to report its end after it rejected a step. */
const FAILURE_PAUSE_MS = 100

/** Creates an engine without weights: requests wait until the first `setActive`. */
export function createEngine(deps: EngineDeps): Engine {
  const { backend, config, codec, observer } = deps
  const nowMs = deps.nowMs ?? monotonicMs
  const policy = createPolicy(config.contextLength, deps.policy)
  const state = createState(policy)
  let closed = false
  let lastStepEndedMs = 0

  const inspect = () => deps.inspect?.(state, policy)
  const afterChange = () => {
    drains.settle()
    inspect()
    stepLoops.wake()
  }
  const tracker = createRequestTracker(state, nowMs, observer, afterChange)
  const stepLoops = createStepLoops({ step: nextStep, lost: loseWeights })
  const drains = createDrains({
    boundTo: (version) => boundTo(state, (weights) => weights.version === version),
    activeVersion: () => state.active?.version,
    abandon: abandonAtDeadline,
  })

  function nextStep(weights: WeightSet): Promise<void> | undefined {
    if (closed) return undefined
    const victims = choosePreemptions(state, weights, policy)
    for (const victim of victims) tracker.preempt(victim)
    // A victim on another weight set leaves work for that set's loop.
    if (victims.length > 0) stepLoops.wake()
    const planned = planStep(state, weights, policy)
    if (isIdle(planned)) return undefined
    const step = reserveStep(state, planned)
    inspect()
    return runStep(step).then(inspect)
  }

  async function runStep(step: ReservedStep): Promise<void> {
    const { weights } = step.plan
    const startedMs = nowMs()
    let result: StepResult
    let outcome: StepOutcome
    try {
      result = await backend.step(step.plan)
      outcome = commitStep(state, step, result)
    } catch (thrown) {
      const requests = releaseStep(state, step)
      // The set may have ended during the step, whose drops nothing awaits then.
      if (!stepLoops.has(weights)) forgetWeights(state, weights)
      return failStep(weights, requests, thrown)
    }
    const endedMs = nowMs()
    const tokens = tokensByKind(step)
    const computed = Object.values(tokens).reduce((sum, count) => sum + count)
    // Steps of several weight sets overlap, and mostly wait for each other.
    const ownMs = Math.max(0, endedMs - Math.max(startedMs, lastStepEndedMs))
    payForStep(
      state,
      policy,
      {
        scoreTokens: tokens.scoreTokens,
        tokens: computed,
        quiet: step.planned.quiet,
      },
      ownMs,
    )
    if (tokens.prefillTokens + tokens.scoreTokens === 0 && computed > 0 && computed <= policy.draftTokens)
      costsOf(state.drafting, weights).observe(computed, ownMs)
    lastStepEndedMs = endedMs
    observer?.step?.({
      maskVersion: weights.version,
      durationMs: endedMs - startedMs,
      sequences: step.planned.work.length,
      acceptedDrafts: outcome.sampled.reduce((sum, { tokens: sampled }) => sum + sampled.length - 1, 0),
      ...tokens,
    })
    tracker.deliverStep(outcome, { weights, startedMs, endedMs })
    drains.settle()
    if (weights.takesDrafts && policy.draftTokens > outcome.sampled.length)
      await Promise.all(outcome.sampled.map(({ request }) => findForced(request)))
  }

  /** Fails the requests of a rejected step, since the backend's key/value state for them is unknown. */
  async function failStep(weights: WeightSet, requests: readonly Request[], thrown: unknown): Promise<void> {
    const error = thrown instanceof AppError ? thrown : stepError(thrown)
    for (const request of requests) tracker.fail(request, error)
    // If the whole set died, learn that before more requests are sent to it.
    await Promise.race([weights.ended, sleep(FAILURE_PAUSE_MS, undefined, { ref: false })])
  }

  function loseWeights(weights: WeightSet, cause: Error | undefined): void {
    const error = weightsLost(weights.version, cause)
    for (const request of boundTo(state, (other) => other === weights)) tracker.fail(request, error)
    forgetWeights(state, weights)
    afterChange()
  }

  function abandonAtDeadline(request: Request): void {
    if (state.active && mayRestart(request) && tracker.restart(request)) {
      inspect()
      stepLoops.wake()
    } else if (request.goal.kind === 'score') {
      tracker.fail(
        request,
        new AppError(
          'deadline_exceeded',
          'The mask was replaced before this text was scored. Score it again under the new mask.',
        ),
      )
    }
  }

  function checkOpen(): void {
    if (closed) throw new ShuttingDownError()
  }

  const admission = createAdmission({
    config,
    codec,
    policy,
    state,
    tracker,
    nowMs,
    checkOpen,
    accept(goal, tokens, pin) {
      if (pin) stepLoops.start(pin)
      const request = addRequest(state, goal, tokens, pin)
      inspect()
      stepLoops.wake()
      return request
    },
  })

  return {
    ...admission,
    policy,
    get activeVersion() {
      return state.active?.version ?? null
    },
    get active() {
      return state.active
    },

    setActive(weights) {
      checkOpen()
      stepLoops.start(weights)
      state.active = weights
      drains.settle()
      stepLoops.wake()
    },

    failWithoutWeights(cause) {
      if (state.active) return
      for (const request of waitingRequests(state))
        if (!pinOf(request)) tracker.fail(request, noWeights(cause))
    },

    requestsOn: (version) => boundTo(state, (weights) => weights.version === version).length,

    hold: ({ version }) => drains.hold(version),

    drain: (version, deadlineMs) => drains.start(version, deadlineMs),

    load: () => ({
      running: runningRequests(state).length,
      waiting: waitingRequests(state).length,
      scoring: tracker.pendingScores,
      kvTokensUsed: kvTokensUsed(state),
      kvTokensTotal: policy.kvTokens,
      kvTokensCached: kvTokensCached(state),
    }),

    cachedPrefixes: () => (state.active?.paged ? cachedPrefixNames(state.prefixIndex, state.pages) : null),

    progress: () => tracker.progress(),

    close() {
      closed = true
      tracker.failAll(() => new ShuttingDownError())
    },
  }
}

/** Whether no output of the request has reached the client. */
function mayRestart({ goal }: Request): boolean {
  return goal.kind !== 'score' && goal.restartable
}
