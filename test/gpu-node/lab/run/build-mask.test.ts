import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { checkMask, decodeMask } from '@copal/shared/mask/mask-codec.ts'
import { runCommand } from '../../../../gpu-node/cli/program.ts'
import { calibrateAndSelect } from '../../../../gpu-node/src/pruning/runs/calibrate-and-select.ts'
import {
  UPDATE_DRAW,
  type CalibrationTask,
  type DatasetFile,
} from '../../../../gpu-node/src/pruning/runs/calibration-task.ts'
import { partId } from '../../../../gpu-node/src/pruning/statistics/statistics-artifact.ts'
import { writeFolderModel } from '../../../../gpu-node/lab/run/folder-model.ts'
import { writeResults } from '../../../../gpu-node/lab/results/results-file.ts'
import type { LabResults } from '../../../../gpu-node/lab/results/lab-results.ts'
import { LAB_DRAW } from '../../../../gpu-node/lab/texts/prepare-domains.ts'
import { linearShapes } from '../../../../gpu-node/src/model/config/llama-config.ts'
import type { DenseModel } from '../../../../gpu-node/src/model/master/dense-model.ts'
import { openModel } from '../../../../gpu-node/src/model/open-model.ts'
import { writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'
import { statisticsFolderOf } from '../../../support/pruning/stored-statistics.ts'
import { generatedResults } from '../../../support/pruning/lab-results.ts'
import { recordedTerminal } from '../../../support/doubles/recorded-terminal.ts'
import { createTinyLlama } from '../../../support/models/tiny-llama.ts'
import { maskChurn } from '../../../support/models/mask-figures.ts'

let dir: string
let model: DenseModel
/** Masks of an update of both domains, and of an update of `sea` alone. */
let updates: { both: string; sea: string }
let law: DatasetFile
let sea: DatasetFile

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'copal-build-'))
  await createTinyLlama(join(dir, 'model'))
  await createTinyLlama(join(dir, 'other'), { seed: 2 })
  model = await openModel(join(dir, 'model'), { cacheDir: join(dir, 'cache') })
  law = await writeWordsDataset(dir, 'law', 1)
  sea = await writeWordsDataset(dir, 'sea', 2)
  const update = async (datasets: DatasetFile[], accumulated: DatasetFile[]) =>
    (await calibrate('home', { datasets, accumulated })).maskPath
  updates = { sea: await update([sea], []), both: await update([law], [sea]) }
}, 180_000)

afterAll(() => rmSync(dir, { recursive: true, force: true }))

/** Calibrates like a service whose home is `home`. */
function calibrate(
  home: string,
  {
    datasets,
    accumulated = [],
    seed = 0,
    method = 'continual-wanda+swaps',
  }: Partial<CalibrationTask> & Pick<CalibrationTask, 'datasets'> & { method?: string },
) {
  const task = {
    datasets,
    accumulated,
    samples: 4,
    length: 32,
    seed,
    selection: { method, pattern: '0.5', scope: 'row' as const },
    parentMaskPath: null,
    created: '2026-11-25T00:00:00.000Z',
    workDir: join(dir, home, 'masks'),
    statisticsDir: join(dir, home, 'statistics'),
  }
  return calibrateAndSelect(model, task, 1, () => undefined)
}

/**
 * Creates a laboratory's folder without results, with statistics of an old text, another seed and an old domain name.
 */
async function createLab(): Promise<string> {
  const lab = mkdtempSync(join(dir, 'lab-'))
  const home = basename(lab)
  const former = await writeWordsDataset(dir, 'law', 3)
  // A laboratory stores every statistic, whatever its methods read.
  await calibrate(home, { datasets: [law], seed: 1, method: 'copal' })
  await calibrate(home, { datasets: [law, sea, former], method: 'copal' })
  mkdirSync(join(lab, 'cache'))
  rmSync(join(await statisticsFolderOf(join(lab, 'statistics'), model), 'counted.json'))
  const statistics = join(lab, 'cache', 'statistics')
  renameSync(await statisticsFolderOf(join(lab, 'statistics'), model), statistics)
  giveLabIds(statistics, law, 1)
  for (const dataset of [law, sea, former]) giveLabIds(statistics, dataset, 0)
  return lab
}

/** Renames the statistics of an update as if a laboratory had drawn the same sequences. */
function giveLabIds(statistics: string, { sha256: datasetSha256 }: DatasetFile, seed: number): void {
  const spec = { baseSha256: model.master.baseSha256, datasetSha256, samples: 4, length: 32, seed }
  const [from, to] = [partId({ ...spec, draw: UPDATE_DRAW }), partId({ ...spec, draw: LAB_DRAW })]
  const manifest = join(statistics, from, 'manifest.json')
  writeFileSync(manifest, readFileSync(manifest, 'utf8').replaceAll(from, to))
  renameSync(join(statistics, from), join(statistics, to))
}

