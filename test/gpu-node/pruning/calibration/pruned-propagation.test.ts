import { afterAll, beforeAll, expect, test } from 'vitest'
import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import type { SelectionSpec } from '@copal/shared/wire/selection.ts'
import type { Artifact } from '../../../../gpu-node/src/pruning/statistics/statistics-artifact.ts'
import {
  LINEAR_INPUT,
  statisticTensorSizes,
} from '../../../../gpu-node/src/pruning/statistics/statistic-names.ts'
import { createCalibrationPass } from '../../../../gpu-node/src/pruning/calibration/calibration-pass.ts'
import { chooseMask, type ChosenLinear } from '../../../../gpu-node/src/pruning/selection/choose-mask.ts'
import { openPartial } from '../../../../gpu-node/src/pruning/statistics/partial-artifact.ts'
import {
  calibratePruned,
  type PrunedStage,
} from '../../../../gpu-node/src/pruning/calibration/pruned-propagation.ts'
import { accumulateStatistic } from '../../../../gpu-node/src/pruning/statistics/artifact-folder.ts'
import { BLOCK_LINEARS, linearShape } from '../../../../gpu-node/src/model/config/llama-config.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { referenceBlock, type Matrix } from '../../../support/models/reference-block.ts'
import type { StoredTensor } from '../../../support/models/safetensors-writer.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

const LENGTH = 32
const SEQUENCES = 3

let tiny: TinyModel

beforeAll(async () => {
  tiny = await openTinyModel({ layers: 3, intermediateSize: 96 })
})

afterAll(() => tiny.remove())

function stage(name: string, seed: number): PrunedStage {
  const random = createRandom(seed)
  const tokens = Int32Array.from({ length: SEQUENCES * LENGTH }, () =>
    Math.floor(random() * tiny.model.config.vocabSize),
  )
  return {
    spec: {
      baseSha256: tiny.model.master.baseSha256,
      datasetSha256: name,
      samples: SEQUENCES,
      length: LENGTH,
      seed,
      draw: 'shuffled',
    },
    domain: name,
    sequences: { tokens, sequences: SEQUENCES, length: LENGTH },
  }
}

const selectionOf = (method: string, pattern = '0.5'): SelectionSpec => ({ method, pattern, scope: 'row' })

const calibrate = (
  stages: PrunedStage[],
  selection: SelectionSpec,
  statisticsDir = temporaryDir(),
  onBlock?: (stage: number, done: number) => void,
) => calibratePruned(tiny.model, stages, { selection, statisticsDir, threads: 1, onBlock })

async function calibrateDense({ sequences }: PrunedStage): Promise<Artifact> {
  const pass = await createCalibrationPass(tiny.model, LENGTH, 1)
  const partial = await openPartial(temporaryDir(), 'dense')
  await pass.run(sequences, partial, () => undefined)
  await pass.release()
  return partial.publish('', { id: 'dense', datasetSha256: '', domain: '', tokens: sequences.tokens.length })
}

/** Returns the weights of the model under a mask. */
async function prunedTensors(
  artifacts: Artifact[],
  selection: SelectionSpec,
): Promise<Map<string, StoredTensor>> {
  const pruned = new Map<string, StoredTensor>(tiny.tensors)
  const onLinear = async ({ name, bits, weights }: ChosenLinear) => {
    const { shape, values } = tiny.tensors.get(name)!
    const [rows, cols] = shape as [number, number]
    const isKept = (row: number, col: number) => (bits[row * rowBytes(cols) + (col >> 3)]! >> (col & 7)) & 1
    const kept = Float32Array.from(weights ?? values, (value, i) =>
      isKept(Math.floor(i / cols), i % cols) ? value : 0,
    )
    expect(kept.filter((value) => value === 0).length).toBe((rows * cols) / 2)
    pruned.set(name, { shape, values: kept })
  }
  await chooseMask({ model: tiny.model, artifacts, selection, threads: 1, onLinear })
  return pruned
}

/** Returns the largest difference of a block's statistics, relative to the largest value of each. */
async function difference(a: Artifact, b: Artifact, block: number): Promise<number> {
  let worst = 0
  for (const name of statisticTensorSizes(tiny.model.config).keys()) {
    const [left, right] = [
      await accumulateStatistic([a], block, name),
      await accumulateStatistic([b], block, name),
    ]
    const scale = right.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    left.forEach((value, i) => (worst = Math.max(worst, Math.abs(value - right[i]!) / scale)))
  }
  return worst
}

