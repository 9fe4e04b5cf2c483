import type { WeightSet } from '../backends/backend.ts'
import { createRequest, pinOf, sequenceOf, type Goal, type Request, type Sequence } from './request.ts'

/** A sequence whose key/value state the backend still holds but nobody needs. */
export interface PendingDrop {
  readonly sequence: number
  readonly tokens: number
}

/** Everything that scheduling decides on. Changed only by the transitions in this file and in step-plan.ts. */
export interface EngineState {
  /** Requests that have not ended, in order of arrival. */
  requests: Request[]
  /** What new requests start on. */
  active: WeightSet | null
  /** Freed with the next step of their weight set. */
  drops: Map<WeightSet, PendingDrop[]>
  /**
   * Tokens that the running step of a weight set frees beyond those it takes itself. They count as
   * used until the step is committed, so that nobody has taken them should it fail.
   */
  freeing: Map<WeightSet, number>
  nextOrder: number
  nextSequence: number
  turn: number
  /** Committed steps with request work since the last piece of scoring. */
  stepsSinceScore: number
}

/** An engine without requests. */
export function createState(): EngineState {
  return {
    requests: [],
    active: null,
    drops: new Map(),
    freeing: new Map(),
    nextOrder: 1,
    nextSequence: 1,
    turn: 0,
    stepsSinceScore: 0,
  }
}

/** Tokens of the key/value budget that are taken. */
export function kvTokensUsed(state: EngineState): number {
  let used = 0
  for (const request of state.requests) used += sequenceOf(request)?.held ?? 0
  for (const drops of state.drops.values()) for (const drop of drops) used += drop.tokens
  for (const tokens of state.freeing.values()) used += tokens
  return used
}

/** Requests (not scoring) that hold a sequence. */
export function runningRequests(state: EngineState): Request[] {
  return state.requests.filter(
    (request) => request.goal.kind !== 'score' && sequenceOf(request) !== undefined,
  )
}

/** Requests (not scoring) that wait, in the order they will be admitted. */
export function waitingRequests(state: EngineState): Request[] {
  return state.requests.filter(
    (request) => request.goal.kind !== 'score' && request.status.kind === 'waiting',
  )
}

/** Requests and scorings bound to a weight set that `matches`. */
export function boundTo(state: EngineState, matches: (weights: WeightSet) => boolean): Request[] {
  return state.requests.filter((request) => {
    const pin = pinOf(request)
    return pin !== undefined && matches(pin)
  })
}

/** Takes a request in, behind all that came before it. */
export function addRequest(
  state: EngineState,
  goal: Goal,
  prompt: readonly number[],
  pin: WeightSet | null,
): Request {
  const request = createRequest({ order: state.nextOrder++, turn: ++state.turn }, goal, prompt, pin)
  state.requests.push(request)
  return request
}

/** Takes a request out for good; its sequence is dropped with the next step of its weight set. */
export function endRequest(state: EngineState, request: Request): void {
  giveUpSequence(state, request)
  request.status = { kind: 'ended' }
  state.requests = state.requests.filter((other) => other !== request)
}

/** Sends a request back to wait for room; it will feed its tokens again on the same weight set. */
export function preemptRequest(state: EngineState, request: Request): void {
  const pin = pinOf(request) ?? null
  giveUpSequence(state, request)
  request.status = { kind: 'waiting', pin }
  // Only requests that never ran come after it in the queue, so it is next.
  request.turn = 0
}

/** Sends a request back to its prompt, free to start on whatever is active then. */
export function restartRequest(state: EngineState, request: Request): void {
  giveUpSequence(state, request)
  request.tokens.length = request.promptTokens
  request.status = { kind: 'waiting', pin: null }
  request.turn = 0
}

/** Forgets what is to be dropped from a weight set that is gone, and whose memory is gone with it. */
export function forgetWeights(state: EngineState, weights: WeightSet): void {
  state.drops.delete(weights)
  state.freeing.delete(weights)
  if (state.active === weights) state.active = null
}

/** The drops waiting for a step of `weights`. */
export function pendingDrops(state: EngineState, weights: WeightSet): readonly PendingDrop[] {
  return state.drops.get(weights) ?? []
}

function giveUpSequence(state: EngineState, request: Request): void {
  const sequence = sequenceOf(request)
  if (sequence)
    state.drops.set(sequence.weights, [...pendingDrops(state, sequence.weights), dropOf(sequence)])
}

function dropOf(sequence: Sequence): PendingDrop {
  return { sequence: sequence.id, tokens: sequence.held }
}