/** Results of `law`, and of `sea` under the name `ocean`. */
function resultsOfLab(): LabResults {
  const results = generatedResults()
  const [first, second, ...heldOut] = results.domains
  const calibratedOn = ({ sha256 }: DatasetFile) => ({ path: 'a.txt', sha256, tokens: 128 })
  return {
    ...results,
    settings: { ...results.settings, samples: 4, length: 32, seed: 0 },
    model: { ...results.model, baseSha256: model.master.baseSha256 },
    domains: [
      { ...first!, name: 'law', calibration: calibratedOn(law) },
      { ...second!, name: 'ocean', calibration: calibratedOn(sea) },
      ...heldOut.map((domain) => ({ ...domain, calibration: null })),
    ],
    dense: {},
    runs: [],
  }
}

async function build(...args: string[]) {
  const terminal = recordedTerminal({ cwd: dir, env: { COPAL_CACHE: join(dir, 'cache') } })
  const code = await runCommand(['masks', 'build', '--model', 'model', '--threads', '1', ...args], terminal)
  if (code !== 0) throw new Error(terminal.errors())
  return terminal
}

const read = (name: string) => decodeMask(readFileSync(join(dir, name)))
const fromHome = (...args: string[]) => build('--from-statistics', 'home', '--out', 'm.safetensors', ...args)

test("an update's mask can be selected again from its statistics alone", async () => {
  const terminal = await fromHome('--json')
  const mask = read('m.safetensors')
  checkMask(mask, { baseSha256: model.master.baseSha256, shapes: linearShapes(model.config) })
  expect(maskChurn(mask, decodeMask(readFileSync(updates.both)))).toBe(0)
  expect(mask.meta.domains).toEqual(['law', 'sea'])
  const said = JSON.parse(terminal.output()) as Record<string, unknown>
  expect(said).toMatchObject({
    path: join(dir, 'm.safetensors'),
    sha256: createHash('sha256')
      .update(readFileSync(join(dir, 'm.safetensors')))
      .digest('hex'),
    sparsity: 0.5,
    domains: ['law', 'sea'],
    tokens: 2 * 4 * 32,
  })
  expect(readdirSync(dir).filter((name) => name.startsWith('.copal'))).toEqual([])
})

test('statistics of an update give masks of one domain, other methods and patterns, and weights files', async () => {
  await fromHome('--domains', 'sea')
  expect(maskChurn(read('m.safetensors'), decodeMask(readFileSync(updates.sea)))).toBe(0)
  const terminal = await fromHome('--method', 'continual-sparsegpt', '--pattern', '2:4')
  expect(read('m.safetensors').meta).toMatchObject({ method: 'continual-sparsegpt', pattern: '2:4' })
  for (const { values } of read('m.safetensors').linears.values()) expect(values?.length).toBeGreaterThan(0)
  expect(terminal.output()).toContain('50.0 % pruned, from 256 tokens of law, sea')
})

test('magnitude reads no statistics, and a restarted method needs one named domain', async () => {
  const terminal = await fromHome('--method', 'magnitude@matrix')
  expect(read('m.safetensors').meta).toMatchObject({ scope: 'matrix', domains: [] })
  expect(terminal.output()).toContain('from the weights alone')
  await expect(fromHome('--method', 'wanda')).rejects.toThrow(
    "'wanda' uses the statistics of one domain only, but there are several: law, sea. Choose one with --domains",
  )
  await fromHome('--method', 'wanda', '--domains', 'law')
  expect(read('m.safetensors').meta.domains).toEqual(['law'])
})

test('single linears have patterns of their own or stay dense', async () => {
  writeFileSync(
    join(dir, 'patterns.json'),
    JSON.stringify({ '*.down_proj.weight': '2:4', 'model.layers.0.*': 'dense' }),
  )
  await fromHome(
    '--patterns',
    'patterns.json',
    '--leave-out',
    '*.q_proj.weight',
    '--leave-out',
    '*.k_proj.weight',
  )
  const { linears, meta } = read('m.safetensors')
  expect([...linears.keys()].toSorted()).toEqual(
    ['mlp.down_proj', 'mlp.gate_proj', 'mlp.up_proj', 'self_attn.o_proj', 'self_attn.v_proj'].map(
      (linear) => `model.layers.1.${linear}.weight`,
    ),
  )
  expect(meta.patterns['model.layers.1.mlp.down_proj.weight']).toBe('2:4')
  await expect(fromHome('--leave-out', '*.w_proj.weight')).rejects.toThrow("'*.w_proj.weight'")
  writeFileSync(join(dir, 'patterns.json'), '{')
  await expect(fromHome('--patterns', 'patterns.json')).rejects.toThrow('patterns.json is not JSON')
})

