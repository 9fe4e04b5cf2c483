import type { LlamaConfig } from '../../model/config/llama-config.ts'
import { deviceCalibrationBytes, deviceExchangeBytes } from '../calibration/device-memory.ts'
import { parseMethod } from '../methods/method-registry.ts'
import { neededStatistics, type CalibrationTask } from './calibration-task.ts'

/** Returns the memory that the selection of a task takes on a GPU at most, in bytes; 0 where it exchanges no weights. */
export function selectionGpuBytes(
  config: LlamaConfig,
  { selection }: Pick<CalibrationTask, 'selection'>,
): number {
  return parseMethod(selection.method).swaps ? deviceExchangeBytes(config) : 0
}

/**
 * Returns the memory that a task takes on a GPU at most, in bytes; 0 if it does nothing there.
 *
 * @param calibrates whether the statistics of a dataset are missing
 */
export function taskGpuBytes(
  config: LlamaConfig,
  task: Pick<CalibrationTask, 'selection' | 'length'>,
  calibrates: boolean,
): number {
  const calibrationBytes = calibrates
    ? deviceCalibrationBytes(config, task.length, neededStatistics(task))
    : 0
  return Math.max(calibrationBytes, selectionGpuBytes(config, task))
}
