/**
 * What to run next. Pure: reads the state, changes nothing.
 *
 * - Admission is strictly first come, first served, by key/value budget: a large request at the
 *   head is waited for, so it cannot starve. A request reserves its prompt and grows by a token a step.
 * - Every running request gets its next token in every step of its weight set. What is left of the
 *   step's tokens goes to prompts, one piece each, the one served longest ago first: a short
 *   prompt does not wait for a long one to finish.
 * - When the budget cannot hold the next tokens, scoring gives way first, then the youngest request;
 *   the oldest always gets what it needs, so there is no deadlock. Whoever gave way feeds its prompt
 *   and its answer so far again, in pieces: equal up to rounding, not bit by bit.
 * - Scoring has the processor when no request runs; beside requests it gets a small piece every few
 *   steps, so that it neither holds them up nor starves.
 */
import type { SequenceWork, WeightSet } from '../backends/backend.ts'
import { pinOf, prefillLength, sequenceOf, type Request } from './request.ts'
import type { EnginePolicy } from './policy.ts'
import {
  kvTokensUsed,
  pendingDrops,
  runningRequests,
  waitingRequests,
  type EngineState,
  type PendingDrop,
} from './state.ts'

/** Tokens `from … to - 1` of one request. */
export interface DraftWork {
  readonly request: Request
  readonly from: number
  readonly to: number
  readonly output: SequenceWork['output']
}

/** One step of one weight set, decided and not yet reserved. */
export interface StepDraft {
  readonly weights: WeightSet
  readonly drops: readonly PendingDrop[]
  /** Requests that leave the queue with this step; each has work in it. */
  readonly admissions: readonly Request[]
  readonly work: readonly DraftWork[]
}

/** Whom to preempt so that the next step of `weights` fits the key/value budget; youngest first. */
export function choosePreemptions(state: EngineState, weights: WeightSet, policy: EnginePolicy): Request[] {
  const victims: Request[] = []
  let free = freeFor(state, weights, policy)
  const evict = (candidates: readonly Request[]): boolean => {
    const victim = candidates.findLast((request) => !victims.includes(request) && canEvict(request))
    if (!victim) return false
    victims.push(victim)
    // What is held on another weight set is free only after that set's next step.
    if (pinOf(victim) === weights) free += sequenceOf(victim)?.held ?? 0
    return true
  }
  const scores = state.requests.filter((request) => request.goal.kind === 'score')
  const running = runningRequests(state)
  for (const request of running) {
    if (request.status.kind !== 'decode' || pinOf(request) !== weights || victims.includes(request)) continue
    const younger = running.filter((other) => other.order > request.order)
    while (free < 1 && (evict(scores) || evict(younger))) continue
    if (free >= 1) free -= 1
  }
  const [head] = waitingRequests(state)
  if (head && startsOn(state, head, weights) && running.length < policy.maxRunning) {
    while (free < roomNeeded(head, running.length) && evict(scores)) continue
  }
  return victims
}

/** The next step of `weights`; without work and drops when there is nothing to do. */
export function planStep(state: EngineState, weights: WeightSet, policy: EnginePolicy): StepDraft {
  const drops = pendingDrops(state, weights)
  const work: DraftWork[] = []
  let free = freeFor(state, weights, policy)
  let budget = policy.stepTokens

  const running = runningRequests(state)
  for (const request of running) {
    if (request.status.kind !== 'decode' || pinOf(request) !== weights || free < 1) continue
    const { fed } = request.status.sequence
    work.push({ request, from: fed, to: fed + 1, output: 'token' })
    free -= 1
    budget -= 1
  }

  const admissions: Request[] = []
  const feeding = running.filter((request) => request.status.kind === 'prefill' && pinOf(request) === weights)
  const inTurn = [...feeding, ...waitingRequests(state)].toSorted(
    (a, b) => a.turn - b.turn || a.order - b.order,
  )
  let admitting = true
  for (const request of inTurn) {
    const sequence = sequenceOf(request)
    const from = sequence?.fed ?? 0
    const to = Math.min(prefillLength(request), nextBoundary(from, policy.prefillChunk))
    if (to - from > budget) break
    if (!sequence) {
      const ahead = running.length + admissions.length
      admitting &&=
        ahead < policy.maxRunning && startsOn(state, request, weights) && roomNeeded(request, ahead) <= free
      if (!admitting) continue
      admissions.push(request)
      free -= request.tokens.length
    }
    work.push({ request, from, to, output: prefillOutput(request, to) })
    budget -= to - from
  }

  const scoring = planScore(state, weights, policy, free, budget, admissions.length)
  if (scoring?.admit) admissions.push(scoring.work.request)
  if (scoring) work.push(scoring.work)
  return { weights, drops, admissions, work }
}

/** Whether a draft has anything for the backend. */
export function isIdle(draft: StepDraft): boolean {
  return draft.work.length === 0 && draft.drops.length === 0
}

function planScore(
  state: EngineState,
  weights: WeightSet,
  policy: EnginePolicy,
  free: number,
  budget: number,
  admitted: number,
): { work: DraftWork; admit: boolean } | undefined {
  const request = state.requests.find((other) => other.goal.kind === 'score' && pinOf(other) === weights)
  if (!request || admitted > 0) return undefined
  const quiet = !state.requests.some(({ goal }) => goal.kind !== 'score')
  if (!quiet && state.stepsSinceScore < policy.scoreEverySteps) return undefined
  const sequence = sequenceOf(request)
  if (!sequence && request.tokens.length > free) return undefined
  const from = sequence?.fed ?? 0
  const piece = Math.min(
    quiet ? policy.prefillChunk : policy.scoreChunk,
    prefillLength(request) - from,
    budget,
  )
  if (piece < 1) return undefined
  return { work: { request, from, to: from + piece, output: 'nll' }, admit: !sequence }
}

function startsOn(state: EngineState, request: Request, weights: WeightSet): boolean {
  return (pinOf(request) ?? state.active) === weights
}

function prefillOutput(request: Request, to: number): SequenceWork['output'] {
  if (request.goal.kind === 'embed') return 'hidden_sum'
  return to === prefillLength(request) ? 'token' : 'none'
}

/** A request's tokens, and one more for each that already runs, or its admission would soon be undone. */
function roomNeeded(request: Request, running: number): number {
  return request.tokens.length + running
}

function freeFor(state: EngineState, weights: WeightSet, policy: EnginePolicy): number {
  const dropped = pendingDrops(state, weights).reduce((tokens, drop) => tokens + drop.tokens, 0)
  return policy.kvTokens - kvTokensUsed(state) + dropped
}

function canEvict(request: Request): boolean {
  const sequence = sequenceOf(request)
  return sequence !== undefined && !sequence.inFlight
}

function nextBoundary(position: number, chunk: number): number {
  return (Math.floor(position / chunk) + 1) * chunk
}
