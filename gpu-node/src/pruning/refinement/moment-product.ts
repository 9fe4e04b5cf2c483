import { buildMomentProduct } from './conjugate-gradients-graph.ts'
import { encodeModel } from '../graph/onnx-writer.ts'
import { InferenceSession, Tensor } from '../graph/onnx-runtime.ts'
import { freeMemory } from '../../platform/free-memory.ts'

/** Returns the options of sessions that run in the background of serving. */
export function backgroundSessionOptions(threads: number): InferenceSession.SessionOptions {
  return {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    // Threads that spin between operators would take processor time from serving.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  }
}

/** Maximum rows per run. A run never has more rows than columns, for the reason given at {@link buildMomentProduct}. */
export const CHUNK_ROWS = 512

/** Computes `E H` in f64. */
export interface MomentProduct {
  /**
   * Writes `E H` into `product`. The result does not depend on the number of threads.
   *
   * @param errors E `[rows, cols]`
   * @param moment H `[cols, cols]`, symmetric
   * @param product `[rows, cols]`; may be the same array as `errors`
   */
  multiply(
    errors: Float64Array,
    moment: Float64Array,
    product: Float64Array,
    shape: readonly [rows: number, cols: number],
  ): Promise<void>
  release(): Promise<void>
}

/** Creates the session of the product. A run blocks the calling thread. */
export async function createMomentProduct(threads: number): Promise<MomentProduct> {
  const session = await InferenceSession.create(
    encodeModel(buildMomentProduct()),
    backgroundSessionOptions(threads),
  )
  return {
    async multiply(errors, moment, product, [rows, cols]) {
      const h = new Tensor('float64', moment, [cols, cols])
      const maxRows = Math.min(CHUNK_ROWS, cols)
      for (let first = 0; first < rows; first += maxRows) {
        const count = Math.min(maxRows, rows - first)
        const [begin, end] = [first * cols, (first + count) * cols]
        const e = new Tensor('float64', errors.subarray(begin, end), [count, cols])
        const { y } = await session.run({ moment: h, e })
        const values = y?.data as Float64Array<ArrayBuffer>
        transpose(values, product.subarray(begin, end), count, cols)
        freeMemory(values)
      }
    },
    release: () => session.release(),
  }
}

/** Rows of the result that are written together, so that the values read stay in the cache until all are used. */
const TILE_ROWS = 16

/** Writes the transpose of `from` `[cols, rows]` into `to` `[rows, cols]`. */
function transpose(from: Float64Array, to: Float64Array, rows: number, cols: number): void {
  for (let tile = 0; tile < rows; tile += TILE_ROWS) {
    const end = Math.min(tile + TILE_ROWS, rows)
    for (let col = 0; col < cols; col++) {
      for (let row = tile; row < end; row++) to[row * cols + col] = from[col * rows + row] as number
    }
  }
}
