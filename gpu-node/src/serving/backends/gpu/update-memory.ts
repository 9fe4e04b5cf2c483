import type { LlamaConfig } from '../../../model/config/llama-config.ts'
import type { Log } from '../../../platform/log.ts'
import { deviceCalibrationBytes } from '../../../pruning/calibration/device-memory.ts'

/**
 * Warns if a GPU has too little memory for the calibrations of updates, which the processor then does.
 *
 * @param memory what weights leave, and the tokens of keys and values
 */
export function warnOfUpdateMemory(
  config: LlamaConfig,
  { freeBytes, kvTokens }: { freeBytes: number; kvTokens: number },
  log: Pick<Log, 'warn'>,
): void {
  const { layers, kvHeads, headDim } = config
  // A key and a value of each element, f16.
  const leftBytes = freeBytes - 4 * kvTokens * layers * kvHeads * headDim
  const neededBytes = deviceCalibrationBytes(config)
  if (neededBytes <= leftBytes) return
  log.warn(
    'weights, keys and values may leave the GPU too little memory for updates, and the processor then does them. ' +
      'A lower COPAL_WEIGHT_BYTES or COPAL_KV_TOKENS leaves more',
    { neededMegabytes: Math.round(neededBytes / 1e6), leftMegabytes: Math.round(leftBytes / 1e6) },
  )
}
