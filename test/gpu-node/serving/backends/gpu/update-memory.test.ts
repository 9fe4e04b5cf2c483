import { expect, test } from 'vitest'
import { LLAMA_2_7B } from '../../../../support/models/llama-2-7b.ts'
import { deviceCalibrationBytes } from '../../../../../gpu-node/src/pruning/calibration/device-memory.ts'
import {
  missingUpdateBytes,
  warnOfUpdateMemory,
} from '../../../../../gpu-node/src/serving/backends/gpu/update-memory.ts'

test('a GPU whose weights, keys and values leave less than a calibration takes is a warning', () => {
  const warnings: unknown[] = []
  const log = { warn: (...warning: unknown[]) => void warnings.push(warning) }
  const needed = deviceCalibrationBytes(LLAMA_2_7B)
  expect(needed).toBe(2_687_795_200)
  // A token of 7B has 0.5 MB of keys and values.
  const kvBytes = 1000 * 2 * 2 * 32 * 4096
  warnOfUpdateMemory(LLAMA_2_7B, { freeBytes: needed + kvBytes, kvTokens: 1000 }, log)
  expect(warnings).toEqual([])
  expect(missingUpdateBytes(LLAMA_2_7B, { freeBytes: needed + kvBytes, kvTokens: 1000 })).toBe(0)
  expect(missingUpdateBytes(LLAMA_2_7B, { freeBytes: needed + kvBytes - 1e6, kvTokens: 1000 })).toBe(1e6)
  const full = { freeBytes: kvBytes - 5e6, kvTokens: 1000 }
  expect(missingUpdateBytes(LLAMA_2_7B, full, 1e6)).toBe(6e6)
  // Also where keys and values alone are too large.
  expect(missingUpdateBytes(LLAMA_2_7B, full, 0)).toBe(0)
  warnOfUpdateMemory(LLAMA_2_7B, { freeBytes: needed + kvBytes - 1e6, kvTokens: 1000 }, log)
  expect(warnings).toEqual([
    [expect.stringContaining('COPAL_WEIGHT_BYTES'), { neededMegabytes: 2688, leftMegabytes: 2687 }],
  ])
})
