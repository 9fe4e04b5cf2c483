import type { AppError } from '@copal/shared/errors.ts'
import type { SequenceOutput } from '../contract/backend.ts'
import type { GeneratedText } from './generated-text.ts'
import type { TokenConstraint } from '../contract/token-constraint.ts'
import type { Embedding } from './embedding-request.ts'
import type { EventQueue } from './event-queue.ts'
import type { GenerateEvent } from './generation-request.ts'
import type { EmbedGoal } from './engine-request.ts'

/** What whoever asked hears of a request. */
export interface OutputHandler {
  /** Its first step on these weights was committed. */
  pinned(maskVersion: number): void
  /** A token was sampled. @returns why the answer is complete, if it is */
  token(output: Extract<SequenceOutput, { kind: 'token' }>): 'stop' | 'length' | undefined
  /** It starts over on other weights: nothing before counts. */
  restart(): void
  finished(reason: 'stop' | 'length', promptTokens: number, cachedTokens: number): void
  /** It ended with this error; undefined after `finished`. */
  closed(error: AppError | undefined): void
  readonly completionTokens: number
}

/** Turns sampled tokens into events; what keeps them to a grammar is released with the answer. */
export function createGenerationOutput(
  queue: EventQueue<GenerateEvent>,
  newAnswer: () => GeneratedText,
  constraint: TokenConstraint | undefined,
): OutputHandler {
  let answer = newAnswer()
  return {
    pinned: (maskVersion) => queue.push({ type: 'pinned', maskVersion }),
    token(output) {
      const { text, tokens, reason } = answer.take(output)
      if (text !== '' || tokens.length > 0) queue.push({ type: 'text', text, tokens })
      return reason
    },
    restart() {
      answer = newAnswer()
      constraint?.release()
    },
    finished(reason, promptTokens, cachedTokens) {
      const { completionTokens } = answer
      queue.push({ type: 'finished', reason, promptTokens, cachedTokens, completionTokens })
    },
    closed(error) {
      constraint?.release()
      queue.close(error)
    },
    get completionTokens() {
      return answer.completionTokens
    },
  }
}

/** Takes the mean once all hidden states are added up. */
export function createEmbeddingOutput(
  { sum }: EmbedGoal,
  { resolve, reject }: Pick<PromiseWithResolvers<Embedding>, 'resolve' | 'reject'>,
): OutputHandler {
  let pinnedTo = 0
  return {
    pinned: (maskVersion) => void (pinnedTo = maskVersion),
    token: () => undefined,
    // What is fed from the first token on starts a new sum.
    restart: () => undefined,
    finished: (_, promptTokens) =>
      resolve({ embedding: Float32Array.from(sum, (value) => value / promptTokens), maskVersion: pinnedTo }),
    closed: (error) => error && reject(error),
    completionTokens: 0,
  }
}
