import type { AppError } from '@copal/shared/errors.ts'
import type { RequestProgress } from '@copal/shared/wire/heartbeat.ts'
import type { SamplerSpec, TokenScores, WeightSet } from '../contract/backend.ts'
import type { NamedPrefix } from './prefix-names.ts'
import type { TokenLogprob } from './generated-text.ts'
import type { TokenConstraint } from '../contract/token-constraint.ts'

/** One request to continue a prompt. */
export interface GenerateRequest {
  /** The caller's id, for progress reports. */
  id: string
  /** Index of the prompt among those of the call. */
  part?: number
  /** Token ids, at least one. */
  prompt: readonly number[]
  /** At most this many new tokens; null, or more than fit in the context, means as many as fit. 0 only reads the prompt. */
  maxTokens: number | null
  /**
   * Scores the prompt tokens after the first one, with this number of most probable tokens in place of each. Such a
   * prompt shares no computed pages, because all of its tokens must be computed; omitted or -1 for no scores.
   */
  promptLogprobs?: number
  sampling: Omit<SamplerSpec, 'promptTokens'>
  stops: readonly string[]
  /** The weights to generate with; null or omitted: those that are active at its first step. */
  weights?: WeightSet | null
  /** Keeps the output to a grammar; used by this request alone. */
  constraint?: TokenConstraint | undefined
  /** No output reaches the client before the end, so the request may restart on other weights: see `Engine.drain`. */
  restartable: boolean
  /**
   * Prompts of one partition share the computed pages of common prefixes, where the backend supports it. The time to
   * first token then reveals that a prompt was seen before, so a partition must not be wider than a tenant. Omitted,
   * nothing is shared.
   */
  partition?: string | undefined
  /** Prefixes of the prompt by name; {@link Engine.cachedPrefixes} returns the names that are cached. */
  prefixes?: readonly NamedPrefix[] | undefined
  /** Tokens that the output is expected to have much of, in their order: they are drafted. They change no output. */
  prediction?: readonly number[] | undefined
  /** Ends the request at once; its pages are free with the next step. */
  signal?: AbortSignal
  /** Milliseconds from now after which it fails with `deadline_exceeded`. */
  deadlineMs?: number | undefined
}

/**
 * Events of a generation, in order. `pinned` comes with the first committed step and names the weights that make the
 * whole output; a restartable request may get it again, and then everything before it is void. `cachedTokens` of the
 * prompt came from the prefix cache.
 */
export type GenerateEvent =
  | { type: 'pinned'; maskVersion: number }
  /** Before the first text, if requested: one row for each prompt token but the first. */
  | { type: 'prompt'; scores: TokenScores }
  | { type: 'text'; text: string; tokens: TokenLogprob[] }
  | {
      type: 'finished'
      reason: 'stop' | 'length'
      promptTokens: number
      cachedTokens: number
      completionTokens: number
    }

/** Times of a request by the clock of the engine, in milliseconds; null for events that never happened. */
interface GenerationTimes {
  arrivedMs: number
  /** Its first step was sent to the backend. */
  startedMs: number | null
  firstTokenMs: number | null
  endedMs: number
}

/** The outcome of a request, from which its receipt is made. */
export interface GenerationOutcome {
  finishReason: 'stop' | 'length' | 'cancelled' | 'refused' | 'error'
  /** The weights that made the output; null when the request never started. */
  weights: WeightSet | null
  promptTokens: number
  /** Prompt tokens that were cached when the request started. */
  cachedTokens: number
  completionTokens: number
  /** The prompt followed by the output; of several choices, those of the first. */
  text: { tokens: readonly number[]; promptTokens: number }
  times: GenerationTimes
  error: AppError | null
}

/** Progress of a request, and the index of its prompt in the call. */
export interface PartProgress extends RequestProgress {
  part: number | undefined
}

/** A generation in progress. */
export interface Generation {
  /**
   * May be iterated once; leaving the loop cancels the request.
   *
   * @throws AppError `client_closed_request` after a cancel, `deadline_exceeded`, `node_failed`, `invalid_output`
   */
  readonly events: AsyncIterable<GenerateEvent>
  /** Resolves when the request has ended for any reason; never rejects. */
  readonly outcome: Promise<GenerationOutcome>
}
