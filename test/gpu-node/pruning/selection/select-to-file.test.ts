import { createHash } from 'node:crypto'
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { countBits } from '@copal/shared/mask/bit-rows.ts'
import { checkMask, decodeMask, type Mask } from '@copal/shared/mask/mask-codec.ts'
import { readMaskHeader } from '@copal/shared/mask/mask-header.ts'
import { parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { packValues, unpackValues } from '@copal/shared/mask/packed-values.ts'
import { statisticTensorName } from '../../../../gpu-node/src/pruning/statistics/statistic-names.ts'
import { calibrateAndSelect } from '../../../../gpu-node/src/pruning/runs/calibrate-and-select.ts'
import type {
  CalibrationOutcome,
  CalibrationTask,
  DatasetFile,
} from '../../../../gpu-node/src/pruning/runs/calibration-task.ts'
import { METHOD_NAMES, parseMethod } from '../../../../gpu-node/src/pruning/methods/method-registry.ts'
import { expandPatterns } from '../../../../gpu-node/src/pruning/selection/mask-patterns.ts'
import { shareRows } from '../../../../gpu-node/src/pruning/selection/share-rows.ts'
import {
  BLOCK_LINEARS,
  linearName,
  linearShape,
  linearShapes,
  type BlockLinear,
} from '../../../../gpu-node/src/model/config/llama-config.ts'
import { accumulateStatistic } from '../../../../gpu-node/src/pruning/statistics/artifact-folder.ts'
import { writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'
import { storedStatistics } from '../../../support/pruning/stored-statistics.ts'
import { layerSensitivityOf, rowSensitivityOf } from '../../../support/models/sensitivities.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { maskChurn } from '../../../support/models/mask-figures.ts'

let tiny: TinyModel
let legal: DatasetFile
let sea: DatasetFile

beforeAll(async () => {
  tiny = await openTinyModel({ layers: 2, intermediateSize: 72 })
  tiny.model.layerSensitivity = layerSensitivityOf(tiny.model, [0.2, 0.1])
  tiny.model.rowSensitivity = rowSensitivityOf(tiny.model)
  legal = await writeWordsDataset(tiny.dir, 'legal', 1)
  sea = await writeWordsDataset(tiny.dir, 'sea', 2)
})
afterAll(() => tiny.remove())

const statisticsDir = () => join(tiny.dir, 'statistics')

function run(
  method: string,
  options: Partial<CalibrationTask> & { pattern?: string; patterns?: Record<string, string> } = {},
  threads = 1,
  messages: string[] = [],
): Promise<CalibrationOutcome> {
  const { pattern = '0.5', patterns, ...rest } = options
  const task: CalibrationTask = {
    datasets: [legal],
    accumulated: [sea],
    samples: 5,
    length: 32,
    seed: 7,
    selection: { method, pattern, scope: 'row', ...(patterns ? { patterns } : {}) },
    parentMaskPath: null,
    created: '2026-11-25T00:00:00.000Z',
    workDir: join(tiny.dir, 'masks'),
    statisticsDir: statisticsDir(),
    ...rest,
  }
  return calibrateAndSelect(tiny.model, task, threads, ({ message }) => messages.push(message))
}

async function read({ maskPath }: CalibrationOutcome): Promise<Mask> {
  const mask = decodeMask(Uint8Array.from(await readFile(maskPath)))
  checkMask(mask, { baseSha256: tiny.model.master.baseSha256, shapes: linearShapes(tiny.model.config) })
  return mask
}

/** Returns the weights of a linear under a mask file, 0 where pruned. */
function weightsOf(mask: Mask, name: string): Float32Array {
  const { rows, cols, bits, values } = mask.linears.get(name)!
  const weights = new Float32Array(rows * cols)
  unpackValues(bits, values!, rows, cols, new Uint32Array(weights.buffer))
  return weights
}

/** Returns every linear with the input of its selection. */
async function* problems() {
  const { config } = tiny.model
  const artifacts = await storedStatistics(statisticsDir(), tiny.model)
  const tokens = artifacts.flatMap(({ parts }) => parts).reduce((sum, part) => sum + part.tokens, 0)
  for (let layer = 0; layer < config.layers; layer++) {
    for (const linear of BLOCK_LINEARS) {
      const name = linearName(layer, linear)
      const [rows, cols] = linearShape(config, linear)
      const moment = await accumulateStatistic(artifacts, layer, statisticTensorName('second_moment', linear))
      const weights = Float32Array.from(tiny.tensors.get(name)!.values)
      yield { name, rows, cols, weights, tokens, moment }
    }
  }
}

/** Every combination of steps after one rule. After the others no step, each alone, and all, because no step knows the rule. */
const METHODS = METHOD_NAMES.filter((name) => {
  const { rule, allocated, rows, swaps, reconstruct } = parseMethod(name)
  const steps = [allocated, rows, swaps, reconstruct].filter(Boolean).length
  return rule.name === 'copal' || rule.changesWeights || steps < 2 || steps === 4
})

test.each(METHODS)('the file of %s fits the model and its pattern', async (method) => {
  const { allocated, rows, datasets, changesWeights } = parseMethod(method)
  const sparsities = { '0.37': 0.37, '3:8': 0.625 } as const
  for (const pattern of allocated || rows ? (['0.37'] as const) : (['0.37', '3:8'] as const)) {
    const scope = pattern === '0.37' ? 'matrix' : 'row'
    const selection = { method, pattern, scope } as const
    const outcome = await run(method, { selection })
    const bytes = await readFile(outcome.maskPath)
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(outcome.maskSha256)
    expect(bytes.length).toBe(outcome.maskBytes)
    const mask = await read(outcome)
    const domains = { none: [], newest: ['legal'], accumulated: ['legal', 'sea'] }[datasets]
    expect(mask.meta).toMatchObject({ ...selection, domains, parent: null })
    expect(outcome.tokens).toHaveLength(domains.length)
    for (const { values } of mask.linears.values()) expect(values !== undefined).toBe(changesWeights)
    // Rounding leaves less than one weight per linear unpruned.
    expect(Math.abs(outcome.sparsity - sparsities[pattern])).toBeLessThan(1e-3)
    expect(outcome.churn).toBeNull()
  }
})

test('with +rows every row keeps weights according to its sensitivity, with the scope matrix whatever scope is requested', async () => {
  const selection = { method: 'continual-wanda+rows', pattern: '0.37', scope: 'row' } as const
  const outcome = await run(selection.method, { selection })
  expect(outcome.scope).toBe('matrix')
  const mask = await read(outcome)
  expect(mask.meta.scope).toBe('matrix')
  const artifacts = await storedStatistics(statisticsDir(), tiny.model)
  let moved = 0
  for await (const { name, rows, cols, weights } of problems()) {
    const [, layer = '', linear = ''] = /layers\.(\d+)\.(.*)\.weight$/.exec(name) ?? []
    const norm = await accumulateStatistic(
      artifacts,
      Number(layer),
      statisticTensorName('square_norm', linear as BlockLinear),
    )
    const costs = tiny.model.rowSensitivity!.linears[name]!.rows
    const kept = shareRows({ rows, cols, weights, statistic: () => norm }, parsePattern('0.37'), costs)
    const { bits } = mask.linears.get(name)!
    const width = bits.length / rows
    for (let row = 0; row < rows; row++) {
      expect(countBits(bits, row * width, (row + 1) * width)).toBe(kept[row])
      if (kept[row] !== cols - Math.floor(0.37 * cols)) moved++
    }
  }
  expect(moved).toBeGreaterThan(0)
})

describe('an update whose method changes weights', () => {
  test.each(['0.5', '2:4'])(
    'uploads a weights file with exactly the values of SparseGPT (%s)',
    async (pattern) => {
      const outcome = await run('continual-sparsegpt', { pattern })
      expect(readMaskHeader(await readFile(outcome.maskPath)).kind).toBe('weights')
      expect(outcome.tokens).toHaveLength(2)
      const mask = await read(outcome)
      let compared = 0
      for await (const { moment, ...problem } of problems()) {
        const { rule } = parseMethod('continual-sparsegpt')
        const given = { ...problem, statistic: () => moment }
        const { bits, weights } = rule.choose(given, parsePattern(pattern), 'row')
        const linear = mask.linears.get(problem.name)!
        expect(linear.bits).toEqual(bits)
        expect(linear.values).toEqual(packValues(problem.name, bits, weights!, problem.rows, problem.cols))
        expect(weights).not.toEqual(problem.weights.map((weight, i) => (weights![i] === 0 ? 0 : weight)))
        compared += linear.values!.length
      }
      expect(compared).toBe([...mask.linears.values()].reduce((sum, { bits }) => sum + countBits(bits), 0))
    },
  )

  test('keeps the mask of its rule, and lowers the output error to the reported value, after rounding', async () => {
    const plain = await read(await run('continual-wanda'))
    const messages: string[] = []
    const outcome = await run('continual-wanda+reconstruct', {}, 1, messages)
    const mask = await read(outcome)
    expect(outcome.swaps).toBeUndefined()
    expect(Object.keys(outcome.reconstruction!)).toEqual([...linearShapes(tiny.model.config).keys()])
    for await (const problem of problems()) {
      expect(mask.linears.get(problem.name)!.bits).toEqual(plain.linears.get(problem.name)!.bits)
      const { before, after } = outcome.reconstruction![problem.name]!
      const kept = weightsOf(mask, problem.name)
      const masked = problem.weights.map((weight, i) => (kept[i] === 0 ? 0 : weight))
      expect(Math.abs(outputError(problem, masked) / before - 1)).toBeLessThan(1e-6)
      // Rounding to the eight bits of bfloat16 adds an error.
      expect(Math.abs(outputError(problem, kept) - after) / before).toBeLessThan(2e-3)
      expect(after).toBeLessThan(before)
    }
    expect(messages.filter((message) => message.startsWith('reconstructing weights, block'))).toHaveLength(2)
  })

  test('with exchange, solves for the refined mask', async () => {
    const swapped = await run('continual-wanda+swaps')
    const outcome = await run('continual-wanda+swaps+reconstruct')
    expect(outcome.swaps).toEqual(swapped.swaps)
    const [before, after] = [await read(swapped), await read(outcome)]
    for (const [name, { bits, values }] of after.linears) {
      expect(bits).toEqual(before.linears.get(name)!.bits)
      expect(values).toHaveLength(countBits(bits))
      const { before: start } = outcome.reconstruction![name]!
      expect(Math.abs(start / outcome.swaps![name]!.after - 1)).toBeLessThan(1e-6)
    }
  })

  test('has a churn and restores weights like any mask, with values computed from the dense weights', async () => {
    const first = await run('continual-sparsegpt', { accumulated: [] })
    const second = await run('continual-sparsegpt', {
      datasets: [sea],
      accumulated: [legal],
      parentMaskPath: first.maskPath,
    })
    const [before, after] = [await read(first), await read(second)]
    expect(after.meta.parent).toBe(first.maskSha256)
    expect(second.churn).toBe(maskChurn(before, after))
    let returned = 0
    for (const name of after.linears.keys()) {
      const [old, now] = [weightsOf(before, name), weightsOf(after, name)]
      now.forEach((weight, i) => (returned += weight !== 0 && old[i] === 0 ? 1 : 0))
    }
    expect(returned).toBeGreaterThan(0)
    expect(second.churn).toBeGreaterThan(0)
    const fromScratch = await run('continual-sparsegpt', { datasets: [sea], accumulated: [legal] })
    expect((await read(fromScratch)).linears).toEqual(after.linears)
  })
})

describe('patterns of single linears', () => {
  test.each(['continual-wanda', 'magnitude', 'continual-sparsegpt', 'copal+swaps+reconstruct'])(
    'are kept exactly, and the file does not contain dense linears (%s)',
    async (method) => {
      const patterns = expandPatterns(tiny.model.config, {
        'model.layers.0.*': 'dense',
        '*.down_proj.weight': '0.25',
        '*.o_proj.weight': '2:4',
      })
      const outcome = await run(method, { pattern: '0.75', patterns })
      const mask = await read(outcome)
      expect(mask.meta.patterns).toEqual(patterns)
      let pruned = 0
      let all = 0
      for (const [name, [rows, cols]] of linearShapes(tiny.model.config)) {
        all += rows * cols
        const ratio = name.includes('down_proj') ? 0.25 : name.includes('o_proj') ? 0.5 : 0.75
        // The later rules apply to block 0 as well, so only those two of its linears are pruned.
        const dense = name.includes('layers.0') && ratio === 0.75
        expect(mask.linears.has(name)).toBe(!dense)
        if (dense) continue
        const kept = rows * (cols - Math.floor(cols * ratio))
        expect(countBits(mask.linears.get(name)!.bits)).toBe(kept)
        pruned += rows * cols - kept
      }
      expect(outcome.sparsity).toBeCloseTo(pruned / all, 12)
    },
  )

  test('a linear that stays dense after it was pruned counts as changed', async () => {
    const parent = await run('continual-wanda')
    const name = linearName(1, 'mlp.up_proj')
    const outcome = await run('continual-wanda', {
      patterns: { [name]: 'dense' },
      parentMaskPath: parent.maskPath,
    })
    const shapes = linearShapes(tiny.model.config)
    const size = (rows: number, cols: number) => rows * cols
    const all = [...shapes.values()].reduce((sum, shape) => sum + size(...shape), 0)
    expect(outcome.churn).toBeCloseTo(size(...shapes.get(name)!) / 2 / all, 12)
  })
})

test.each(['continual-sparsegpt', 'continual-wanda+swaps', 'continual-wanda+swaps+reconstruct'])(
  'the file of %s does not depend on the number of threads',
  async (method) => {
    expect((await run(method, {}, 3)).maskSha256).toBe((await run(method, {}, 1)).maskSha256)
  },
)

test('a selection that fails leaves no file', async () => {
  const workDir = join(tiny.dir, 'unfinished')
  const name = linearName(1, 'mlp.down_proj')
  await expect(run('no-such-method', { workDir })).rejects.toMatchObject({ param: 'method' })
  await expect(run('copal', { workDir, patterns: { [name]: '3:7' } })).rejects.toMatchObject({
    param: 'patterns',
  })
  await expect(readdir(workDir)).rejects.toMatchObject({ code: 'ENOENT' })
  const stop = new Error('stop')
  await expect(
    calibrateAndSelect(
      tiny.model,
      {
        datasets: [legal],
        accumulated: [sea],
        samples: 5,
        length: 32,
        seed: 7,
        selection: { method: 'copal', pattern: '0.5', scope: 'row' },
        parentMaskPath: null,
        created: '2026-11-25T00:00:00.000Z',
        workDir,
        statisticsDir: statisticsDir(),
      },
      1,
      ({ message }) => {
        if (message.startsWith('selecting')) throw stop
      },
    ),
  ).rejects.toBe(stop)
  expect(await readdir(workDir)).toEqual([])
})

/** Computes `tr(E H Eᵀ)`, where E is the difference to the dense weights. */
function outputError(
  {
    rows,
    cols,
    weights,
    moment,
    tokens,
  }: { rows: number; cols: number; weights: Float32Array; moment: Float64Array; tokens: number },
  kept: Float32Array,
): number {
  let error = 0
  for (let a = 0, at = 0; a < cols; a++) {
    for (let b = a; b < cols; b++, at++) {
      let product = 0
      for (let row = 0; row < rows; row++) {
        const first = row * cols
        product += (weights[first + a]! - kept[first + a]!) * (weights[first + b]! - kept[first + b]!)
      }
      error += (a === b ? 1 : 2) * product * (moment[at]! / tokens)
    }
  }
  return error
}
