import { expect, test } from 'vitest'
import {
  blocksPerToken,
  estimateRun,
  parameterCount,
  type CalibrationWork,
  type Workload,
} from '../../../../gpu-node/lab/run/estimate-run.ts'
import type { Propagation } from '../../../../gpu-node/src/pruning/calibration/pruned-propagation.ts'
import type { Rates } from '../../../../gpu-node/lab/run/lab-cache.ts'
import type { LlamaConfig } from '../../../../gpu-node/src/model/config/llama-config.ts'

/** SmolLM2-135M. */
const CONFIG: LlamaConfig = {
  vocabSize: 49152,
  hiddenSize: 576,
  intermediateSize: 1536,
  layers: 30,
  heads: 9,
  kvHeads: 3,
  headDim: 64,
  ropeTheta: 100_000,
  ropeScaling: null,
  rmsNormEps: 1e-5,
  contextLength: 8192,
  tiedEmbedding: true,
  bosTokenId: 1,
  eosTokenIds: [2],
}
const SIZES = { length: 2048, windowTokens: 2048, threads: 2 }
const RATES: Rates = { calibrateToken: 0.005, evaluateToken: 0.001, select: { copal: 5 } }
const NOTHING: Workload = {
  calibrations: [],
  storedStatistics: 0,
  selections: [],
  weightSetLoads: 0,
  evaluationTokens: 0,
}

const calibration = (tokens: number, propagation: Propagation = 'dense'): CalibrationWork => ({
  tokens,
  propagation,
  method: 'copal',
})

test('the parameter count of the default model matches its publication', () => {
  expect(parameterCount(CONFIG)).toBe(134_515_008)
  expect(parameterCount({ ...CONFIG, tiedEmbedding: false })).toBe(134_515_008 + 49152 * 576)
  // The head has 28.3 million weights, a block 3.5 million.
  expect(blocksPerToken(CONFIG)).toBeCloseTo(38, 0)
})

test('time is the amount of work times the measured rates', () => {
  const work = {
    calibrations: [calibration(32_768), calibration(32_768)],
    storedStatistics: 2,
    selections: ['copal', 'copal', 'continual-wanda+swaps'],
    weightSetLoads: 3,
    evaluationTokens: 100_000,
  }
  const { seconds, guessed } = estimateRun(CONFIG, work, SIZES, RATES)
  expect(seconds.calibrate).toBeCloseTo(2 * 32_768 * 0.005, 6)
  expect(seconds.select).toBeGreaterThan(10)
  expect(seconds.evaluate).toBeGreaterThan(100)
  expect(seconds.total).toBeCloseTo(seconds.calibrate + seconds.select + seconds.evaluate, 6)
  expect(guessed).toEqual(['continual-wanda+swaps'])
})

test('statistics of the default model take 0.6 GB per domain, masks 13 MB, weights files 120 MB', () => {
  const disk = (work: Partial<Workload>) =>
    estimateRun(CONFIG, { ...NOTHING, ...work }, SIZES, RATES).diskBytes / 1e6
  expect(disk({ calibrations: [calibration(1024)], storedStatistics: 1 })).toBeCloseTo(625, -2)
  expect(disk({ selections: ['copal'] })).toBeCloseTo(13.3, 0)
  expect(disk({ selections: ['continual-sparsegpt'] })).toBeCloseTo(119, -1)
})

test('nothing to do takes no time and no disk', () => {
  expect(estimateRun(CONFIG, NOTHING, SIZES, RATES)).toMatchObject({
    seconds: { total: 0 },
    diskBytes: 0,
    guessed: [],
  })
})

test('calibration with pruned propagation includes the time of its selections', () => {
  const of = (propagation: Propagation) =>
    estimateRun(
      CONFIG,
      { ...NOTHING, calibrations: [calibration(32_768, propagation)], storedStatistics: 1 },
      SIZES,
      RATES,
    )
  const { seconds } = of('dense')
  const selecting = 5
  const pruned = of('pruned')
  expect((pruned.seconds.calibrate - selecting) / seconds.calibrate).toBeCloseTo(1.5, 0)
})
