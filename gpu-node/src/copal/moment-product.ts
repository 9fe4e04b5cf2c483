import { buildProduct } from '../graph/conjugate-gradients.ts'
import { encodeModel } from '../graph/onnx-writer.ts'
import { InferenceSession, Tensor } from '../graph/runtime.ts'

/** Options of sessions that work beside serving. */
export function backgroundSession(threads: number): InferenceSession.SessionOptions {
  return {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    // Spinning between operators would take the processor from serving.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  }
}

/** `E H` in f64, for one linear after another. */
export interface MomentProduct {
  /**
   * @param errors E `[rows, cols]`
   * @param moment H `[cols, cols]`
   * @returns `E H` `[rows, cols]`; the same bits whatever the number of threads
   */
  multiply(
    errors: Float64Array,
    moment: Float64Array,
    shape: readonly [rows: number, cols: number],
  ): Promise<Float64Array>
  release(): Promise<void>
}

/** Prepares the product; it blocks its thread while it runs. */
export async function createMomentProduct(threads: number): Promise<MomentProduct> {
  const session = await InferenceSession.create(encodeModel(buildProduct()), backgroundSession(threads))
  return {
    async multiply(errors, moment, [rows, cols]) {
      const { y } = await session.run({
        e: new Tensor('float64', errors, [rows, cols]),
        moment: new Tensor('float64', moment, [cols, cols]),
      })
      return y?.data as Float64Array
    },
    release: () => session.release(),
  }
}
