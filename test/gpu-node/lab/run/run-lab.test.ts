import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { openMaskFile } from '../../../../gpu-node/src/model/mask-file/mask-file-reader.ts'
import { readResults } from '../../../../gpu-node/lab/results/results-file.ts'
import type { LabResults } from '../../../../gpu-node/lab/results/lab-results.ts'
import { planLabRun, runLab, type LabOutcome, type LabPlan } from '../../../../gpu-node/lab/run/run-lab.ts'
import { stopAtProgress } from '../../../support/faults/stop-at-progress.ts'
import { runLabSettings as run } from '../../../support/pruning/run-lab-settings.ts'
import { createLabFolder, type LabFolder } from '../../../support/pruning/lab-folder.ts'

// Each mask is evaluated in its own process, which takes seconds, or a minute on a busy machine.
vi.setConfig({ testTimeout: 600_000 })

const METHODS = ['magnitude', 'wanda', 'copal']

/** Two domains: one mask of each and one of both. */
const TWO = ['law=law.cal.txt:law.eval.txt', 'sea=sea.cal.txt:sea.eval.txt']
const LAW = TWO.slice(0, 1)

let folder: LabFolder

beforeEach(async () => {
  folder = await createLabFolder()
})

const dirOfLaw = mkdtempSync(join(tmpdir(), 'copal-lab-'))
afterAll(() => rmSync(dirOfLaw, { recursive: true, force: true }))
let outcomeOfLaw: LabOutcome | undefined

/** Gives the folder of the test a finished run of copal on `law`. It ran once for all tests, which get copies. */
async function copyRunOfLaw(): Promise<LabOutcome> {
  outcomeOfLaw ??= await run((await createLabFolder({}, dirOfLaw)).settings({ specs: LAW }))
  for (const name of ['cache', 'out'])
    cpSync(join(dirOfLaw, name), join(folder.dir, name), { recursive: true })
  return outcomeOfLaw
}

/** The findings of a run, without times. */
function measured({ runs, dense, domains }: LabResults) {
  return {
    dense,
    domains,
    runs: runs.map(({ stages, ...rest }) => ({
      ...rest,
      stages: stages.map(({ domains: from, sparsity, evaluations }) => ({ from, sparsity, evaluations })),
    })),
  }
}

test('all orders of three domains select each distinct mask once and fill every R matrix; a second run does nothing', async () => {
  const settings = folder.settings({ methods: METHODS, threads: Math.min(2, availableParallelism()) })
  const { results, done } = await run(settings)
  expect(done).toEqual({ calibrated: 3, selected: 7 + 3 + 1, evaluated: 4 + (12 + 1) + 3 * 4 + 4 })
  expect(results.incomplete).toEqual([])
  expect(results.permutations).toHaveLength(6)
  expect(await readResults(settings.outDir)).toEqual(results)
  expect(Object.keys(results.dense).toSorted()).toEqual(['code', 'law', 'mail', 'sea'])
  for (const { method, matrices, stages, summary } of results.runs) {
    expect(matrices).toHaveLength(6)
    for (const { order, R, churn } of matrices) {
      expect(churn).toHaveLength(2)
      for (const [stage, row] of R.entries()) {
        for (const [position, perplexity] of row.entries()) {
          const { evaluations } = stages.find(({ domains }) =>
            method === 'copal'
              ? domains.join() ===
                order
                  .slice(0, stage + 1)
                  .toSorted()
                  .join()
              : domains.join() === (method === 'wanda' ? order[stage] : ''),
          )!
          expect(perplexity).toBe(position > stage ? null : evaluations[order[position]!]!.perplexity)
        }
      }
    }
    expect(summary!.weightStasis).toBe(method === 'magnitude')
    expect(stages.some(({ evaluations }) => evaluations['mail'])).toBe(true)
    for (const stage of stages) expect(stage.sparsity).toBeCloseTo(0.5, 6)
  }
  const read = results.domains.map(({ evaluation }) => evaluation.windowsSha256)
  expect(new Set(read).size).toBe(4)
  const { windowNll, nllMean, tokens } = results.dense['law']!
  expect(windowNll).toHaveLength(3)
  expect(tokens).toBe(3 * 47)
  expect(windowNll.reduce((sum, nll) => sum + nll, 0) / 3).toBeCloseTo(nllMean, 10)

  // The same run again does nothing and writes the same file.
  const before = readFileSync(join(settings.outDir, 'results.json'))
  expect((await run(settings)).done).toEqual({ calibrated: 0, selected: 0, evaluated: 0 })
  expect(readFileSync(join(settings.outDir, 'results.json'))).toEqual(before)
})

