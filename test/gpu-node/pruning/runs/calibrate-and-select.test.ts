import { readdir, readFile, rename, truncate, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { decodeMask } from '@copal/shared/mask/mask-codec.ts'
import type { SelectionSpec } from '@copal/shared/wire/selection.ts'
import { loadNativeIfThere } from '../../../../gpu-node/src/platform/native-addon.ts'
import { LINEAR_INPUT } from '../../../../gpu-node/src/pruning/statistics/statistic-names.ts'
import { calibrateAndSelect } from '../../../../gpu-node/src/pruning/runs/calibrate-and-select.ts'
import type { CalibrationTask, DatasetFile } from '../../../../gpu-node/src/pruning/runs/calibration-task.ts'
import { sampleSequences } from '../../../../gpu-node/src/pruning/calibration/token-sequences.ts'
import { accumulateStatistic } from '../../../../gpu-node/src/pruning/statistics/artifact-folder.ts'
import { readDataset } from '../../../../gpu-node/src/pruning/calibration/dataset-text.ts'
import {
  BLOCK_LINEARS,
  linearName,
  linearShape,
  linearShapes,
} from '../../../../gpu-node/src/model/config/llama-config.ts'
import { calibrationTask, type CalibrationTaskOptions } from '../../../support/pruning/calibration-task.ts'
import { writeDataset, writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'
import { storedStatistics, statisticsFolderOf } from '../../../support/pruning/stored-statistics.ts'
import { referenceBlock, type Matrix } from '../../../support/models/reference-block.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { maskChurn } from '../../../support/models/mask-figures.ts'

let tiny: TinyModel
let datasets: DatasetFile[]

beforeAll(async () => {
  tiny = await openTinyModel({ layers: 3, intermediateSize: 96 })
  datasets = await Promise.all(
    ['legal', 'sea', 'legal', 'legal', 'code'].map((domain, index) =>
      writeWordsDataset(tiny.dir, domain, index + 1),
    ),
  )
})

afterAll(() => tiny.remove())

const task = (options: CalibrationTaskOptions = {}) => calibrationTask(tiny.dir, options)

const run = (given: CalibrationTask, messages: string[] = []) =>
  calibrateAndSelect(tiny.model, given, 1, ({ message }) => messages.push(message))

const shapes = () => linearShapes(tiny.model.config)

test('the statistics equal those of an f64 forward pass', async () => {
  // Wide enough that the second moment of down_proj has several panels, of which the last is narrow.
  const wide = await openTinyModel({ layers: 2, intermediateSize: 400 })
  onTestFinished(() => wide.remove())
  const dataset = await writeWordsDataset(tiny.dir, 'legal', 1)
  const given = task({ datasets: [dataset] })
  const { tokens } = await calibrateAndSelect(wide.model, given, 1, () => undefined)
  const { config } = wide.model
  const texts = await readDataset(dataset.path, dataset.sha256)
  const sequences = sampleSequences(texts, wide.model.codec, {
    samples: 5,
    length: 32,
    seed: 7,
    draw: 'stable',
    separator: config.eosTokenIds[0],
  })
  expect(tokens).toEqual([{ sha256: dataset.sha256, tokens: sequences.sequences * 32 }])
  const embedding = wide.tensors.get('model.embed_tokens.weight')!.values
  let batch: Matrix[] = Array.from({ length: sequences.sequences }, (_, sequence) =>
    [...sequences.tokens.subarray(sequence * 32, (sequence + 1) * 32)].map((token) => [
      ...embedding.subarray(token * config.hiddenSize, (token + 1) * config.hiddenSize),
    ]),
  )
  const artifacts = await storedStatistics(given.statisticsDir, wide.model)
  for (let layer = 0; layer < config.layers; layer++) {
    const traces = batch.map((hidden) => referenceBlock(config, wide.tensors, layer, hidden))
    for (const linear of BLOCK_LINEARS) {
      const [rows, cols] = linearShape(config, linear)
      const x = traces.flatMap(({ inputs }) => inputs[linear])
      const y = traces.flatMap(({ outputs }) => outputs[linear])
      const dot = (f: (token: number) => number) => x.reduce((sum, _, token) => sum + f(token), 0)
      const sensitivity = await accumulateStatistic(artifacts, layer, `${linear}.sensitivity`)
      const moment = await accumulateStatistic(artifacts, layer, `${LINEAR_INPUT[linear]}.second_moment`)
      const norm = await accumulateStatistic(artifacts, layer, `${LINEAR_INPUT[linear]}.square_norm`)
      for (let r = 0; r < rows; r += 5) {
        for (let c = 0; c < cols; c += 3) {
          const expected = dot((t) => Math.abs(y[t]![r]!) * Math.abs(x[t]![c]!))
          expect(Math.abs(sensitivity[r * cols + c]! / expected - 1)).toBeLessThan(2e-4)
        }
      }
      for (let a = 0, at = 0; a < cols; a++) {
        const square = dot((t) => x[t]![a]! ** 2)
        expect(Math.abs(norm[a]! / square - 1)).toBeLessThan(2e-4)
        for (let b = a; b < cols; b++, at++) {
          if ((a + b) % 7 !== 0) continue
          const scale = Math.sqrt(square * dot((t) => x[t]![b]! ** 2))
          expect(Math.abs(moment[at]! - dot((t) => x[t]![a]! * x[t]![b]!)) / scale).toBeLessThan(2e-4)
        }
      }
    }
    batch = traces.map(({ hidden }) => hidden)
  }
})

test.each(['0.5', '2:4'])(
  'exchange at %s lowers the error of every linear, and reports it block by block',
  async (pattern) => {
    const messages: string[] = []
    const selection = { method: 'continual-wanda+swaps', pattern, scope: 'row' } as const
    const given = task({ datasets: datasets.slice(0, 2), selection })
    const one = await run(given, messages)
    expect(Object.keys(one.swaps!)).toEqual([...shapes().keys()])
    for (const { before, after } of Object.values(one.swaps!)) expect(after).toBeLessThan(before)
    expect(
      messages.filter((message) =>
        /^exchanging weights, block \d of 3: \d\d % of its output error left$/.test(message),
      ),
    ).toHaveLength(3)
    const three = await calibrateAndSelect(tiny.model, given, 3, () => undefined)
    expect(three.maskSha256).toBe(one.maskSha256)
    expect(three.swaps).toEqual(one.swaps)
  },
)

// Without the addon nothing is rounded to int4.
const rounding = loadNativeIfThere() ? ['continual-wanda+swaps+reconstruct+int4'] : []
test.each([
  'copal',
  'continual-wanda+swaps',
  'continual-sparsegpt',
  'continual-nowag+reconstruct',
  ...rounding,
])(
  'the mask of %s depends neither on the order of datasets nor on which were accumulated before',
  async (method) => {
    const [a, b, c] = datasets as [DatasetFile, DatasetFile, DatasetFile]
    const one = await run(task({ method, datasets: [a, b, c] }))
    const other = await run(task({ method, datasets: [b], accumulated: [c, a] }))
    expect(other.maskSha256).toBe(one.maskSha256)
  },
)

test('statistics on disk are used and not computed again; replaying a task leaves its mask', async () => {
  const [a, b] = datasets as [DatasetFile, DatasetFile]
  const given = task({ datasets: [a] })
  await run(given)
  const messages: string[] = []
  const second = task({ datasets: [b], accumulated: [a], statisticsDir: given.statisticsDir })
  const first = await run(second, messages)
  expect(messages.filter((message) => message.startsWith('calibrating legal'))).toEqual([])
  expect(messages.filter((message) => message.startsWith('calibrating sea'))).toContain(
    'calibrating sea, block 3 of 3',
  )
  messages.length = 0
  const replayed = await run(second, messages)
  expect(messages.filter((message) => message.startsWith('calibrating'))).toEqual([])
  expect(replayed.maskSha256).toBe(first.maskSha256)
  const bySha256 = (one: { sha256: string }, other: { sha256: string }) =>
    one.sha256 < other.sha256 ? -1 : 1
  expect(replayed.tokens.toSorted(bySha256)).toEqual(first.tokens.toSorted(bySha256))
})

test('a weight pruned for one domain returns when a later domain needs it', async () => {
  const [a, b] = datasets as [DatasetFile, DatasetFile]
  const given = task({ datasets: [a] })
  const first = await run(given)
  const second = await run(
    task({
      datasets: [b],
      accumulated: [a],
      statisticsDir: given.statisticsDir,
      parentMaskPath: first.maskPath,
    }),
  )
  const before = decodeMask(await readFile(first.maskPath))
  const after = decodeMask(await readFile(second.maskPath))
  expect(after.meta.parent).toBe(first.maskSha256)
  expect(second.churn).toBe(maskChurn(before, after))
  let returned = 0
  for (const [name, { bits }] of after.linears) {
    const old = before.linears.get(name)!.bits
    bits.forEach((byte, i) => (returned += (byte & ~old[i]!) === 0 ? 0 : 1))
  }
  expect(returned).toBeGreaterThan(0)
})

test('a method that restarts reads only the newest datasets, and keeps the statistics of the others', async () => {
  const [a, b] = datasets as [DatasetFile, DatasetFile]
  const given = task({ datasets: [a] })
  await run(given)
  const { statisticsDir } = given
  const messages: string[] = []
  const restarted = await run(
    task({ method: 'wanda', datasets: [b], accumulated: [a], statisticsDir }),
    messages,
  )
  const alone = await run(task({ method: 'wanda', datasets: [b] }))
  const accumulated = await run(
    task({ method: 'continual-wanda', datasets: [b], accumulated: [a], statisticsDir }),
  )
  const linears = async ({ maskPath }: { maskPath: string }) => decodeMask(await readFile(maskPath)).linears
  expect(restarted.tokens.map(({ sha256 }) => sha256)).toEqual([b.sha256])
  expect(await linears(restarted)).toEqual(await linears(alone))
  expect(await linears(accumulated)).not.toEqual(await linears(alone))
  expect(messages.some((message) => message.startsWith('calibrating legal'))).toBe(false)
  await expect(run(task({ method: 'wanda', accumulated: [a] }))).rejects.toMatchObject({
    code: 'insufficient_samples',
  })
})

test.each(['magnitude', 'wanda'] as const)(
  'a %s update keeps the statistics that a later update reads',
  async (method) => {
    const given = task({ datasets })
    await run(given)
    const [a, ...others] = datasets as [DatasetFile, ...DatasetFile[]]
    await run(task({ method, datasets: [a], accumulated: others, statisticsDir: given.statisticsDir }))
    const messages: string[] = []
    await run(given, messages)
    expect(messages.some((message) => message.startsWith('calibrating'))).toBe(false)
  },
)

test('a pattern that does not divide the columns is an error before any calibration, and names the linear', async () => {
  const messages: string[] = []
  const selection = { method: 'copal', pattern: '3:7', scope: 'row' } as const
  await expect(run(task({ datasets: [datasets[0]!], selection }), messages)).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringMatching(
      /^Linear 'model.layers.0.self_attn.q_proj.weight': \d+ columns are not a multiple of 7/,
    ) as string,
  })
  expect(messages).toEqual([])
})

