/**
 * Writes `docs/results/gate/windows.json`: `node test/docs/replay/write-gate-windows.ts [folder for statistics]`. It selects
 * two masks and evaluates them with the dense model, which takes some ten minutes on two processors.
 */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadNative } from '../../../gpu-node/src/platform/native-addon.ts'
import { cutWindows } from '../../../gpu-node/src/pruning/evaluation/text-windows.ts'
import { createSparseBackend } from '../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'
import { ROOT, scoreTexts, selectMask, writeDomainDatasets } from './mask-selection.ts'
import { openDefaultModel } from '../../support/models/default-model.ts'

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
const model = await openDefaultModel()
const datasets = await writeDomainDatasets(work)

/** Selects a mask from the same statistics; other weights of the domains give one that is about as good. */
function select(name: string, weights: Record<string, number>): Promise<string> {
  const print = (message: string) => process.stderr.write(`${name}: ${message}\n`)
  return selectMask(model, { work, datasets, method: METHOD, samples: 16, weights, print })
}

const masks = {
  dense: null,
  parent: await select('parent', {}),
  candidate: await select('candidate', { speech: 4, novel: 3 }),
}
const backend = createSparseBackend({ addon: loadNative(), threads: 2, kvTokens: 0, ownTokens: 4096 })
const texts = Object.fromEntries(
  await Promise.all(
    Object.entries(TEXTS).map(async ([name, path]) => {
      const text = readFileSync(join(ROOT, path), 'utf8')
      return [name, await cutWindows({ texts: [text] }, model.codec, WINDOW_TOKENS, WINDOWS)] as const
    }),
  ),
)
const losses = await scoreTexts(backend, model, masks, texts, 6)
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
