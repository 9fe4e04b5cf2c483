import type { Drafter } from './draft-lookup.ts'
import type { NamedPrefix } from './prefix-names.ts'
import type { SamplerSpec, TokenMask, TokenScores, WeightSet } from '../contract/backend.ts'

/** The key/value state of a request on one weight set of a backend. A request that restarts gets a new one. */
export interface Sequence {
  readonly id: number
  readonly weights: WeightSet
  /** Tokens whose key/value entries the backend holds, as of the last committed step. */
  fed: number
  /** Pages of the key/value budget, in the order of positions; the first ones may be shared. */
  pages: number[]
  /** It belongs to a scoring, which has pages of its own. */
  readonly scores: boolean
  /** A step that contains it is running. */
  inFlight: boolean
}

/**
 * Status of a request: `prefill` until its first (or, after a restart, next) token is sampled, then `decode`.
 * `waiting.pin` is the weight set that it must continue on, null before its first step.
 */
export type RequestStatus =
  | { readonly kind: 'waiting'; readonly pin: WeightSet | null }
  | { readonly kind: 'prefill'; readonly sequence: Sequence }
  | { readonly kind: 'decode'; readonly sequence: Sequence }
  | { readonly kind: 'ended' }

/** A `TokenConstraint` that never rejects. */
export interface OutputConstraint {
  allowedAfter(generated: readonly number[], drafts: readonly number[]): Promise<readonly TokenMask[] | null>
  forcedAfter(generated: readonly number[]): Promise<readonly number[] | null>
}

/** Goal of a request that continues a prompt. */
export interface GenerateGoal {
  readonly kind: 'generate'
  readonly sampler: SamplerSpec
  /** The grammar of the output, as `TokenConstraint`; null when the request cannot continue, which then fails. */
  readonly constraint?: OutputConstraint | undefined
  readonly maxNewTokens: number
  /** No output reaches the client before the end, so the request may restart on another weight set. */
  readonly restartable: boolean
  /** Prompts of one partition share pages, which reveals by timing that a prompt was seen before; null shares nothing. */
  readonly partition: string | null
  /** Prefixes of the prompt by the names that the caller gives them. */
  readonly prefixes: readonly NamedPrefix[]
  /** What the client expects as output. */
  readonly prediction?: readonly number[] | undefined
  /** Scores of all prompt tokens but the first, filled in by prefill; omitted when they are not requested. */
  readonly promptScores?: TokenScores | undefined
}

/** The purposes of scoring, which share its time equally. */
export type ScoreLane = 'drift' | 'shadow' | 'describe' | 'probe'

/** Goal of a request in the share of scoring: it scores a text, and may sum its last hidden states. */
export interface ScoreGoal {
  readonly kind: 'score'
  readonly lane: ScoreLane
  /** Index of the first token that is scored, at least 1; those before it are context. */
  readonly first: number
  /** `nll[i]` is of token `first + i` given all before it, in nats. */
  readonly nll: Float32Array
  /** The sum of the last hidden states, f64 `[hidden]`, over the tokens fed so far; null where it is not wanted. */
  readonly sum: Float64Array | null
}

/** Goal of a request that sums the last hidden states of a text; `sum` is f64 `[hidden]`, over the tokens fed so far. */
export interface EmbedGoal {
  readonly kind: 'embed'
  readonly sum: Float64Array
  /** The request names no weights, so it may restart on others. */
  readonly restartable: boolean
}

/** Goal of a request. */
export type Goal = GenerateGoal | ScoreGoal | EmbedGoal

/** One request as the scheduler sees it. */
export interface Request {
  /** Arrival order, engine-wide: lower came first. */
  readonly order: number
  readonly goal: Goal
  readonly promptTokens: number
  /** The prompt and the output so far. */
  tokens: number[]
  status: RequestStatus
  /** Keys of its first full pages, as far as they were computed. */
  pageKeys: string[]
  /** Turn of its last prefill chunk, initially of its arrival: the lowest is served next. */
  turn: number
  /** What it has for its drafts, from its first step that may have some. */
  drafter?: Drafter | undefined
  /** What its grammar says must follow its first `length` tokens, as {@link OutputConstraint.forcedAfter}. */
  forced?: { readonly length: number; readonly tokens: readonly number[] | null } | undefined
}

/** Creates a waiting request. `pin` is set by scorings, which name their weight set. */
export function createRequest(
  arrival: { order: number; turn: number },
  goal: Goal,
  prompt: readonly number[],
  pin: WeightSet | null,
): Request {
  return {
    ...arrival,
    goal,
    promptTokens: prompt.length,
    tokens: [...prompt],
    pageKeys: [],
    status: { kind: 'waiting', pin },
  }
}

/** Returns the sequence of a request, if it has one. */
export function sequenceOf(request: Request): Sequence | undefined {
  const { status } = request
  return status.kind === 'prefill' || status.kind === 'decode' ? status.sequence : undefined
}

/** Returns the weight set that a request is bound to: it runs on it or must continue on it. */
export function pinOf(request: Request): WeightSet | undefined {
  const { status } = request
  return status.kind === 'waiting' ? (status.pin ?? undefined) : sequenceOf(request)?.weights
}

/** Returns the number of tokens that prefill feeds: all but the last one of a text that is only scored, which predicts nothing. */
export function prefillLength({ goal, tokens }: Request): number {
  return goal.kind === 'score' && !goal.sum ? tokens.length - 1 : tokens.length
}