test('settled datasets of a domain are merged into one artifact without changing the mask', async () => {
  const [a, b, c, d, e] = datasets as [DatasetFile, DatasetFile, DatasetFile, DatasetFile, DatasetFile]
  const given = task({ datasets: [a, b, c, d] })
  await run(given)
  const { statisticsDir } = given
  const settled = task({ datasets: [e], accumulated: [a, b, c, d], statisticsDir })
  const before = await run(settled)
  const artifacts = await storedStatistics(statisticsDir, tiny.model)
  expect(artifacts.map(({ parts }) => parts.map(({ domain }) => domain).join('+')).sort()).toEqual([
    'code',
    'legal+legal+legal',
    'sea',
  ])
  const messages: string[] = []
  const after = await run(settled, messages)
  expect(messages.some((message) => message.startsWith('calibrating'))).toBe(false)
  expect(after.maskSha256).toBe(before.maskSha256)
  expect((await run(task({ datasets }))).maskSha256).toBe(before.maskSha256)
})

test('damaged statistics are detected by their hash and calibrated again', async () => {
  const given = task({ datasets: datasets.slice(0, 2) })
  const clean = await run(given)
  for (const damage of ['flip', 'cut', 'remove'] as const) {
    const [artifact] = await storedStatistics(given.statisticsDir, tiny.model)
    const path = join(artifact!.dir, 'block-0001.safetensors')
    const bytes = await readFile(path)
    if (damage === 'flip') bytes[bytes.length - 100]! ^= 1
    // The last bytes of the file belong to the last tensor by name, the sensitivity of v_proj.
    if (damage === 'flip') await writeFile(path, bytes)
    else await truncate(path, damage === 'cut' ? bytes.length / 2 : 0)
    const messages: string[] = []
    expect((await run(given, messages)).maskSha256).toBe(clean.maskSha256)
    expect(messages.some((message) => message.startsWith('calibrating'))).toBe(true)
  }
})

