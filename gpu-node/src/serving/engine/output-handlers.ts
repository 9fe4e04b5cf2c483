import type { AppError } from '@copal/shared/errors.ts'
import type { SampledToken, TokenScores } from '../contract/backend.ts'
import type { GeneratedText } from './generated-text.ts'
import type { TokenConstraint } from '../contract/token-constraint.ts'
import type { Embedding } from './embedding-request.ts'
import type { EventQueue } from './event-queue.ts'
import type { GenerateEvent } from './generation-request.ts'
import type { EmbedGoal } from './engine-request.ts'

/** Receives the output of one request. */
export interface OutputHandler {
  /** Its first step on these weights was committed. */
  pinned(maskVersion: number): void
  /** A token was sampled. @returns the reason why the output is complete, if it is */
  token(output: SampledToken): 'stop' | 'length' | undefined
  /** The request restarts on other weights: all output so far is void. */
  restart(): void
  finished(reason: 'stop' | 'length', promptTokens: number, cachedTokens: number): void
  /** The request ended with this error; undefined after `finished`. */
  closed(error: AppError | undefined): void
  readonly completionTokens: number
}

/**
 * Turns sampled tokens into events; the grammar constraint is released when the request ends.
 *
 * @param promptScores complete when the first token is sampled; undefined when they are not requested
 * @param readsOnly nothing is generated: the first token is dropped and ends the request
 */
export function createGenerationOutput(
  queue: EventQueue<GenerateEvent>,
  newText: () => GeneratedText,
  {
    constraint,
    promptScores,
    readsOnly,
  }: {
    constraint: TokenConstraint | undefined
    promptScores: TokenScores | undefined
    readsOnly: boolean
  },
): OutputHandler {
  let generated = newText()
  let isFirst = true
  return {
    pinned: (maskVersion) => queue.push({ type: 'pinned', maskVersion }),
    token(output) {
      if (isFirst && promptScores) queue.push({ type: 'prompt', scores: promptScores })
      isFirst = false
      if (readsOnly) return 'length'
      const { text, tokens, reason } = generated.take(output)
      if (text !== '' || tokens.length > 0) queue.push({ type: 'text', text, tokens })
      return reason
    },
    restart() {
      generated = newText()
      isFirst = true
      constraint?.release()
    },
    finished(reason, promptTokens, cachedTokens) {
      const { completionTokens } = generated
      queue.push({ type: 'finished', reason, promptTokens, cachedTokens, completionTokens })
    },
    closed(error) {
      constraint?.release()
      queue.close(error)
    },
    get completionTokens() {
      return generated.completionTokens
    },
  }
}

/** Resolves with the mean once all hidden states are summed. */
export function createEmbeddingOutput(
  { sum }: EmbedGoal,
  { resolve, reject }: Pick<PromiseWithResolvers<Embedding>, 'resolve' | 'reject'>,
): OutputHandler {
  let pinnedTo = 0
  return {
    pinned: (maskVersion) => void (pinnedTo = maskVersion),
    token: () => undefined,
    // Prefill from the first token starts a new sum.
    restart: () => undefined,
    finished: (_, promptTokens) =>
      resolve({ embedding: Float32Array.from(sum, (value) => value / promptTokens), maskVersion: pinnedTo }),
    closed: (error) => error && reject(error),
    completionTokens: 0,
  }
}
