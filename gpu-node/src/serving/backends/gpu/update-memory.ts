import type { LlamaConfig } from '../../../model/config/llama-config.ts'
import type { Log } from '../../../platform/log.ts'
import { deviceCalibrationBytes } from '../../../pruning/calibration/device-memory.ts'

/** The memory of a GPU as the node divides it. */
export interface GpuDivision {
  /** What weight sets leave of it. */
  freeBytes: number
  /** Tokens of keys and values. */
  kvTokens: number
}

/**
 * Returns how many bytes of weight sets must be released for a calibration.
 *
 * @param neededBytes what the update takes; by default a calibration of all statistics
 */
export function missingUpdateBytes(
  config: LlamaConfig,
  division: GpuDivision,
  neededBytes = deviceCalibrationBytes(config),
): number {
  return neededBytes === 0 ? 0 : Math.max(0, neededBytes - leftBytes(config, division))
}

/** Logs what updates do to the weight sets if a GPU has too little memory for both. */
export function warnOfUpdateMemory(config: LlamaConfig, division: GpuDivision, log: Pick<Log, 'warn'>): void {
  if (missingUpdateBytes(config, division) === 0) return
  log.warn(
    'weights, keys and values leave the GPU too little memory for updates. While one runs, weight sets that need not serve are ' +
      'released, and the processor does it if that is not enough. A lower COPAL_WEIGHT_BYTES or COPAL_KV_TOKENS leaves more',
    {
      neededMegabytes: Math.round(deviceCalibrationBytes(config) / 1e6),
      leftMegabytes: Math.round(leftBytes(config, division) / 1e6),
    },
  )
}

function leftBytes({ layers, kvHeads, headDim }: LlamaConfig, { freeBytes, kvTokens }: GpuDivision): number {
  // A key and a value of each element, f16.
  return freeBytes - 4 * kvTokens * layers * kvHeads * headDim
}
