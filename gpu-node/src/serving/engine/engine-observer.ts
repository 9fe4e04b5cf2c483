import type { GenerationOutcome } from './generation-request.ts'

/** Told what the engine does, for metrics. Called synchronously: it must be quick and must not throw. */
export interface EngineObserver {
  /** A step was committed. */
  step?(step: {
    maskVersion: number
    durationMs: number
    prefillTokens: number
    decodeTokens: number
    scoreTokens: number
  }): void
  /** A token was sampled; `sinceMs` after the request arrived if it is the first, else after the one before it. */
  token?(token: { sinceMs: number; first: boolean }): void
  /** A request ended. */
  ended?(outcome: GenerationOutcome): void
}
