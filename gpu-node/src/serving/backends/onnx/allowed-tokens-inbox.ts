import type { TokenMask } from '../../contract/backend.ts'
import type { AllowedTokens } from './weight-set-protocol.ts'

/** Where what the work of steps may sample is left and picked up, whichever comes first. */
export interface AllowedInbox {
  deliver(message: AllowedTokens): void
  allowed(step: number, index: number): Promise<TokenMask | null>
  /** The step is over: what still comes for it, or for one before it, is thrown away. */
  close(step: number): void
}

/** An empty inbox; steps are closed in the order of their numbers. */
export function createAllowedInbox(): AllowedInbox {
  const steps = new Map<number, Map<number, PromiseWithResolvers<TokenMask | null>>>()
  let closed = 0
  const place = (step: number, index: number) => {
    const places = steps.get(step) ?? new Map<number, PromiseWithResolvers<TokenMask | null>>()
    steps.set(step, places)
    const found = places.get(index) ?? Promise.withResolvers<TokenMask | null>()
    places.set(index, found)
    return found
  }
  return {
    deliver({ step, index, mask }) {
      if (step > closed) place(step, index).resolve(mask)
    },
    allowed: (step, index) => place(step, index).promise,
    close(step) {
      closed = step
      steps.delete(step)
    },
  }
}
