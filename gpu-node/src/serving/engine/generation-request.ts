import type { AppError } from '@copal/shared/errors.ts'
import type { RequestProgress } from '@copal/shared/wire/node-rpc.ts'
import type { SamplerSpec, WeightSet } from '../contract/backend.ts'
import type { NamedPrefix } from './prefix-names.ts'
import type { TokenLogprob } from './generated-text.ts'
import type { TokenConstraint } from '../contract/token-constraint.ts'

/** One request to continue a prompt. */
export interface GenerateRequest {
  /** The caller's id, for reports of progress. */
  id: string
  /** Which of the caller's prompts it is. */
  part?: number
  /** Token ids, at least one. */
  prompt: readonly number[]
  /** At most this many new tokens; null, or more than fit in the context, means as many as fit. */
  maxTokens: number | null
  sampling: Omit<SamplerSpec, 'promptTokens'>
  stops: readonly string[]
  /** The weights that shall make the whole answer; null or left out: those that are active at its first step. */
  weights?: WeightSet | null
  /** Keeps the answer to a grammar; of this request alone. */
  constraint?: TokenConstraint | undefined
  /** Nothing reaches the client before the end, so it may start over on other weights: see `Engine.drain`. */
  restartable: boolean
  /**
   * Prompts of one partition share what was computed of their common beginnings, where the backend can. How fast an answer
   * begins then tells that a prompt was seen before, so a partition is whoever may know that: a tenant. Left out,
   * nothing is shared.
   */
  partition?: string | undefined
  /** What the caller calls the beginnings of the prompt: {@link Engine.heldBeginnings} tells which are ready. */
  prefixes?: readonly NamedPrefix[] | undefined
  /** Ends the request at once; its room is free with the next step. */
  signal?: AbortSignal
  /** Milliseconds from now after which it fails with `deadline_exceeded`. */
  deadlineMs?: number | undefined
}

/**
 * What a request hears, in order. `pinned` comes with its first committed step and says which
 * weights make the whole answer; a restartable request may hear it again, and then everything
 * before it is void. `cachedTokens` of the prompt were not computed for it.
 */
export type GenerateEvent =
  | { type: 'pinned'; maskVersion: number }
  | { type: 'text'; text: string; tokens: TokenLogprob[] }
  | {
      type: 'finished'
      reason: 'stop' | 'length'
      promptTokens: number
      cachedTokens: number
      completionTokens: number
    }

/** Moments of a request, in milliseconds since the epoch; null for what never happened. */
interface GenerationTimes {
  arrivedMs: number
  /** Its first step was sent to the backend. */
  startedMs: number | null
  firstTokenMs: number | null
  endedMs: number
}

/** How a request ended: what a receipt is made from. */
export interface GenerationOutcome {
  finishReason: 'stop' | 'length' | 'cancelled' | 'refused' | 'error'
  /** What made the answer; null when it never started. */
  weights: WeightSet | null
  promptTokens: number
  /** Of the prompt, what others had computed when it began. */
  cachedTokens: number
  completionTokens: number
  /** The prompt, and behind it what was sampled; of several choices that of the first. */
  text: { tokens: readonly number[]; promptTokens: number }
  times: GenerationTimes
  error: AppError | null
}

/** How far a request is, and which of its caller's prompts it continues. */
export interface PartProgress extends RequestProgress {
  part: number | undefined
}

/** A request under way. */
export interface Generation {
  /**
   * May be iterated once; leaving the loop cancels the request.
   *
   * @throws AppError `client_closed_request` after a cancel, `deadline_exceeded`, `node_failed`
   */
  readonly events: AsyncIterable<GenerateEvent>
  /** Resolves when the request has ended, however; never rejects. */
  readonly outcome: Promise<GenerationOutcome>
}