test('adding a method or pattern does only the new work', async () => {
  await copyRunOfLaw()
  const withMethod = await run(folder.settings({ specs: LAW, methods: ['copal', 'wanda'] }))
  expect(withMethod.done).toEqual({ calibrated: 0, selected: 1, evaluated: 1 })
  const withPattern = await run(folder.settings({ specs: LAW, patterns: ['0.5', '2:4'] }))
  expect(withPattern.done).toEqual({ calibrated: 0, selected: 1, evaluated: 1 })
})

test('patterns of single linears are in masks, cache keys and results, and equivalent rules find them again', async () => {
  const Q = 'model.layers.0.self_attn.q_proj.weight'
  const plain = folder.settings({ specs: LAW })
  const first = await copyRunOfLaw()
  const patternRules = { '*.q_proj.weight': '0.3', 'model.layers.0.*': 'dense' }
  const ruled = await run({ ...plain, patternRules })
  expect(ruled.done).toEqual({ calibrated: 0, selected: 1, evaluated: 1 })
  expect(ruled.results.settings.patternRules).toEqual(patternRules)
  const [stage] = ruled.results.runs[0]!.stages
  const mask = openMaskFile(join(plain.outDir, 'cache', 'masks', `${stage!.maskSha256}.safetensors`))
  const { meta, linears } = mask.header
  mask.close()
  expect(meta.patterns).toMatchObject({ [Q]: 'dense', [Q.replace('0', '1')]: '0.3' })
  expect(linears.has(Q)).toBe(false)
  expect(stage!.sparsity).toBeLessThan(0.3)
  const { 'model.layers.0.*': dense, ...others } = patternRules
  const respelt = { ...others, 'model.layers.0.s*': dense, 'model.layers.0.m*': dense }
  expect((await run({ ...plain, patternRules: respelt })).done.selected).toBe(0)
  const again = await run(plain)
  expect(again.done).toEqual({ calibrated: 0, selected: 0, evaluated: 0 })
  expect(again.results.settings).toEqual(first.results.settings)
  expect(measured(again.results)).toEqual(measured(first.results))
})

test('with pruned propagation single linears keep their patterns, and statistics of other rules are not reused', async () => {
  const settings = folder.settings({ specs: LAW, propagation: 'pruned' })
  const [plain, ruled] = [await run(settings), await run({ ...settings, patternRules: { '*.0.*': 'dense' } })]
  expect([plain.done.calibrated, ruled.done.calibrated]).toEqual([1, 1])
  expect(ruled.results.runs[0]!.stages[0]!.sparsity).toBeLessThan(0.3)
})

test('adding a domain or using fewer windows does only the new work', async () => {
  await copyRunOfLaw()
  const withHeldOut = await run(folder.settings({ specs: [...LAW, 'mail=:mail.eval.txt'] }))
  expect(withHeldOut.done).toEqual({ calibrated: 0, selected: 0, evaluated: 2 })
  const withDomain = await run(folder.settings({ specs: TWO }))
  expect(withDomain.done).toEqual({ calibrated: 1, selected: 2, evaluated: 1 + 1 + 2 })
  const withWindows = await run(folder.settings({ specs: LAW, maxWindows: 2 }))
  expect(withWindows.done).toEqual({ calibrated: 0, selected: 0, evaluated: 2 })
})

