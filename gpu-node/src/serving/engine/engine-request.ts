import type { NamedPrefix } from './prefix-names.ts'
import type { SamplerSpec, TokenMask, WeightSet } from '../contract/backend.ts'

/** One stay of a request in a backend: its key/value state on one weight set. A request that starts over gets a new one. */
export interface Sequence {
  readonly id: number
  readonly weights: WeightSet
  /** Tokens whose key/value entries the backend holds, as of the last committed step. */
  fed: number
  /** Its pages of the key/value budget, in the order of its positions; the first may be shared. */
  pages: number[]
  /** A step that contains it is running. */
  inFlight: boolean
}

/**
 * Where a request is. `prefill` until its first (or, after a restart, next) token is sampled,
 * `decode` from then on. `waiting.pin` is the weight set it must continue on, null before its first step.
 */
export type RequestStatus =
  | { readonly kind: 'waiting'; readonly pin: WeightSet | null }
  | { readonly kind: 'prefill'; readonly sequence: Sequence }
  | { readonly kind: 'decode'; readonly sequence: Sequence }
  | { readonly kind: 'ended' }

/** Continue the prompt. */
export interface GenerateGoal {
  readonly kind: 'generate'
  readonly sampler: SamplerSpec
  /** Which tokens may follow those generated so far; settles with null when the request cannot go on. */
  readonly allowedAfter?: ((generated: readonly number[]) => Promise<TokenMask | null>) | undefined
  readonly maxNewTokens: number
  /** Nothing of it reaches the client before its end, so it may start over on another weight set. */
  readonly restartable: boolean
  /** Prompts of one partition may share pages, which tells by its time that a prompt came before; null: none. */
  readonly partition: string | null
  /** What the caller calls the beginnings of the prompt. */
  readonly prefixes: readonly NamedPrefix[]
}

/** Score given text; `nll[i]` is of token `i + 1` given all before it, in nats. */
export interface ScoreGoal {
  readonly kind: 'score'
  readonly nll: Float32Array
}

/** Add up the last hidden states of a text; `sum` is f64 `[hidden]`, of the tokens fed so far. */
export interface EmbedGoal {
  readonly kind: 'embed'
  readonly sum: Float64Array
  /** It names no weights, so it may start over on others. */
  readonly restartable: boolean
}

/** What a request is for. */
export type Goal = GenerateGoal | ScoreGoal | EmbedGoal

/** What the scheduler knows of one piece of work. */
export interface Request {
  /** Arrival order, engine-wide: the lower one came first. */
  readonly order: number
  readonly goal: Goal
  readonly promptTokens: number
  /** The prompt and what was generated so far. */
  tokens: number[]
  status: RequestStatus
  /** Keys of its first full pages, as far as they were needed. */
  pageKeys: string[]
  /** When it last had its turn to feed its prompt, at first when it came: the lowest is served next. */
  turn: number
}

/** A request as it arrives. `pin` is given by scoring, which names its weight set. */
export function createRequest(
  place: { order: number; turn: number },
  goal: Goal,
  prompt: readonly number[],
  pin: WeightSet | null,
): Request {
  return {
    ...place,
    goal,
    promptTokens: prompt.length,
    tokens: [...prompt],
    pageKeys: [],
    status: { kind: 'waiting', pin },
  }
}

/** The request's stay in a backend, if it has one. */
export function sequenceOf(request: Request): Sequence | undefined {
  const { status } = request
  return status.kind === 'prefill' || status.kind === 'decode' ? status.sequence : undefined
}

/** The weight set the request is bound to: it runs on it, or must continue on it. */
export function pinOf(request: Request): WeightSet | undefined {
  const { status } = request
  return status.kind === 'waiting' ? (status.pin ?? undefined) : sequenceOf(request)?.weights
}

/** How many tokens its prefill feeds: all of them, but of a scored text the last one, which predicts nothing. */
export function prefillLength(request: Request): number {
  return request.goal.kind === 'score' ? request.tokens.length - 1 : request.tokens.length
}
