/**
 * Runs requests on weight sets: the loop around the scheduler.
 *
 * `intake.ts` takes requests in, `lanes.ts` runs a step after the other on each weight set, `jobs.ts` tells those who
 * wait; here they are joined, and weights come and go.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { AppError } from '@copal/shared/errors.ts'
import type { StepResult, WeightSet } from '../contract/backend.ts'
import type { Engine, EngineDeps } from './engine-api.ts'
import { cachedPrefixNames } from './prefix-names.ts'
import { createDrains } from './weight-drains.ts'
import { createAdmission } from './admission.ts'
import { createRequestTracker } from './request-tracker.ts'
import { createStepLoops } from './step-loop.ts'
import { createPolicy } from './engine-policy.ts'
import { shuttingDown, stepError, weightsLost } from './request-errors.ts'
import type { Request } from './engine-request.ts'
import { choosePreemptions, isIdle, planStep } from './scheduler.ts'
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

/** Time for a dead weight set to say so after it rejected a step. */
const FAILURE_PAUSE_MS = 100

/** An engine without weights: requests wait until the first `setActive`. */
export function createEngine(deps: EngineDeps): Engine {
  const { backend, config, codec, observer } = deps
  const nowMs = deps.nowMs ?? (() => performance.timeOrigin + performance.now())
  const policy = createPolicy(config.contextLength, deps.policy)
  const state = createState(policy)
  let closed = false

  const inspect = () => deps.inspect?.(state, policy)
  const changed = () => {
    drains.settle()
    inspect()
    lanes.wake()
  }
  const jobs = createRequestTracker(state, nowMs, observer, changed)
  const lanes = createStepLoops({ step: nextStep, lost: loseWeights })
  const drains = createDrains({
    boundTo: (version) => boundTo(state, (weights) => weights.version === version),
    activeVersion: () => state.active?.version,
    abandon: giveUpAtDeadline,
  })

  function nextStep(weights: WeightSet): Promise<void> | undefined {
    if (closed) return undefined
    const victims = choosePreemptions(state, weights, policy)
    for (const victim of victims) jobs.preempt(victim)
    // A victim on another weight set leaves its lane something to do.
    if (victims.length > 0) lanes.wake()
    const draft = planStep(state, weights, policy)
    if (isIdle(draft)) return undefined
    const step = reserveStep(state, draft)
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
      releaseStep(state, step)
      return failStep(step, thrown)
    }
    const endedMs = nowMs()
    observer?.step?.({
      maskVersion: weights.version,
      durationMs: endedMs - startedMs,
      ...tokensByKind(step),
    })
    jobs.deliverStep(outcome, { weights, startedMs, endedMs })
    drains.settle()
  }

  /** A step was rejected: the requests in it cannot go on, since nobody knows what the backend holds of them. */
  async function failStep(step: ReservedStep, thrown: unknown): Promise<void> {
    const error = thrown instanceof AppError ? thrown : stepError(thrown)
    for (const { request } of step.draft.work) jobs.fail(request, error)
    // If the whole set died, let that be known before more requests are sent into it.
    await Promise.race([step.plan.weights.ended, sleep(FAILURE_PAUSE_MS, undefined, { ref: false })])
  }

  function loseWeights(weights: WeightSet, cause: Error | undefined): void {
    const error = weightsLost(weights.version, cause)
    for (const request of boundTo(state, (other) => other === weights)) jobs.fail(request, error)
    forgetWeights(state, weights)
    changed()
  }

  function giveUpAtDeadline(request: Request): void {
    if (state.active && mayRestart(request) && jobs.restart(request)) {
      inspect()
      lanes.wake()
    } else if (request.goal.kind === 'score') {
      jobs.fail(
        request,
        new AppError('deadline_exceeded', 'The mask was replaced before this text was scored.'),
      )
    }
  }

  function checkOpen(): void {
    if (closed) throw shuttingDown()
  }

  const intake = createAdmission({
    config,
    codec,
    policy,
    state,
    tracker,
    nowMs,
    checkOpen,
    accept(goal, tokens, pin) {
      if (pin) lanes.start(pin)
      const request = addRequest(state, goal, tokens, pin)
      inspect()
      lanes.wake()
      return request
    },
  })

  return {
    ...intake,
    policy,
    get activeVersion() {
      return state.active?.version ?? null
    },
    get active() {
      return state.active
    },

    setActive(weights) {
      checkOpen()
      lanes.start(weights)
      state.active = weights
      drains.settle()
      lanes.wake()
    },

    requestsOn: (version) => boundTo(state, (weights) => weights.version === version).length,

    hold: ({ version }) => drains.hold(version),

    drain: (version, deadlineMs) => drains.start(version, deadlineMs),

    load: () => ({
      running: runningRequests(state).length,
      waiting: waitingRequests(state).length,
      scoring: jobs.pendingScores,
      kvTokensUsed: kvTokensUsed(state),
      kvTokensTotal: policy.kvTokens,
      kvTokensCached: kvTokensCached(state),
    }),

    cachedPrefixes: () => (state.active?.paged ? cachedPrefixNames(state.prefixIndex, state.pages) : null),

    progress: () => jobs.progress(),

    close() {
      closed = true
      jobs.failAll(shuttingDown)
    },
  }
}

/** Nothing of it has reached the client. */
function mayRestart({ goal }: Request): boolean {
  return goal.kind !== 'score' && goal.restartable
}