test('progress ends at 1 even when work is much faster than estimated', async () => {
  await copyRunOfLaw()
  const rates = join(folder.dir, 'out', 'cache', 'rates')
  for (const name of readdirSync(rates)) {
    const kept = readFileSync(join(rates, name), 'utf8')
    writeFileSync(join(rates, name), kept.replace(/"evaluateToken": ?[\d.e-]+/, '"evaluateToken":100'))
  }
  const told: number[] = []
  await run(folder.settings({ specs: TWO }), undefined, (_, fraction, label) => {
    if (label === 'Laboratory') told.push(fraction)
  })
  expect(told).toEqual(told.toSorted((a, b) => a - b))
  expect(told.at(-1)).toBeCloseTo(1, 6)
})

test('sweeps share masks with the main runs and hold only fully accumulated stages', async () => {
  const { results, done } = await run(
    folder.settings({
      specs: TWO,
      methods: ['wanda', 'copal'],
      permutations: 'first',
      maxWindows: 1,
      sweepSparsity: ['0.3', '0.5'],
      sweepSamples: [2, 4],
    }),
  )
  const of = (purpose: string) => results.runs.filter((one) => one.purpose === purpose)
  expect(of('sparsity-sweep').map(({ method, pattern, stages }) => [method, pattern, stages.length])).toEqual(
    [
      ['wanda', '0.3', 2],
      ['copal', '0.3', 1],
      ['wanda', '0.5', 2],
      ['copal', '0.5', 1],
    ],
  )
  expect(of('sample-sweep').map(({ method, samples, stages }) => [method, samples, stages.length])).toEqual([
    ['wanda', 2, 2],
    ['copal', 2, 1],
    ['wanda', 4, 2],
    ['copal', 4, 1],
  ])
  const [main, swept] = [...of('main'), ...of('sparsity-sweep')].filter(
    ({ method, pattern }) => method === 'copal' && pattern === '0.5',
  )
  expect(main!.stages.map(({ maskSha256 }) => maskSha256)).toContain(swept!.stages[0]!.maskSha256)
  // At 0.5, and with four samples, the masks are those of the main runs.
  expect(done).toMatchObject({ calibrated: 4, selected: 2 + 2 + (2 + 1) + (2 + 1) })
})

test('with pruned propagation every prefix of an order has its mask, and statistics are removed when all are selected', async () => {
  const settings = folder.settings({
    specs: TWO,
    methods: ['copal', 'wanda'],
    propagation: 'pruned',
    maxWindows: 1,
  })
  const plan = await planLabRun(settings, { signal: new AbortController().signal })
  // Both orders of copal, and each domain alone of wanda.
  expect(plan).toMatchObject({ masks: 4 + 2, calibrations: 4 + 2 })
  const { results, done } = await run(settings)
  expect(done).toMatchObject({ calibrated: 4 + 2, selected: 4 + 2 })
  expect(results.settings.propagation).toBe('pruned')
  const [copal] = results.runs
  expect(copal!.stages.map(({ domains }) => domains.join()).toSorted()).toEqual([
    'law',
    'law,sea',
    'sea',
    'sea,law',
  ])
  const [forth, back] = ['law,sea', 'sea,law'].map((order) =>
    copal!.stages.find(({ domains }) => domains.join() === order),
  )
  expect(forth!.maskSha256).not.toBe(back!.maskSha256)
  expect(copal!.matrices.map(({ R }) => R.flat().filter((cell) => cell !== null).length)).toEqual([3, 3])
  expect(copal!.summary).not.toBeNull()
  const left = join(settings.outDir, 'cache', 'statistics-pruned')
  expect(existsSync(left)).toBe(false)
  // Left by a stopped run with another pattern.
  mkdirSync(join(left, 'other'), { recursive: true })
  expect((await run(settings)).done).toEqual({ calibrated: 0, selected: 0, evaluated: 0 })
  expect(existsSync(left)).toBe(false)
})