test('statistics of another model are rejected with both hashes, and nothing is written', async () => {
  const other = await openModel(join(dir, 'other'), { cacheDir: join(dir, 'cache') })
  const building = build('--from-statistics', 'home', '--model', 'other', '--out', 'none.safetensors')
  await expect(building).rejects.toThrow(
    `their base is ${model.master.baseSha256}, this model's is ${other.master.baseSha256}`,
  )
  expect(readdirSync(dir)).not.toContain('none.safetensors')
})

test('statistics of a model with the same linears but another configuration are rejected', async () => {
  await createTinyLlama(join(dir, 'turned'))
  const path = join(dir, 'turned', 'config.json')
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), rope_theta: 500 }))
  const building = build('--from-statistics', 'home', '--model', 'turned', '--out', 'none.safetensors')
  await expect(building).rejects.toThrow(
    /statistics in .*home belong to a model with the same linears but another configuration, embedding or tokenizer/,
  )
})

test('statistics of a service that kept no sensitivities are an error for a method that reads them', async () => {
  const building = build('--from-statistics', 'home', '--method', 'copal', '--out', 'none.safetensors')
  await expect(building).rejects.toThrow("'copal' reads sensitivities, which a service keeps only while")
  expect(readdirSync(dir)).not.toContain('none.safetensors')
})

test("a laboratory's results decide which statistics count, and their domain names", async () => {
  const lab = await createLab()
  await writeResults(lab, resultsOfLab())
  const fromLab = (...args: string[]) => build('--from-statistics', lab, '--out', 'm.safetensors', ...args)
  const terminal = await fromLab('--json')
  expect(JSON.parse(terminal.output())).toMatchObject({ domains: ['law', 'ocean'], tokens: 2 * 4 * 32 })
  expect(maskChurn(read('m.safetensors'), decodeMask(readFileSync(updates.both)))).toBe(0)
  await expect(fromLab('--domains', 'sea')).rejects.toThrow("no statistics of a domain 'sea'")
  const results = resultsOfLab()
  results.settings.samples = 64
  await writeResults(lab, results)
  await expect(fromLab()).rejects.toThrow(/no longer has the statistics of its last calibration/)
  await writeFolderModel(lab, { id: 'tiny', identity: 'another' })
  await expect(fromLab()).rejects.toThrow(
    'the same linears but another configuration, embedding or tokenizer',
  )
})

test('without results a domain with several statistics is rejected by name, and a domain with one is used', async () => {
  const lab = await createLab()
  const fromLab = (...args: string[]) => build('--from-statistics', lab, '--out', 'm.safetensors', ...args)
  const text = law.sha256.slice(0, 12)
  const ambiguous = new RegExp(`several statistics of 'law' .*128 tokens of text ${text}`)
  await expect(fromLab()).rejects.toThrow(ambiguous)
  writeFileSync(join(lab, 'results.json'), '{')
  await expect(fromLab()).rejects.toThrow(ambiguous)
  await fromLab('--domains', 'sea')
  expect(maskChurn(read('m.safetensors'), decodeMask(readFileSync(updates.sea)))).toBe(0)
})

test("a service's newest update decides which statistics count, also several of one domain", async () => {
  const more = await writeWordsDataset(dir, 'law', 3)
  const fromSecond = () => build('--from-statistics', 'second', '--out', 'm.safetensors', '--json')
  await calibrate('second', { datasets: [law], seed: 1 })
  await calibrate('second', { datasets: [law, more] })
  expect(JSON.parse((await fromSecond()).output())).toMatchObject({ domains: ['law'], tokens: 2 * 4 * 32 })
  // As after deleting a client's texts from one of them: the other still exists.
  const { maskPath } = await calibrate('second', { datasets: [sea], accumulated: [more] })
  expect(JSON.parse((await fromSecond()).output())).toMatchObject({ domains: ['law', 'sea'] })
  expect(maskChurn(read('m.safetensors'), decodeMask(readFileSync(maskPath)))).toBe(0)
  rmSync(join(await statisticsFolderOf(join(dir, 'second', 'statistics'), model), 'counted.json'))
  await expect(fromSecond()).rejects.toThrow(/second has several statistics of 'law'/)
})

test('an unknown domain and a folder without statistics are rejected', async () => {
  await expect(fromHome('--domains', 'see')).rejects.toThrow(
    /no statistics of a domain 'see'.*Did you mean 'sea'/,
  )
  await expect(build('--from-statistics', 'cache', '--out', 'm.safetensors')).rejects.toThrow(
    /cache has no statistics/,
  )
  await expect(fromHome('--pattern', '5')).rejects.toThrow(/above 0 and below 1/)
})
