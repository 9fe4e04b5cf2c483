import type { GpuMomentSums } from '../../../gpu/addon.d.ts'
import { isGpuFault } from '../../platform/gpu-addon.ts'
import type { BlockInput } from '../statistics/statistic-names.ts'
import { LostSumsError, type MomentSummer } from './moment-summer.ts'

/** Values of inputs that go to the device at a time: 64 MiB, so that every driver has a buffer for them. */
const UPLOAD_VALUES = 1 << 24
/** Values of a sum that are downloaded at a time: 4 MiB. */
const DOWNLOAD_VALUES = 1 << 20

/** Parts of {@link createDeviceMoments}. */
export interface DeviceMomentsOptions {
  /** Opens the device, when the first sums begin. */
  open: () => GpuMomentSums
  /** Called between pieces of bounded work, which goes on when it has settled. */
  pause: () => Promise<void>
  /** Called when the sums are lost: with the fault of a device that is lost, missing, or has too little memory. */
  onFault: (fault: Error) => void
}

/** Creates the summer on a GPU. Its sums are f32 and as precise as those of the graphs. */
export function createDeviceMoments({ open, pause, onFault }: DeviceMomentsOptions): MomentSummer {
  let device: GpuMomentSums | undefined
  let inputs: BlockInput[] = []
  let sizes: ReadonlyMap<BlockInput, number> = new Map()

  /** Runs work on the device. */
  async function run(work: (sums: GpuMomentSums) => Promise<void>): Promise<void> {
    try {
      device ??= open()
      await work(device)
    } catch (error) {
      if (!isGpuFault(error)) throw error
      onFault(error)
      throw new LostSumsError(error.message, { cause: error })
    }
  }
  const place = (input: BlockInput) => ({ sum: inputs.indexOf(input), cols: sizes.get(input) ?? 0 })

  return {
    begin(wanted) {
      inputs = [...wanted.keys()]
      sizes = wanted
      return run((sums) => sums.begin(Uint32Array.from(wanted.values())))
    },
    add(input, values) {
      const { sum, cols } = place(input)
      const step = Math.max(1, Math.floor(UPLOAD_VALUES / cols)) * cols
      return run(async (sums) => {
        for (let first = 0; first < values.length; first += step) {
          const pieces = await sums.upload(sum, values.subarray(first, first + step))
          for (let piece = 0; piece < pieces; piece++) {
            await sums.add(piece)
            await pause()
          }
        }
      })
    },
    read(input, triangle) {
      const { sum, cols } = place(input)
      const step = Math.max(1, Math.floor(DOWNLOAD_VALUES / cols))
      return run(async (sums) => {
        let at = 0
        for (let first = 0; first < cols; first += step) {
          const values = await sums.read(sum, first, Math.min(first + step, cols))
          triangle.set(values, at)
          at += values.length
          await pause()
        }
      })
    },
    close: () => device?.close(),
  }
}