test('a run killed during a calibration resumes at the unfinished block, to the same result', async () => {
  folder = await createLabFolder({ layers: 6 })
  const settings = folder.settings({ specs: TWO, permutations: 'first' })
  const whole = await run({ ...settings, outDir: join(folder.dir, 'whole') })
  const abort = new AbortController()
  onTestFinished(() => void vi.unstubAllEnvs())
  // The child process waits there, however late the message is read.
  for (const [name, value] of Object.entries(stopAtProgress('calibrating sea, block 3 of 6')))
    vi.stubEnv(name, value)
  const stopped = run(settings, abort, (message) => {
    if (message.startsWith('calibrating sea, block 3 of 6')) abort.abort(new Error('stopped here'))
  })
  await expect(stopped).rejects.toThrow('stopped here')
  vi.unstubAllEnvs()
  const partials = join(settings.outDir, 'cache', 'statistics', 'partial')
  // Left by other settings.
  mkdirSync(join(partials, 'another~gone~1'))
  const messages: string[] = []
  const { done, results } = await run(settings, undefined, (message) => messages.push(message))
  expect(readdirSync(partials)).toEqual([])
  expect(messages.some((message) => message.startsWith('calibrating law'))).toBe(false)
  expect(messages.find((message) => message.startsWith('calibrating sea'))).toMatch(/block [3-6] of 6/)
  expect(done).toMatchObject({ calibrated: 1 })
  expect(measured(results)).toEqual(measured(whole.results))
})

test('a run stopped between stages leaves partial results that list what is missing', async () => {
  const settings = folder.settings({ methods: METHODS, specs: TWO })
  const abort = new AbortController()
  const stopped = run(settings, abort, (message) => {
    if (message.startsWith('wanda at 50 % unstructured after sea')) abort.abort(new Error('stopped here'))
  })
  await expect(stopped).rejects.toThrow('stopped here')
  const partial = await readResults(settings.outDir)
  expect(partial.runs.map(({ method, summary }) => [method, summary === null])).toEqual([
    ['magnitude', false],
    ['wanda', true],
  ])
  expect(partial.incomplete).toEqual([
    'wanda at 50 % unstructured: 1 of 2 masks',
    'copal at 50 % unstructured: 3 of 3 masks',
  ])
  const { done, results } = await run(settings)
  // The mask that was being evaluated was selected.
  expect(done).toMatchObject({ calibrated: 0, selected: 3 })
  expect(results.incomplete).toEqual([])
  expect(results.created).toBe(partial.created)
  expect(results.timedOn).toEqual([{ cpu: expect.any(String), threads: settings.threads }])
})

test('damaged statistics and deleted masks are made again, with the same hashes', async () => {
  const settings = folder.settings({ specs: TWO, permutations: 'first' })
  const { results } = await run(settings)
  const statistics = join(settings.outDir, 'cache', 'statistics')
  const [part] = readdirSync(statistics).filter((name) => /^[0-9a-f]{64}$/.test(name))
  const block = join(statistics, part!, 'block-0001.safetensors')
  truncateSync(block, statSync(block).size - 100)
  rmSync(join(settings.outDir, 'cache', 'masks'), { recursive: true })
  const again = await run({ ...settings, windowTokens: 40 })
  expect(again.done).toMatchObject({ calibrated: 1, selected: 2 })
  expect(again.results.runs[0]!.stages.map(({ maskSha256 }) => maskSha256)).toEqual(
    results.runs[0]!.stages.map(({ maskSha256 }) => maskSha256),
  )
})

test('a folder in use is rejected with the process that uses it; the lock of a dead process is taken over', async () => {
  const settings = folder.settings({ specs: LAW })
  let second: Promise<unknown> | undefined
  await run(settings, undefined, (message) => {
    second ??= message.startsWith('calibrating') ? run(settings).catch((error: unknown) => error) : undefined
  })
  expect(await second).toMatchObject({
    code: 'conflict',
    message: expect.stringContaining(`pid ${process.pid}`) as string,
  })
  writeFileSync(join(settings.outDir, 'running.json'), JSON.stringify({ pid: 2 ** 22 + 1, startTicks: '1' }))
  expect((await run(settings)).done).toMatchObject({ evaluated: 0 })
  expect(readdirSync(settings.outDir)).not.toContain('running.json')
})

