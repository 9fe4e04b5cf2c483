import type { TokenMask } from '../../contract/backend.ts'
import type { AllowedTokens } from './weight-set-protocol.ts'

/** Joins the allowed tokens that arrive by message with the steps that await them, in either order. */
export interface AllowedTokensInbox {
  /** Stores the tokens of one work of a step. */
  deliver(message: AllowedTokens): void
  /** Waits for the tokens that the `index`-th work of a step may sample. */
  allowed(step: number, index: number): Promise<TokenMask | null>
  /** Ends a step: messages that still arrive for it, or for an earlier one, are dropped. */
  close(step: number): void
}

/** Creates an empty inbox. Steps must be closed in ascending order. */
export function createAllowedTokensInbox(): AllowedTokensInbox {
  const steps = new Map<number, Map<number, PromiseWithResolvers<TokenMask | null>>>()
  let closed = 0
  const entryOf = (step: number, index: number) => {
    const entries = steps.get(step) ?? new Map<number, PromiseWithResolvers<TokenMask | null>>()
    steps.set(step, entries)
    const found = entries.get(index) ?? Promise.withResolvers<TokenMask | null>()
    entries.set(index, found)
    return found
  }
  return {
    deliver({ step, index, mask }) {
      if (step > closed) entryOf(step, index).resolve(mask)
    },
    allowed: (step, index) => entryOf(step, index).promise,
    close(step) {
      closed = step
      steps.delete(step)
    },
  }
}
