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
  /**
   * A step sampled tokens of a request, several with drafts; `sinceMs` counts from the step that sampled some before, or for the
   * `first` ones from the arrival of the request.
   */
  sampled?(sampled: { tokens: number; sinceMs: number; first: boolean }): void
  /** A request ended. */
  ended?(outcome: GenerationOutcome): void
}