test('a folder belongs to its first model: the same linears in another configuration are rejected', async () => {
  const settings = folder.settings({ specs: LAW, methods: ['magnitude'], maxWindows: 1 })
  const hooks = { signal: new AbortController().signal }
  const path = join(folder.dir, 'model', 'config.json')
  const config = JSON.parse(readFileSync(path, 'utf8')) as object
  const configure = (changed: object) => writeFileSync(path, JSON.stringify({ ...config, ...changed }))
  configure({ rope_theta: 500 })
  await planLabRun(settings, hooks)
  // A plan records no model, because it has measured nothing.
  configure({})
  const { results } = await run(settings)
  expect((await run(settings)).results.created).toBe(results.created)
  expect((await run({ ...settings, seed: 8 })).results.created).not.toBe(results.created)
  configure({ rope_theta: 500 })
  await expect(run(settings)).rejects.toThrow(
    /results in .*out belong to a model \('model'\) whose weights, configuration, embedding or tokenizer differ .* Choose another --out/,
  )
  const other = await run({ ...settings, outDir: join(folder.dir, 'other') })
  expect(other.results.model.baseSha256).toBe(results.model.baseSha256)
  expect(other.results.dense['law']!.perplexity).not.toBe(results.dense['law']!.perplexity)
  configure({ max_position_embeddings: 512 })
  expect((await run(settings)).done).toMatchObject({ selected: 0, evaluated: 0 })
  // A folder of an older version does not record its model.
  rmSync(join(settings.outDir, 'cache', 'model.json'))
  configure({})
  expect((await run(settings)).done).toMatchObject({ selected: 0, evaluated: 0 })
  expect(readdirSync(join(settings.outDir, 'cache'))).toContain('model.json')
})

test('plan and estimate come before the work; a dry run does no work', async () => {
  const settings = folder.settings({ methods: METHODS, specs: TWO })
  const hooks = { signal: new AbortController().signal }
  const plan = await planLabRun(settings, hooks)
  expect(plan).toMatchObject({ masks: 6, masksToSelect: 6, calibrations: 2, evaluations: 7 })
  expect(plan.estimate.seconds.calibrate).toBeGreaterThan(0)
  expect(plan.estimate.seconds.evaluate).toBeGreaterThan(0)
  expect(plan.estimate.guessed).toEqual(METHODS)
  expect(existsSync(settings.outDir)).toBe(false)
  let planned: LabPlan | undefined
  const short = folder.settings({ methods: METHODS, specs: LAW, maxWindows: 1 })
  await runLab(short, { ...hooks, onPlan: (given) => (planned = given) })
  expect(planned).toMatchObject({ masks: 3, masksToSelect: 3, calibrations: 1, evaluations: 4 })
  const after = await planLabRun(short, hooks)
  expect(after).toMatchObject({ masks: 3, masksToSelect: 0, calibrations: 0, evaluations: 0 })
  expect(after.estimate.seconds.total).toBe(0)
})

test('text used for both calibration and evaluation causes a warning', async () => {
  cpSync(join(folder.dir, 'law.cal.txt'), join(folder.dir, 'same.txt'))
  writeFileSync(
    join(folder.dir, 'quotes.txt'),
    `${readFileSync(join(folder.dir, 'sea.cal.txt'), 'utf8')} ${readFileSync(join(folder.dir, 'sea.eval.txt'), 'utf8')}`,
  )
  const warnings: string[] = []
  const specs = [
    'law=law.cal.txt:same.txt',
    'sea=sea.cal.txt:sea.eval.txt',
    'quotes=:quotes.txt',
    'twin=sea.cal.txt:law.eval.txt',
  ]
  await planLabRun(folder.settings({ specs, samples: 40 }), {
    signal: new AbortController().signal,
    onWarning: (warning) => warnings.push(warning),
  })
  expect(warnings).toEqual([
    expect.stringMatching(/^'law': calibration and evaluation text are the same file/),
    expect.stringMatching(
      /^'quotes', against the calibration text of 'sea': \d+\.\d % of the evaluation text/,
    ),
    "'twin' and 'sea' have the same calibration text, which counts only once.",
    expect.stringMatching(/^'quotes', against the calibration text of 'twin'/),
  ])
})
