import { expect, test } from 'vitest'
import type { LlamaConfig } from '../../../../../gpu-node/src/model/config/llama-config.ts'
import { deviceCalibrationBytes } from '../../../../../gpu-node/src/pruning/calibration/device-memory.ts'
import {
  missingUpdateBytes,
  warnOfUpdateMemory,
} from '../../../../../gpu-node/src/serving/backends/gpu/update-memory.ts'

/** The shape of Llama 2 7B. */
const CONFIG: LlamaConfig = {
  vocabSize: 32_000,
  hiddenSize: 4096,
  intermediateSize: 11_008,
  layers: 32,
  heads: 32,
  kvHeads: 32,
  headDim: 128,
  ropeTheta: 10_000,
  ropeScaling: null,
  rmsNormEps: 1e-5,
  contextLength: 4096,
  tiedEmbedding: false,
  bosTokenId: 1,
  eosTokenIds: [2],
}

test('a GPU whose weights, keys and values leave less than a calibration takes is a warning', () => {
  const warnings: unknown[] = []
  const log = { warn: (...warning: unknown[]) => void warnings.push(warning) }
  const needed = deviceCalibrationBytes(CONFIG)
  expect(needed).toBe(2_687_795_200)
  // A token of 7B has 0.5 MB of keys and values.
  const kvBytes = 1000 * 2 * 2 * 32 * 4096
  warnOfUpdateMemory(CONFIG, { freeBytes: needed + kvBytes, kvTokens: 1000 }, log)
  expect(warnings).toEqual([])
  expect(missingUpdateBytes(CONFIG, { freeBytes: needed + kvBytes, kvTokens: 1000 })).toBe(0)
  expect(missingUpdateBytes(CONFIG, { freeBytes: needed + kvBytes - 1e6, kvTokens: 1000 })).toBe(1e6)
  const full = { freeBytes: kvBytes - 5e6, kvTokens: 1000 }
  expect(missingUpdateBytes(CONFIG, full, 1e6)).toBe(6e6)
  // Also where keys and values alone are too large.
  expect(missingUpdateBytes(CONFIG, full, 0)).toBe(0)
  warnOfUpdateMemory(CONFIG, { freeBytes: needed + kvBytes - 1e6, kvTokens: 1000 }, log)
  expect(warnings).toEqual([
    [expect.stringContaining('COPAL_WEIGHT_BYTES'), { neededMegabytes: 2688, leftMegabytes: 2687 }],
  ])
})
