import { PAGE_TOKENS, type WeightSet } from '../contract/backend.ts'
import type { PrefixIndex } from './prefix-names.ts'
import { createPagePool, evictPages, freePages, pagesFor, releasePages, type PagePool } from './page-pool.ts'
import { createDrafting, type Drafting } from './drafting.ts'
import type { EnginePolicy } from './engine-policy.ts'
import {
  createRequest,
  pinOf,
  sequenceOf,
  type Goal,
  type Request,
  type ScoreLane,
  type Sequence,
} from './engine-request.ts'

/** The account of the work that scoring takes beside requests. */
export interface ScoringAccount {
  /** Work that scoring may do now, in the units of `payForStep`; negative after it did more than its share. */
  credit: number
  /** Tokens of all lanes, in a clock that a text advances to its start when it begins (start-time fair queueing). */
  clock: number
  /** Where on the clock the texts of each lane end that have begun. */
  readonly ends: Map<ScoreLane, number>
  /** Steps since a request last ran or waited. */
  quietSteps: number
}

/** The state that scheduling decides on. Only the transitions in this file and in step-plan.ts change it. */
export interface EngineState {
  /** Requests that have not ended, in order of arrival. */
  requests: Request[]
  /** The weight set that new requests start on. */
  active: WeightSet | null
  readonly pages: PagePool
  /** Named prompt prefixes whose pages were filled. */
  readonly prefixIndex: PrefixIndex
  /** Sequences that are no longer needed; the next step of their weight set drops them. */
  drops: Map<WeightSet, number[]>
  /** Sequences abandoned while a step of theirs runs; they hold their pages until it ends. */
  readonly abandoned: Set<Sequence>
  nextOrder: number
  nextSequence: number
  turn: number
  readonly scoring: ScoringAccount
  readonly drafting: Drafting
}

/** Creates the state of an engine without requests. */
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
    scoring: { credit: 0, clock: 0, ends: new Map(), quietSteps: 0 },
    drafting: createDrafting(),
  }
}

/** Returns the tokens of the key/value budget that sequences hold. Cached pages without a holder count as free. */
export function kvTokensUsed({ pages }: EngineState): number {
  return (pages.total - freePages(pages)) * PAGE_TOKENS
}

/** Returns the tokens of the budget that are cached and held by no sequence; prompts share them until they are evicted. */
export function kvTokensCached({ pages }: EngineState): number {
  return pages.idle.size * PAGE_TOKENS
}

/** Returns the requests (not scorings) that hold a sequence. */
export function runningRequests(state: EngineState): Request[] {
  return state.requests.filter(
    (request) => request.goal.kind !== 'score' && sequenceOf(request) !== undefined,
  )
}

/** Returns the requests (not scorings) that wait, in the order in which they will be admitted. */
export function waitingRequests(state: EngineState): Request[] {
  return state.requests.filter(
    (request) => request.goal.kind !== 'score' && request.status.kind === 'waiting',
  )
}

/** Returns the requests and scorings bound to a weight set that `matches`. */
export function boundTo(state: EngineState, matches: (weights: WeightSet) => boolean): Request[] {
  return state.requests.filter((request) => {
    const pin = pinOf(request)
    return pin !== undefined && matches(pin)
  })
}

/** Appends a request behind all earlier ones. */
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

/** Removes a request. Its pages are free at once, or when the step that contains it ends. */
export function endRequest(state: EngineState, request: Request): void {
  abandonSequence(state, request)
  request.status = { kind: 'ended' }
  state.requests = state.requests.filter((other) => other !== request)
}

/** Sends a request back to wait for pages; it will prefill its tokens again on the same weight set. */
export function preemptRequest(state: EngineState, request: Request): void {
  const pin = pinOf(request) ?? null
  abandonSequence(state, request)
  request.status = { kind: 'waiting', pin }
  // Only requests that never ran come after it in the queue, so it is next.
  request.turn = 0
}

/** Resets a request to its prompt, free to start on the weight set that is active then. */
export function restartRequest(state: EngineState, request: Request): void {
  abandonSequence(state, request)
  request.tokens.length = request.promptTokens
  request.drafter = undefined
  request.forced = undefined
  request.pageKeys.length = Math.min(request.pageKeys.length, Math.floor(request.promptTokens / PAGE_TOKENS))
  request.status = { kind: 'waiting', pin: null }
  request.turn = 0
}

/** Forgets the pending drops and the cached pages of a weight set that is gone. */
export function forgetWeights(state: EngineState, weights: WeightSet): void {
  state.drops.delete(weights)
  evictPages(state.pages, weights)
  if (state.active === weights) state.active = null
}

/** Returns the sequences that the next step of `weights` shall drop. */
export function pendingDrops(state: EngineState, weights: WeightSet): readonly number[] {
  return state.drops.get(weights) ?? []
}

/** Makes the next step of the sequence's weight set drop it in the backend. */
export function queueDrop(state: EngineState, { weights, id }: Sequence): void {
  state.drops.set(weights, [...pendingDrops(state, weights), id])
}

/** Ends a sequence's part in a step. A sequence that was abandoned meanwhile releases its pages. */
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
