import type { TokenMask } from './backend.ts'

/** Keeps the output of one generation to a grammar. */
export interface TokenConstraint {
  /**
   * Returns the tokens that may follow `generated`, the whole output so far; only the end tokens once the output is
   * complete. An output that restarts or is prefilled again is asked about again.
   *
   * @throws AppError (rejects) when the grammar became too costly; the output cannot continue
   */
  allowedAfter(generated: readonly number[]): Promise<TokenMask>
  /** Frees resources after all pending calls: the output ended or restarts. */
  release(): void
}
