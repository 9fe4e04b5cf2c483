import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { checkMask, decodeMask } from '@copal/shared/mask/mask-codec.ts'
import { keptCounts, parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import {
  allocateRatios,
  supportedMethods,
  sensitivityInputs,
  withAllocation,
} from '../../../../gpu-node/src/pruning/selection/allocate-ratios.ts'
import { selectToFile } from '../../../../gpu-node/src/pruning/selection/select-to-file.ts'
import { linearShapes, type LlamaConfig } from '../../../../gpu-node/src/model/config/llama-config.ts'
import {
  layerSensitivityPath,
  type LayerSensitivity,
} from '../../../../gpu-node/src/model/sensitivities/layer-sensitivity.ts'
import {
  encodeRowSensitivity,
  rowSensitivityPath,
} from '../../../../gpu-node/src/model/sensitivities/row-sensitivity.ts'
import { openModel } from '../../../../gpu-node/src/model/open-model.ts'
import { largeConfig } from '../../../../gpu-node/bench/memory/large-llama.ts'
import { layerSensitivityOf, rowSensitivityOf } from '../../../support/models/sensitivities.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

type Linears = LayerSensitivity['linears']

/** The objective of the allocation: each linear's loss, extrapolated from its measured ratio to the ratio of its pattern. */
function modelledLoss(
  shapes: ReturnType<typeof linearShapes>,
  linears: Linears,
  patterns: Record<string, string>,
): number {
  let sum = 0
  for (const [name, [rows, cols]] of shapes) {
    const { ratio, loss } = linears[name]!
    sum += loss * Math.exp(9 * (prunedOf(patterns[name]!, rows, cols) / (rows * cols) - ratio))
  }
  return sum
}

function prunedOf(pattern: string, rows: number, cols: number): number {
  const { groups, size, kept } = keptCounts(parsePattern(pattern), 'row', rows, cols)
  return groups * (size - kept)
}

function totalPruned(shapes: ReturnType<typeof linearShapes>, patternOf: (name: string) => string): number {
  return [...shapes].reduce((sum, [name, [rows, cols]]) => sum + prunedOf(patternOf(name), rows, cols), 0)
}

/** Equal in all blocks except the first two and the last, so that averaging does not change a measured loss. */
function randomLinears(shapes: ReturnType<typeof linearShapes>, layers: number, seed: number): Linears {
  const random = createRandom(seed)
  const byPlace = new Map<string, number>()
  const linears = [...shapes.keys()].map((name) => {
    const [, block = '', linear = ''] = /layers\.(\d+)\.(.*)\.weight$/.exec(name) ?? []
    const layer = Number(block)
    const place = `${layer < 2 || layer === layers - 1 ? layer : 'between'} ${linear}`
    const atHalf = byPlace.get(place) ?? 0.01 * Math.exp(2 * random())
    byPlace.set(place, atHalf)
    const ratio = 0.4 + 0.2 * random()
    return [name, { ratio, loss: atHalf * Math.exp(9 * (ratio - 0.5)) }] as const
  })
  return Object.fromEntries(linears)
}

describe('ratios of single linears', () => {
  const config: LlamaConfig = { ...largeConfig(512, 6), kvHeads: 1 }
  const shapes = linearShapes(config)

  test.each([0.02, 0.3, 0.5, 0.62, 0.7, 0.98])(
    'prune %d of all weights, or more by less than a column',
    (ratio) => {
      const patterns = allocateRatios(shapes, { losses: randomLinears(shapes, 6, 3) }, ratio)
      const wanted = ratio * [...shapes.values()].reduce((sum, [rows, cols]) => sum + rows * cols, 0)
      const pruned = totalPruned(shapes, (name) => patterns[name]!)
      expect(Object.keys(patterns)).toEqual([...shapes.keys()])
      expect(pruned).toBeGreaterThanOrEqual(wanted)
      expect(pruned).toBeLessThan(wanted + Math.max(...[...shapes.values()].map(([rows]) => rows)))
      for (const pattern of Object.values(patterns)) {
        expect(Math.abs((pattern === 'dense' ? 0 : Number(pattern)) - ratio)).toBeLessThan(0.303)
      }
    },
  )

  test('have a lower loss than equal ratios, and than any shift between two linears', () => {
    const linears = randomLinears(shapes, 6, 5)
    const patterns = allocateRatios(shapes, { losses: linears }, 0.5)
    const loss = modelledLoss(shapes, linears, patterns)
    const uniform = Object.fromEntries([...shapes.keys()].map((name) => [name, '0.5']))
    expect(loss).toBeLessThan(0.95 * modelledLoss(shapes, linears, uniform))
    const names = [...shapes.keys()]
    for (const [index, name] of names.entries()) {
      // The same linear of another block has as many weights, so the shift keeps their number.
      const other = names[(index + 7) % names.length]!
      const [more, less] = [Number(patterns[name]) + 0.02, Number(patterns[other]) - 0.02]
      if (more > 0.8 || less < 0.2) continue
      const moved = { ...patterns, [name]: more.toFixed(4), [other]: less.toFixed(4) }
      expect(modelledLoss(shapes, linears, moved)).toBeGreaterThan(loss)
    }
  })

  test.each([0.02, 0.5, 0.98])('keep at least one column of linears with few columns, at %d', (ratio) => {
    const narrow = linearShapes(largeConfig(16, 2))
    for (const [name, pattern] of Object.entries(
      allocateRatios(narrow, { losses: randomLinears(narrow, 2, 9) }, ratio),
    )) {
      if (pattern === 'dense') continue
      const { kept } = keptCounts(parsePattern(pattern), 'row', ...narrow.get(name)!)
      expect(kept).toBeGreaterThan(0)
    }
  })

  test('are equal if all weights have the same cost', () => {
    const linears = Object.fromEntries(
      [...shapes].map(([name, [rows, cols]]) => [name, { ratio: 0.5, loss: rows * cols }]),
    )
    expect(new Set(Object.values(allocateRatios(shapes, { losses: linears }, 0.5)))).toEqual(
      new Set(['0.5000']),
    )
  })

  test('average out noise: each block gets the mean loss of its neighbours', () => {
    const linears = randomLinears(shapes, 6, 7)
    const name = (layer: number) => `model.layers.${layer}.mlp.up_proj.weight`
    const even = allocateRatios(shapes, { losses: linears }, 0.5)
    const by = linears[name(3)]!.loss
    // One measured loss is negative, and another is larger by as much.
    const shifted = { ...linears, [name(3)]: { ...linears[name(3)]!, loss: -0.5 * by } }
    const scale = Math.exp(9 * (linears[name(4)]!.ratio - linears[name(3)]!.ratio))
    shifted[name(4)] = { ...linears[name(4)]!, loss: linears[name(4)]!.loss + 1.5 * by * scale }
    const found = allocateRatios(shapes, { losses: shifted }, 0.5)
    expect(Number(found[name(3)])).toBeCloseTo(Number(even[name(3)]), 2)
    expect(Number(found[name(4)])).toBeCloseTo(Number(even[name(4)]), 2)
  })
})

describe('ratios by row sensitivity', () => {
  const config: LlamaConfig = { ...largeConfig(512, 4), kvHeads: 1 }
  const shapes = linearShapes(config)
  /** Quantiles of a worth that is uniform from `start` on, over `width`. */
  const spread = (start: number, width: number) => ({
    rows: new Float32Array(),
    worth: Array.from({ length: 63 }, (_, k) => start + (width * (k + 1)) / 64),
  })

  test('prune the weights with the lowest worth of all linears, as many as requested', () => {
    const names = [...shapes.keys()]
    const starts = new Map(names.map((name, i) => [name, (i % 5) * 0.3]))
    const rows = Object.fromEntries(names.map((name) => [name, spread(starts.get(name)!, 4)]))
    for (const ratio of [0.3, 0.5, 0.65]) {
      const patterns = allocateRatios(shapes, { rows }, ratio)
      const all = [...shapes.values()].reduce((sum, [r, c]) => sum + r * c, 0)
      const pruned = totalPruned(shapes, (name) => patterns[name]!)
      expect(pruned).toBeGreaterThanOrEqual(ratio * all)
      expect(pruned).toBeLessThan(ratio * all + 512)
      // The marginal worth is the same in all linears, within one column.
      const margins = names.map((name) => starts.get(name)! + 4 * Number(patterns[name]))
      const mean = margins.reduce((sum, margin) => sum + margin, 0) / margins.length
      for (const margin of margins) expect(Math.abs(margin - mean)).toBeLessThan(4 / 64)
    }
  })

  test('differ from the ratio of the model by at most 0.3, also if all weights have the same worth', () => {
    const names = [...shapes.keys()]
    const far = Object.fromEntries(names.map((name, i) => [name, spread(i % 2 ? 100 : 0, 1)]))
    const found = Object.values(allocateRatios(shapes, { rows: far }, 0.5)).map(Number)
    expect(Math.min(...found)).toBeGreaterThanOrEqual(0.19)
    expect(Math.max(...found)).toBeLessThanOrEqual(0.81)
    const flat = Object.fromEntries(names.map((name) => [name, spread(2, 0)]))
    expect(new Set(Object.values(allocateRatios(shapes, { rows: flat }, 0.5)))).toEqual(new Set(['0.5000']))
  })

  test('are averaged with the ratios by losses if both are known', () => {
    const names = [...shapes.keys()]
    const losses = randomLinears(shapes, 4, 1)
    const rows = Object.fromEntries(names.map((name, i) => [name, spread((i % 3) * 0.5, 5)]))
    const [a, b, both] = [{ losses }, { rows }, { losses, rows }].map((costs) =>
      allocateRatios(shapes, costs, 0.5),
    )
    for (const name of names)
      expect(Number(both![name])).toBeCloseTo((Number(a![name]) + Number(b![name])) / 2, 1)
  })
})

describe('a method with +allocated', () => {
  let tiny: TinyModel
  let model: TinyModel['model']
  beforeAll(async () => {
    tiny = await openTinyModel({ layers: 2, intermediateSize: 200 })
    model = { ...tiny.model, layerSensitivity: layerSensitivityOf(tiny.model, [0.4, 0.1]) }
  })
  afterAll(() => tiny.remove())

  test('prunes a block with a lower loss more, in a mask file whose patterns match its bits', async () => {
    const selection = { method: 'magnitude+allocated', pattern: '0.5', scope: 'row' } as const
    const metadata = { domains: [], parent: null, created: '2026-01-01T00:00:00Z' }
    const { path, sparsity } = await selectToFile({
      model,
      artifacts: [],
      selection,
      metadata,
      dir: tiny.dir,
      threads: 1,
    })
    const mask = decodeMask(await readFile(path))
    checkMask(mask, { shapes: linearShapes(model.config), baseSha256: model.master.baseSha256 })
    expect(sparsity).toBeCloseTo(0.5, 2)
    const ratioOf = (layer: number) => Number(mask.meta.patterns[`model.layers.${layer}.mlp.up_proj.weight`])
    // Four times the loss, so the ratios differ by ln 4 / 9.
    expect(ratioOf(1) - ratioOf(0)).toBeCloseTo(Math.log(4) / 9, 1)
  })

  test('keeps the patterns of named linears, and shares the ratio among the others', () => {
    const named = { 'model.layers.0.mlp.down_proj.weight': 'dense' }
    const { patterns = {} } = withAllocation(model, {
      method: 'magnitude+allocated',
      pattern: '0.5',
      scope: 'row',
      patterns: named,
    })
    expect(patterns).toMatchObject(named)
    const others = new Map([...linearShapes(model.config)].filter(([name]) => !(name in named)))
    const pruned = totalPruned(others, (name) => patterns[name]!)
    expect(pruned).toBeGreaterThanOrEqual(totalPruned(others, () => '0.5'))
  })

  test('is an error for n:m, and for a model without sensitivities; the error says what to do', () => {
    const selection = { method: 'continual-wanda+allocated+swaps', pattern: '0.5', scope: 'row' } as const
    expect(() => withAllocation(model, { ...selection, pattern: '2:4' })).toThrow(
      "'continual-wanda+allocated+swaps' allocates a ratio of pruned weights, but the pattern 2:4 is not a ratio. " +
        "Use 'continual-wanda+swaps', or a ratio.",
    )
    expect(() => withAllocation(tiny.model, selection)).toThrow(
      /never measured. Measure it once with npx copal lab sensitivity/,
    )
    expect(supportedMethods(model, true)).toContain('continual-wanda+allocated+swaps')
    expect(supportedMethods(tiny.model, true).filter((name) => name.includes('allocated'))).toEqual([])
  })

  test('a node without the native addon does not offer to round to int4', () => {
    const rounding = (hasAddon: boolean) =>
      supportedMethods(model, hasAddon).filter((name) => name.endsWith('+int4'))
    expect(rounding(true)).toContain('continual-wanda+allocated+swaps+reconstruct+int4')
    expect(rounding(false)).toEqual([])
    expect(supportedMethods(model, false)).toContain('continual-wanda+allocated+swaps+reconstruct')
  })

  test('with +rows, uses the scope matrix, and is an error in the same cases', async () => {
    const selection = { method: 'continual-wanda+rows+swaps', pattern: '0.5', scope: 'row' } as const
    expect(() => withAllocation(model, selection)).toThrow(
      'needs the row sensitivity of this model, which was never measured. Measure it once with ' +
        "npx copal lab row-sensitivity, or use 'continual-wanda+swaps'.",
    )
    const measured = { ...model, rowSensitivity: rowSensitivityOf(tiny.model) }
    expect(withAllocation(measured, selection)).toEqual({ ...selection, scope: 'matrix' })
    expect(() => withAllocation(measured, { ...selection, pattern: '2:4' })).toThrow(
      "Use 'continual-wanda+swaps', or a ratio",
    )
    expect(supportedMethods(model, true).filter((name) => name.includes('+rows'))).toEqual([])
    expect(supportedMethods(measured, true)).toContain('continual-wanda+allocated+rows+swaps')
    const rowsAlone = { ...measured, layerSensitivity: null }
    expect(supportedMethods(rowsAlone, true)).toContain('continual-wanda+allocated+rows+swaps')
    expect(supportedMethods(rowsAlone, true)).not.toContain('continual-wanda+allocated+swaps')
    const { patterns = {}, scope } = withAllocation(rowsAlone, {
      ...selection,
      method: 'magnitude+allocated+rows',
    })
    expect(scope).toBe('matrix')
    const ratioOf = (layer: number) => Number(patterns[`model.layers.${layer}.mlp.up_proj.weight`])
    expect(ratioOf(1)).toBeGreaterThan(ratioOf(0))
    expect(sensitivityInputs('wanda+rows', measured)).not.toEqual(sensitivityInputs('wanda', measured))
    expect(sensitivityInputs('wanda+allocated', measured)).toEqual([model.layerSensitivity])
  })

  test('any other method keeps its patterns', () => {
    const selection = { method: 'continual-wanda+swaps', pattern: '2:4', scope: 'row' } as const
    expect(withAllocation(model, selection)).toBe(selection)
  })

  test('an opened model has its measured sensitivities', async () => {
    const opened = await openModel(`${tiny.dir}/model`, { cacheDir: `${tiny.dir}/cache` })
    expect(opened.layerSensitivity).toBeNull()
    expect(opened.rowSensitivity).toBeNull()
    const cacheDir = `${tiny.dir}/measured`
    const { baseSha256 } = opened.master
    const own = { ...opened, id: 'model' }
    const files = [
      [layerSensitivityPath(cacheDir, baseSha256), JSON.stringify(layerSensitivityOf(own, [1, 2]))],
      [rowSensitivityPath(cacheDir, baseSha256), encodeRowSensitivity(rowSensitivityOf(own))],
    ] as const
    for (const [path, text] of files) {
      await mkdir(dirname(path), { recursive: true })
      await writeFile(path, text)
    }
    const measured = await openModel(`${tiny.dir}/model`, { cacheDir })
    expect(measured.layerSensitivity).toEqual(layerSensitivityOf(own, [1, 2]))
    expect(Object.keys(measured.rowSensitivity?.linears ?? {})).toHaveLength(linearShapes(opened.config).size)
  })
})
