import type { BlockInput } from '../statistics/statistic-names.ts'

/**
 * Sums the second moments of a block's inputs outside of its graphs, such as on a GPU. Every method can throw a
 * {@link LostSumsError}.
 */
export interface MomentSummer {
  /**
   * Begins sums of zero.
   *
   * @param sizes columns of each input
   */
  begin(sizes: ReadonlyMap<BlockInput, number>): Promise<void>
  /** Adds `xᵀx` of inputs `[tokens, columns]`, all finite, to their sum. */
  add(input: BlockInput, values: Float32Array): Promise<void>
  /** Writes the upper triangle of a sum into `triangle`, row by row, each from the diagonal on. */
  read(input: BlockInput, triangle: Float32Array): Promise<void>
  close(): void
}

/** The sums of a block are lost. The block can be calibrated again from its beginning, without this summer. */
export class LostSumsError extends Error {
  override readonly name = 'LostSumsError'
}
