import { PAGE_TOKENS, type WeightSet } from '../contract/backend.ts'
import type { PrefixIndex } from './prefix-names.ts'
import { createPagePool, forgetPages, freePages, pagesFor, releasePages, type PagePool } from './page-pool.ts'
import type { EnginePolicy } from './engine-policy.ts'
import { createRequest, pinOf, sequenceOf, type Goal, type Request, type Sequence } from './engine-request.ts'

/** Everything that scheduling decides on. Changed only by the transitions in this file and in step-plan.ts. */
export interface EngineState {
  /** Requests that have not ended, in order of arrival. */
  requests: Request[]
  /** What new requests start on. */
  active: WeightSet | null
  readonly pages: PagePool
  /** Which beginnings of prompts were filled, by what callers call them. */
  readonly prefixIndex: PrefixIndex
  /** Sequences that nobody needs any more: their weight set hears of it with its next step. */
  drops: Map<WeightSet, number[]>
  /** Sequences given up while a step of theirs runs: they hold their pages until it ends. */
  readonly abandoned: Set<Sequence>
  nextOrder: number
  nextSequence: number
  turn: number
  /** Committed steps with request work since the last piece of scoring. */
  stepsSinceScore: number
}

/** An engine without requests. */
export function createState({ kvTokens }: Pick<EnginePolicy, 'kvTokens'>): EngineState {
  return {
    requests: [],
    active: null,
    pages: createPagePool(pagesFor(kvTokens)),
    prefixIndex: new Map(),
    drops: new Map(),
    abandoned: new Set(),
    nextOrder: 1,
    nextSequence: 1,
    turn: 0,
    stepsSinceScore: 0,
  }
}

/** Tokens of the key/value budget that sequences hold; what is only remembered is free. */
export function kvTokensUsed({ pages }: EngineState): number {
  return (pages.total - freePages(pages)) * PAGE_TOKENS
}

/** Tokens of the budget that no sequence holds and that are remembered: prompts share them until they are wanted. */
export function kvTokensCached({ pages }: EngineState): number {
  return pages.idle.size * PAGE_TOKENS
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

/** Takes a request out for good; its pages are free at once, or when the step that it is in ends. */
export function endRequest(state: EngineState, request: Request): void {
  abandonSequence(state, request)
  request.status = { kind: 'ended' }
  state.requests = state.requests.filter((other) => other !== request)
}

/** Sends a request back to wait for room; it will feed its tokens again on the same weight set. */
export function preemptRequest(state: EngineState, request: Request): void {
  const pin = pinOf(request) ?? null
  abandonSequence(state, request)
  request.status = { kind: 'waiting', pin }
  // Only requests that never ran come after it in the queue, so it is next.
  request.turn = 0
}

/** Sends a request back to its prompt, free to start on whatever is active then. */
export function restartRequest(state: EngineState, request: Request): void {
  abandonSequence(state, request)
  request.tokens.length = request.promptTokens
  request.pageKeys.length = Math.min(request.pageKeys.length, Math.floor(request.promptTokens / PAGE_TOKENS))
  request.status = { kind: 'waiting', pin: null }
  request.turn = 0
}

/** Forgets what is to be dropped from a weight set that is gone, and what it has computed. */
export function forgetWeights(state: EngineState, weights: WeightSet): void {
  state.drops.delete(weights)
  forgetPages(state.pages, weights)
  if (state.active === weights) state.active = null
}

/** The sequences that a step of `weights` is to drop. */
export function pendingDrops(state: EngineState, weights: WeightSet): readonly number[] {
  return state.drops.get(weights) ?? []
}

/** Has the next step of a sequence's weights tell the backend to forget it. */
export function queueDrop(state: EngineState, { weights, id }: Sequence): void {
  state.drops.set(weights, [...pendingDrops(state, weights), id])
}

/** Ends a sequence's part in a step; one that was given up meanwhile leaves its pages. */
export function leaveStep(state: EngineState, sequence: Sequence): void {
  sequence.inFlight = false
  if (state.abandoned.delete(sequence)) releasePages(state.pages, sequence.pages)
}

function abandonSequence(state: EngineState, request: Request): void {
  const sequence = sequenceOf(request)
  if (!sequence) return
  const { inFlight, pages } = sequence
  queueDrop(state, sequence)
  if (inFlight) state.abandoned.add(sequence)
  else releasePages(state.pages, pages)
}
