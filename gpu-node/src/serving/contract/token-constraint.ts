import type { TokenMask } from './backend.ts'

/** What keeps one answer to a grammar. */
export interface TokenConstraint {
  /**
   * Which tokens may follow `generated`, which is all of the answer so far; where the answer is complete these
   * are the end tokens alone. An answer that starts over, or is fed again, is simply asked about again.
   *
   * @throws AppError (rejects) when the grammar became too costly; the answer cannot go on
   */
  allowedAfter(generated: readonly number[]): Promise<TokenMask>
  /** Frees what it holds, once all that was asked is answered: the answer ended, or starts over. */
  release(): void
}
