import type { GenerationOutcome } from './generation-request.ts'

/** Observes the engine, for metrics. Called synchronously: it must be quick and must not throw. */
export interface EngineObserver {
  /** A step was committed. */
  step?(step: {
    maskVersion: number
    durationMs: number
    /** Sequences that it computed. */
    sequences: number
    prefillTokens: number
    decodeTokens: number
    scoreTokens: number
    /** Drafts that it fed, and how many of them were what the model sampled. */
    draftTokens: number
    acceptedDrafts: number
  }): void
  /** A token was sampled; `sinceMs` counts from the arrival of the request for the first, else from the previous token. */
  token?(token: { sinceMs: number; first: boolean }): void
  /** A request ended. */
  ended?(outcome: GenerationOutcome): void
}
