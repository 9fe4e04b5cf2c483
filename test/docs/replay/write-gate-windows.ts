/**
 * Writes `docs/results/gate/windows.json`: `node test/docs/replay/write-gate-windows.ts [folder for statistics]`. It selects
 * three masks and evaluates them with the dense model, which takes about half an hour on two processors.
 */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadNative } from '../../../gpu-node/src/platform/native-addon.ts'
import { cutWindows, type TextWindows } from '../../../gpu-node/src/pruning/evaluation/text-windows.ts'
import { createSparseBackend } from '../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'
import { createRandom } from '../../support/harness/random.ts'
import { ROOT, scoreTexts, selectMask, writeDomainDatasets } from './mask-selection.ts'
import { openDefaultModel } from '../../support/models/default-model.ts'

const WINDOW_TOKENS = 512
/** More than the largest holdout has. */
const WINDOWS = 80
/** Tokens of a short text, as long as a message of a chat: log-normal, within bounds. */
const SHORT = { median: 40, spread: 0.7, min: 8, max: 256, texts: 400 }
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

/** Selects a mask; another one of similar quality has other weights of the domains, or other samples. */
function select(name: string, samples: number, weights: Record<string, number>): Promise<string> {
  const print = (message: string) => process.stderr.write(`${name}: ${message}\n`)
  return selectMask(model, { work, datasets, method: METHOD, samples, weights, print })
}

const masks = {
  dense: null,
  parent: await select('parent', 16, {}),
  candidate: await select('candidate', 16, { speech: 4, novel: 3 }),
  refreshed: await select('refreshed', 12, {}),
}
const random = createRandom(21)
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())

/** Cuts a text into texts as long as messages of a chat. */
function cutShort(text: string): TextWindows {
  const tokens = Int32Array.from(model.codec.encodeDocument(text))
  const windows: Int32Array[] = []
  for (let at = 0; windows.length < SHORT.texts;) {
    const drawn = Math.round(SHORT.median * Math.exp(SHORT.spread * normal()))
    const length = Math.min(SHORT.max, Math.max(SHORT.min, drawn)) + 1
    if (at + length > tokens.length) break
    windows.push(tokens.slice(at, at + length))
    at += length
  }
  return { windows }
}

const texts: Record<string, TextWindows> = {}
for (const [name, path] of Object.entries(TEXTS)) {
  const text = readFileSync(join(ROOT, path), 'utf8')
  texts[name] = await cutWindows({ texts: [text] }, model.codec, WINDOW_TOKENS, WINDOWS)
  texts[`short ${name}`] = cutShort(text)
}
const backend = createSparseBackend({ addon: loadNative(), threads: 2, kvTokens: 0, ownTokens: 4096 })
const losses = await scoreTexts(backend, model, masks, texts, 6)
const result = {
  model: model.id,
  method: METHOD,
  pattern: '0.5',
  texts: TEXTS,
  tokens: Object.fromEntries(
    // The first token of a window is context only.
    Object.entries(texts).map(([name, { windows }]) => [name, windows.map(({ length }) => length - 1)]),
  ),
  losses,
}
writeFileSync(join(ROOT, 'docs/results/gate/windows.json'), `${JSON.stringify(result)}\n`)
process.exit(0)
