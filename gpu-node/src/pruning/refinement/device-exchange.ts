import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import type { GpuExchanger } from '../../../gpu/addon.d.ts'
import { minExchangeGain, totalError } from './exchange.ts'
import { createUnfold, type ExchangeRefiner } from './exchange-refiner.ts'

/** Values of H that go to the device at a time: 4 MiB there. */
const UPLOAD_VALUES = 1 << 20

/**
 * Creates the refiner on a GPU, which is opened when the first mask is refined. The device computes in f32, so its masks can
 * differ from those of the processor where exchanges gain almost the same. They do not depend on the pieces.
 *
 * @param pause called between pieces of bounded work, which goes on when it has settled
 * @throws (its `refine`) the errors of `open` and of {@link GpuExchanger}
 */
export function createDeviceExchange(
  open: () => Promise<GpuExchanger>,
  pause: () => Promise<void> = async () => {},
): ExchangeRefiner {
  let opening: Promise<GpuExchanger> | undefined
  return {
    unfold: createUnfold(),
    async refine({ rows, cols, group, weights, moment, bits }) {
      const device = await (opening ??= open())
      const diagonal = Float64Array.from({ length: cols }, (_, col) => moment[col * (cols + 1)] as number)
      const pieces = split(rows, await device.begin({ diagonal, group }))
      await pause()
      for (const [first, end] of split(cols, Math.ceil(UPLOAD_VALUES / cols))) {
        await device.addMoment(moment.subarray(first * cols, end * cols))
        await pause()
      }
      const errors = new Float64Array(rows)
      const bytes = rowBytes(cols)
      for (const [first, end] of pieces) {
        const rowsOfPiece = weights.subarray(first * cols, end * cols)
        errors.set(await device.addRows(rowsOfPiece, bits.subarray(first * bytes, end * bytes)), first)
        await pause()
      }
      const before = totalError(errors)
      const floor = minExchangeGain({ rows, errors })
      const refined = new Uint8Array(bits.length)
      for (const [index, [first]] of pieces.entries()) {
        const piece = await device.refine(index, floor)
        refined.set(piece.bits, first * bytes)
        errors.set(piece.errors, first)
        await pause()
      }
      bits.set(refined)
      return { before, after: totalError(errors) }
    },
    async close() {
      // One that did not open has nothing to free.
      const device = await opening?.catch(() => undefined)
      device?.close()
    },
  }
}

/** Splits `0 … count - 1` into ranges of at most `size`. */
function split(count: number, size: number): [first: number, end: number][] {
  return Array.from({ length: Math.ceil(count / size) }, (_, index) => [
    index * size,
    Math.min((index + 1) * size, count),
  ])
}