test('statistics that no task counts any more are removed, except the last two', async () => {
  const given = task({ datasets: [datasets[0]!] })
  for (const dataset of datasets) await run({ ...given, datasets: [dataset] })
  const left = await storedStatistics(given.statisticsDir, tiny.model)
  expect(left).toHaveLength(3)
  const names = await readdir(await statisticsFolderOf(given.statisticsDir, tiny.model))
  expect(names.filter((name) => /^[0-9a-f]{64}$/.test(name))).toHaveLength(3)
})

test('statistics of a model with the same linears but another configuration are stored separately and never added', async () => {
  const [a, b] = datasets as [DatasetFile, DatasetFile]
  const turned = { ...tiny.model, config: { ...tiny.model.config, ropeTheta: 500 } }
  const given = task({ datasets: [a] })
  await run(given)
  const both = task({ datasets: [b], accumulated: [a], statisticsDir: given.statisticsDir })
  const messages: string[] = []
  const { maskSha256 } = await calibrateAndSelect(turned, both, 1, ({ message }) => messages.push(message))
  expect(messages).toContain('calibrating legal, block 3 of 3')
  const alone = task({ datasets: [b], accumulated: [a] })
  expect((await calibrateAndSelect(turned, alone, 1, () => undefined)).maskSha256).toBe(maskSha256)
  expect(await storedStatistics(given.statisticsDir, tiny.model)).toHaveLength(1)
  expect(await storedStatistics(given.statisticsDir, turned)).toHaveLength(2)
})

