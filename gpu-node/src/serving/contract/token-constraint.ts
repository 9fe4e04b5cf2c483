import type { TokenMask } from './backend.ts'

/** Keeps the output of one generation to a grammar. */
export interface TokenConstraint {
  /**
   * Returns the tokens that may follow `generated`, the whole output so far; only the end tokens once the output is
   * complete. Then those that may follow each of `drafts` behind it, up to the first draft that may not come; it may leave out
   * the last ones. An output that restarts or is prefilled again is asked about again.
   *
   * @returns at least one mask
   * @throws AppError (rejects) when the grammar became too costly; the output cannot continue
   */
  allowedAfter(generated: readonly number[], drafts?: readonly number[]): Promise<readonly TokenMask[]>
  /**
   * Returns tokens of the text that must follow `generated`; none where there is a choice. An output may have the same text in
   * other tokens, and only the first ones of a long text are returned. Null where it is too costly to look ahead now:
   * then nothing is known about drafts.
   *
   * @throws AppError (rejects) as {@link allowedAfter}
   */
  forcedAfter(generated: readonly number[]): Promise<readonly number[] | null>
  /** Frees resources after all pending calls: the output ended or restarts. */
  release(): void
}
