import type { CalibrateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'
import { taskGpuBytes } from '../../pruning/runs/gpu-memory.ts'
import { missingUpdateBytes, type GpuDivision } from '../backends/gpu/update-memory.ts'
import type { MaskSwap } from '../masks/mask-swap.ts'

/** Gives memory of the GPU back, except what the rest of an update takes: `neededBytes`, by default nothing. */
export type LeaveGpu = (neededBytes?: number) => void

/**
 * Frees the memory of the GPU that an update takes, until the returned function is called. Returns null if there is not enough.
 *
 * @param calibrates whether statistics of the job are missing on this node
 * @throws the reason of `signal`
 */
export type ReserveGpu = (
  job: Pick<CalibrateJob, 'selection' | 'length'>,
  calibrates: boolean,
  signal: AbortSignal,
) => Promise<LeaveGpu | null>

/** Creates the reservation of memory of a GPU, which takes from weight sets what they, keys and values do not leave anyway. */
export function createGpuReservation(
  config: LlamaConfig,
  division: GpuDivision,
  swap: Pick<MaskSwap, 'reserve'>,
): ReserveGpu {
  const missing = (neededBytes: number) => missingUpdateBytes(config, division, neededBytes)
  return async (job, calibrates, signal) => {
    const bytes = missing(taskGpuBytes(config, job, calibrates))
    if (bytes === 0) return () => undefined
    const giveBack = await swap.reserve(bytes, signal)
    return giveBack && ((neededBytes = 0) => giveBack(missing(neededBytes)))
  }
}
