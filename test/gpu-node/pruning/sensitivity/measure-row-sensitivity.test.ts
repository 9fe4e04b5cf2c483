import { readdirSync, readFileSync, writeFileSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { measureRowSensitivity } from '../../../../gpu-node/src/pruning/sensitivity/measure-row-sensitivity.ts'
import { worthQuantiles } from '../../../../gpu-node/src/pruning/selection/share-rows.ts'
import {
  BLOCK_LINEARS,
  linearName,
  linearShapes,
} from '../../../../gpu-node/src/model/config/llama-config.ts'
import {
  encodeRowSensitivity,
  findRowSensitivity,
  rowSensitivityPath,
} from '../../../../gpu-node/src/model/sensitivities/row-sensitivity.ts'
import { referenceBlock, type Matrix } from '../../../support/models/reference-block.ts'
import { logSoftmax, referenceLogits } from '../../../support/models/reference-model.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import type { TinyLlamaOptions } from '../../../support/models/tiny-llama.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

const windows = [Int32Array.of(5, 17, 200, 31, 8, 99), Int32Array.of(250, 3, 3, 60, 42, 11)]

async function measure({ model, dir }: TinyModel, signal = new AbortController().signal) {
  const cacheDir = join(dir, 'cache')
  try {
    return await measureRowSensitivity(model, {
      windows,
      textSha256: 'a'.repeat(64),
      threads: 1,
      cacheDir,
      created: '2026-01-01T00:00:00Z',
      signal,
      onProgress: () => undefined,
    })
  } finally {
    expect(readdirSync(join(cacheDir, 'tmp'))).toEqual([])
  }
}

/** Computes the negative log-likelihood of a window in f64, with output `row` of a linear at one token changed by `step`. */
function lossOf(
  { model, tensors }: TinyModel,
  window: Int32Array,
  name: string,
  token: number,
  row: number,
  step: number,
) {
  const logits = referenceLogits(model.config, tensors, [...window], (linear, outputs) => {
    if (linear === name) outputs[token]![row]! += step
  })
  return logits.slice(0, -1).reduce((sum, of, at) => sum - logSoftmax(of)[window[at + 1]!]!, 0)
}

/** Computes the inputs of every linear for a window. */
function referenceInputs({ model, tensors }: TinyModel, window: Int32Array): Map<string, Matrix> {
  const { config } = model
  const inputs = new Map<string, Matrix>()
  const embedding = tensors.get('model.embed_tokens.weight')!.values
  let hidden: Matrix = [...window].map((token) => [
    ...embedding.subarray(token * config.hiddenSize, (token + 1) * config.hiddenSize),
  ])
  for (let layer = 0; layer < config.layers; layer++) {
    const trace = referenceBlock(config, tensors, layer, hidden)
    for (const linear of BLOCK_LINEARS) inputs.set(linearName(layer, linear), trace.inputs[linear])
    hidden = trace.hidden
  }
  return inputs
}

/** Computes the mean over tokens of the squared derivative, by central differences. */
function byDifferences(tiny: TinyModel, name: string, row: number): number {
  const step = 1e-4
  let sum = 0
  let tokens = 0
  for (const window of windows) {
    for (const token of window.keys()) {
      const above = lossOf(tiny, window, name, token, row, step)
      sum += ((above - lossOf(tiny, window, name, token, row, -step)) / (2 * step)) ** 2
      tokens++
    }
  }
  return sum / tokens
}

describe.each<[string, TinyLlamaOptions]>([
  ['grouped queries, tied head', { layers: 2, heads: 4, kvHeads: 2 }],
  [
    'one key head, a separate head weight, scaled angles',
    {
      layers: 2,
      heads: 3,
      kvHeads: 1,
      headDim: 16,
      hiddenSize: 40,
      tied: false,
      ropeScaling: { type: 'linear', factor: 2 },
    },
  ],
])('the sensitivity of rows: %s', (_, options) => {
  let tiny: TinyModel
  beforeAll(async () => {
    tiny = await openTinyModel(options)
  })
  afterAll(() => tiny.remove())

  test('is the squared derivative of the loss, computed by differences', async () => {
    const { linears, nll_mean: nll } = await measure(tiny)
    const shapes = linearShapes(tiny.model.config)
    expect(Object.keys(linears).toSorted()).toEqual([...shapes.keys()].toSorted())
    for (const [name, [rows]] of shapes) {
      expect(linears[name]!.rows).toHaveLength(rows)
      for (const row of [0, rows - 1]) {
        const expected = byDifferences(tiny, name, row)
        expect(Math.abs(linears[name]!.rows[row]! - expected), `${name} ${row}`).toBeLessThan(
          2e-3 * expected + 1e-12,
        )
      }
    }
    const traced = windows.map((window) => referenceInputs(tiny, window))
    for (const [name, [rows, cols]] of shapes) {
      const norm = new Float64Array(cols)
      for (const inputs of traced) {
        for (const x of inputs.get(name)!)
          for (let col = 0; col < cols; col++) norm[col]! += x[col]! ** 2 / 12
      }
      const weights = Float32Array.from(tiny.tensors.get(name)!.values)
      const sensitivity = linears[name]!.rows
      const expected = worthQuantiles([rows, cols], weights, Float32Array.from(norm), sensitivity)
      for (const [k, value] of linears[name]!.worth.entries()) expect(value).toBeCloseTo(expected[k]!, 3)
    }
    const losses = windows.map((window) => lossOf(tiny, window, '', 0, 0, 0))
    expect(nll).toBeCloseTo(
      losses.reduce((a, b) => a + b, 0) / (windows.length * (windows[0]!.length - 1)),
      4,
    )
  })
})

describe('a measured file', () => {
  let tiny: TinyModel
  beforeAll(async () => {
    tiny = await openTinyModel({ layers: 1 })
  })
  afterAll(() => tiny.remove())

  test('is read as it was written; an error names a damaged file or one of another model', async () => {
    const cacheDir = temporaryDir()
    const { config, master } = tiny.model
    const find = () => findRowSensitivity(cacheDir, config, master.baseSha256)
    expect(await find()).toBeNull()
    const path = rowSensitivityPath(cacheDir, master.baseSha256)
    mkdirSync(dirname(path))
    const measured = await measure(tiny)
    const text = encodeRowSensitivity(measured)
    writeFileSync(path, text)
    const found = await find()
    for (const [of, { rows, worth }] of Object.entries(measured.linears)) {
      expect(found?.linears[of]?.rows).toEqual(rows)
      for (const [k, value] of worth.entries()) expect(found?.linears[of]?.worth[k]).toBeCloseTo(value, 2)
    }
    expect(found && encodeRowSensitivity(found)).toBe(text)
    writeFileSync(path, text.slice(0, 100))
    await expect(find()).rejects.toThrow(`${path} is not the row sensitivity of this model`)
    const [name = ''] = Object.keys(measured.linears)
    const own = measured.linears[name]!
    const bad = [Float32Array.of(1), own.rows.map((value) => -value), own.rows.map(() => NaN)]
    for (const rows of bad) {
      writeFileSync(
        path,
        encodeRowSensitivity({ ...measured, linears: { ...measured.linears, [name]: { ...own, rows } } }),
      )
      await expect(find()).rejects.toThrow('npx copal lab row-sensitivity measures it again')
    }
    expect(readFileSync(path, 'utf8')).toContain(name)
  })

  test('a cancelled measurement leaves no files', async () => {
    await expect(measure(tiny, AbortSignal.abort(new Error('stopped')))).rejects.toThrow('stopped')
  })
})
