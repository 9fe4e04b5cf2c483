import { buildMomentProduct } from './conjugate-gradients-graph.ts'
import { encodeModel } from '../graph/onnx-writer.ts'
import { InferenceSession, Tensor } from '../graph/onnx-runtime.ts'
import { freeMemory } from '../../platform/free-memory.ts'

/** Options of sessions that work beside serving. */
export function backgroundSessionOptions(threads: number): InferenceSession.SessionOptions {
  return {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    // Spinning between operators would take the processor from serving.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  }
}

/** Rows that one run takes, and at most as many as columns: see {@link buildMomentProduct}. */
export const CHUNK_ROWS = 512

/** `E H` in f64, for one linear after another. */
export interface MomentProduct {
  /**
   * @param errors E `[rows, cols]`
   * @param moment H `[cols, cols]`
   * @param product takes `E H` `[rows, cols]`, the same bits whatever the number of threads; may be `errors`
   */
  multiply(
    errors: Float64Array,
    moment: Float64Array,
    product: Float64Array,
    shape: readonly [rows: number, cols: number],
  ): Promise<void>
  release(): Promise<void>
}

/** Prepares the product; it blocks its thread while it runs. */
export async function createMomentProduct(threads: number): Promise<MomentProduct> {
  const session = await InferenceSession.create(
    encodeModel(buildMomentProduct()),
    backgroundSessionOptions(threads),
  )
  return {
    async multiply(errors, moment, product, [rows, cols]) {
      const h = new Tensor('float64', moment, [cols, cols])
      const most = Math.min(CHUNK_ROWS, cols)
      for (let first = 0; first < rows; first += most) {
        const count = Math.min(most, rows - first)
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

/** Rows of the result that are written together, so that what is read stays in the cache until it is used up. */
const TILE_ROWS = 16

/** @param from `[cols, rows]` */
function transpose(from: Float64Array, to: Float64Array, rows: number, cols: number): void {
  for (let tile = 0; tile < rows; tile += TILE_ROWS) {
    const end = Math.min(tile + TILE_ROWS, rows)
    for (let col = 0; col < cols; col++) {
      for (let row = tile; row < end; row++) to[row * cols + col] = from[col * rows + row] as number
    }
  }
}