test('a block is calibrated on the outputs of the pruned blocks before it, as in an f64 forward pass', async () => {
  const { config } = tiny.model
  const only = stage('sea', 1)
  const selection = selectionOf('wanda')
  const [artifact] = await calibrate([only], selection)
  const pruned = await prunedTensors([artifact!], selection)
  let batch = embedded(only)
  for (let layer = 0; layer < config.layers; layer++) {
    const dense = batch.map((hidden) => referenceBlock(config, tiny.tensors, layer, hidden))
    for (const linear of BLOCK_LINEARS) {
      const [, cols] = linearShape(config, linear)
      const norm = await accumulateStatistic([artifact!], layer, `${LINEAR_INPUT[linear]}.square_norm`)
      const x = dense.flatMap(({ inputs }) => inputs[linear])
      for (let c = 0; c < cols; c++) {
        const expected = x.reduce((sum, row) => sum + row[c]! ** 2, 0)
        expect(Math.abs(norm[c]! / expected - 1)).toBeLessThan(2e-4)
      }
    }
    batch = batch.map((hidden) => referenceBlock(config, pruned, layer, hidden).hidden)
  }
})

test('only the first block has the statistics of dense propagation, but all blocks do if almost no weight is pruned', async () => {
  const only = stage('sea', 1)
  const dense = await calibrateDense(only)
  const [half] = await calibrate([only], selectionOf('copal'))
  expect(await difference(half!, dense, 0)).toBe(0)
  expect(await difference(half!, dense, 1)).toBeGreaterThan(0.05)
  expect(await difference(half!, dense, 2)).toBeGreaterThan(0.05)
  const [none] = await calibrate([only], selectionOf('copal', '0.001'))
  for (const block of [0, 1, 2]) expect(await difference(none!, dense, block)).toBeLessThan(1e-5)
})

test('a later dataset runs through the choice by all datasets so far, or by itself if the method restarts', async () => {
  const stages = [stage('sea', 1), stage('law', 2)]
  const continual = await calibrate(stages, selectionOf('continual-wanda'))
  const restarted = await calibrate(stages, selectionOf('wanda'))
  // Both begin with the same dense model and one dataset.
  expect(await difference(continual[0]!, restarted[0]!, 2)).toBe(0)
  expect(await difference(continual[1]!, restarted[1]!, 0)).toBe(0)
  expect(await difference(continual[1]!, restarted[1]!, 1)).toBeGreaterThan(1e-3)
  const [alone] = await calibrate([stages[1]!], selectionOf('wanda'))
  expect(alone!.blocks).toEqual(restarted[1]!.blocks)
})

test.each([1, 2, 4])(
  'a run that was stopped after %i blocks continues there and gives the same bytes',
  async (blocks) => {
    const stages = [stage('sea', 1), stage('law', 2)]
    const selection = selectionOf('continual-sparsegpt')
    const whole = await calibrate(stages, selection)
    const dir = temporaryDir()
    let left = blocks
    const stop = () => {
      if (--left === 0) throw new Error('stopped')
    }
    await expect(calibrate(stages, selection, dir, stop)).rejects.toThrow('stopped')
    const reported: [number, number][] = []
    const resumed = await calibrate(stages, selection, dir, (index, done) => reported.push([index, done]))
    const all = [0, 1].flatMap((index) => [1, 2, 3].map((done) => [index, done]))
    expect(reported).toEqual(all.slice(blocks))
    expect(resumed.map((artifact) => artifact.blocks)).toEqual(whole.map((artifact) => artifact.blocks))
  },
)

test('statistics on disk are not calibrated again unless an earlier dataset or the method differs', async () => {
  const dir = temporaryDir()
  const count = async (stages: PrunedStage[], method: string) => {
    let blocks = 0
    await calibrate(stages, selectionOf(method), dir, () => blocks++)
    return blocks
  }
  const [sea, law] = [stage('sea', 1), stage('law', 2)]
  expect(await count([sea, law], 'continual-wanda')).toBe(6)
  expect(await count([sea, law], 'continual-wanda')).toBe(0)
  expect(await count([law], 'continual-wanda')).toBe(3)
  expect(await count([sea], 'copal')).toBe(3)
})

function embedded({ sequences: { tokens, sequences, length } }: PrunedStage): Matrix[] {
  const { hiddenSize } = tiny.model.config
  const { values } = tiny.tensors.get('model.embed_tokens.weight')!
  return Array.from({ length: sequences }, (_, sequence) =>
    [...tokens.subarray(sequence * length, (sequence + 1) * length)].map((token) => [
      ...values.subarray(token * hiddenSize, (token + 1) * hiddenSize),
    ]),
  )
}
