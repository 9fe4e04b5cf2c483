/**
 * Writes `docs/results/gate/windows.json`: `node test/docs/replay/write-gate-windows.ts [folder for statistics]`. It selects
 * two masks and evaluates them with the dense model, which takes some ten minutes on two processors.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { openModel } from '../../../gpu-node/src/model/open-model.ts'
import { DEFAULT_MODEL } from '../../../gpu-node/src/model/source/resolve-model.ts'
import { loadNative } from '../../../gpu-node/src/platform/native-addon.ts'
import { evaluateWindows } from '../../../gpu-node/src/pruning/evaluation/evaluate-windows.ts'
import { cutWindows } from '../../../gpu-node/src/pruning/evaluation/text-windows.ts'
import { calibrateAndSelect } from '../../../gpu-node/src/pruning/runs/calibrate-and-select.ts'
import { createSparseBackend } from '../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'

const ROOT = resolve(import.meta.dirname, '../../..')
const WINDOW_TOKENS = 512
/** Twice as many as a holdout of the default size has. */
const WINDOWS = 32
const METHOD = 'continual-wanda+allocated+rows+swaps'
const TEXTS = {
  speech: 'test/fixtures/text/speech.evaluation.txt',
  novel: 'test/fixtures/text/novel.evaluation.txt',
  general: 'infra/local/start/texts/general.txt',
}

const work = process.argv[2] ?? mkdtempSync(join(tmpdir(), 'copal-gate-'))
mkdirSync(work, { recursive: true })
const model = await openModel(DEFAULT_MODEL, { cacheDir: join(homedir(), '.cache', 'copal') })
const datasets = ['speech', 'novel'].map((domain) => {
  const text = readFileSync(join(ROOT, `test/fixtures/text/${domain}.calibration.txt`), 'utf8')
  const data = `${JSON.stringify({ text })}\n`
  const sha256 = createHash('sha256').update(data).digest('hex')
  const path = join(work, `${sha256}.ndjson`)
  writeFileSync(path, data)
  return { path, sha256, domain }
})

/** Selects a mask from the same statistics; other weights of the domains give one that is about as good. */
async function select(name: string, weights: Record<string, number>): Promise<string> {
  const task = {
    datasets,
    accumulated: [],
    samples: 16,
    length: 512,
    seed: 0,
    selection: { method: METHOD, pattern: '0.5', scope: 'row' as const, weights },
    parentMaskPath: null,
    created: '2026-11-28T00:00:00.000Z',
    workDir: work,
    statisticsDir: join(work, 'statistics'),
  }
  const { maskPath } = await calibrateAndSelect(model, task, 2, ({ message }) =>
    process.stderr.write(`${name}: ${message}\n`),
  )
  return maskPath
}

const masks = {
  dense: null,
  parent: await select('parent', {}),
  candidate: await select('candidate', { speech: 4, novel: 3 }),
}
const backend = createSparseBackend({ addon: loadNative(), threads: 2, kvTokens: 0, ownTokens: 4096 })
const names = Object.keys(TEXTS) as (keyof typeof TEXTS)[]
const sources = await Promise.all(
  names.map((name) =>
    cutWindows(
      { texts: [readFileSync(join(ROOT, TEXTS[name]), 'utf8')] },
      model.codec,
      WINDOW_TOKENS,
      WINDOWS,
    ),
  ),
)
const losses: Record<string, Record<string, number[]>> = {}
for (const [mask, maskPath] of Object.entries(masks)) {
  losses[mask] = {}
  let text = 0
  for await (const { windowNll } of evaluateWindows(
    backend,
    { model, version: maskPath ? -1 : 0, maskPath },
    sources,
  ))
    losses[mask][names[text++] ?? ''] = windowNll.map((loss) => Number(loss.toFixed(6)))
  process.stderr.write(`evaluated ${mask}\n`)
}
const result = {
  model: model.id,
  method: METHOD,
  pattern: '0.5',
  window_tokens: WINDOW_TOKENS,
  texts: TEXTS,
  losses,
}
writeFileSync(join(ROOT, 'docs/results/gate/windows.json'), `${JSON.stringify(result, null, 1)}\n`)
process.exit(0)