test('statistics that an older version stored without a folder are used', async () => {
  const given = task({ datasets: [datasets[0]!] })
  const { maskSha256 } = await run(given)
  const folder = await statisticsFolderOf(given.statisticsDir, tiny.model)
  for (const name of await readdir(folder)) await rename(join(folder, name), join(given.statisticsDir, name))
  const messages: string[] = []
  expect((await run(given, messages)).maskSha256).toBe(maskSha256)
  expect(messages.some((message) => message.startsWith('calibrating'))).toBe(false)
  expect(await readdir(given.statisticsDir)).toEqual([basename(folder)])
})

test('too little text is an error that states how much there is and how much is needed', async () => {
  await expect(run(task({ datasets: [datasets[0]!], length: 250 }))).resolves.toBeDefined()
  const short = await writeDataset(tiny.dir, 'short', ['a few words'])
  await expect(run(task({ datasets: [short] }))).rejects.toMatchObject({
    code: 'insufficient_samples',
    message: expect.stringMatching(
      /^Domain 'short': Calibration needs at least 64 tokens .* the 1 sample has \d+\./,
    ) as string,
  })
})

test('a dataset with another hash is an error', async () => {
  const wrong = { ...datasets[0]!, sha256: '0'.repeat(64) }
  await expect(run(task({ datasets: [wrong] }))).rejects.toMatchObject({ code: 'invalid_request' })
})

test('sequences longer than the context are an error', async () => {
  await expect(run(task({ datasets: [datasets[0]!], length: 257 }))).rejects.toMatchObject({
    param: 'length',
  })
})

test('a damaged parent mask is an error', async () => {
  const parentMaskPath = join(tiny.dir, 'damaged.safetensors')
  await writeFile(parentMaskPath, 'x'.repeat(100))
  await expect(run(task({ datasets: [datasets[0]!], parentMaskPath }))).rejects.toMatchObject({
    code: 'mask_invalid',
  })
})

test('rules for single linears are expanded, the last match applies, and one that matches nothing is an error before any calibration', async () => {
  const selection = (patterns: Record<string, string>): SelectionSpec => ({
    method: 'magnitude',
    pattern: '0.5',
    scope: 'row',
    patterns,
  })
  const rules = { '*.down_proj.weight': '2:4', 'model.layers.0.*': 'dense' }
  const { maskPath } = await run(task({ selection: selection(rules) }))
  const mask = decodeMask(new Uint8Array(await readFile(maskPath)))
  const left = BLOCK_LINEARS.map((linear) => [linearName(0, linear), 'dense'])
  const down = [1, 2].map((layer) => [linearName(layer, 'mlp.down_proj'), '2:4'])
  expect(mask.meta.patterns).toEqual(Object.fromEntries([...left, ...down]))

  const refused = task({ datasets: [datasets[0]!], selection: selection({ '*.dwn_proj.weight': 'dense' }) })
  await expect(run(refused)).rejects.toMatchObject({
    code: 'invalid_request',
    param: 'patterns',
    message: expect.stringContaining("No linear of this model matches '*.dwn_proj.weight'."),
  })
  expect(await storedStatistics(refused.statisticsDir, tiny.model)).toEqual([])
})
