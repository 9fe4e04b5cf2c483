/**
 * Writes `docs/results/drift/windows.json`: `node test/docs/replay/write-drift-windows.ts [folder for statistics]`. It selects a
 * mask, damages a copy, and scores texts as long as requests are under both and under the dense model, which takes some ten
 * minutes on two processors.
 */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PROBE_TEXTS } from '@copal/shared/probe-texts.ts'
import { decodeMask, encodeMask } from '@copal/shared/mask/mask-codec.ts'
import { loadNative } from '../../../gpu-node/src/platform/native-addon.ts'
import { createSparseBackend } from '../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'
import { createRandom } from '../../support/harness/random.ts'
import { ROOT, scoreTexts, selectMask, writeDomainDatasets } from './mask-selection.ts'
import { openDefaultModel } from '../../support/models/default-model.ts'

const METHOD = 'continual-wanda'
/** Scored tokens of a text: log-normal, within bounds. */
const TOKENS = { median: 40, spread: 0.7, min: 8, max: 256 }
const TEXTS_EACH = 120
/** Every linear of these decoder blocks takes each row's mask from the row before it. */
const DAMAGED_BLOCKS = [7, 19]
const SOURCES = {
  speech: 'test/fixtures/text/speech.evaluation.txt',
  novel: 'test/fixtures/text/novel.evaluation.txt',
  general: 'infra/local/start/texts/general.txt',
}

const work = process.argv[2] ?? mkdtempSync(join(tmpdir(), 'copal-drift-'))
mkdirSync(work, { recursive: true })
const model = await openDefaultModel()
const maskPath = await selectMask(model, {
  work,
  datasets: await writeDomainDatasets(work),
  method: METHOD,
  samples: 8,
  print: (message) => process.stderr.write(`${message}\n`),
})

/** Writes a mask that keeps as many weights of each row, but partly the wrong ones. */
function damage(path: string): string {
  const mask = decodeMask(new Uint8Array(readFileSync(path)))
  const linears = new Map(
    [...mask.linears].map(([name, linear]) => {
      if (!DAMAGED_BLOCKS.some((block) => name.includes(`layers.${block}.`))) return [name, linear]
      const bytes = linear.bits.length / linear.rows
      const bits = new Uint8Array([...linear.bits.subarray(-bytes), ...linear.bits.subarray(0, -bytes)])
      return [name, { ...linear, bits }]
    }),
  )
  const damaged = join(work, 'damaged.mask')
  writeFileSync(damaged, encodeMask({ ...mask, linears }))
  return damaged
}

const random = createRandom(21)
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
const drawWindows = (path: string) => {
  const tokens = Int32Array.from(model.codec.encodeDocument(readFileSync(join(ROOT, path), 'utf8')))
  const windows: Int32Array[] = []
  let at = 0
  while (windows.length < TEXTS_EACH) {
    const drawn = Math.round(TOKENS.median * Math.exp(TOKENS.spread * normal()))
    // The first token is only context.
    const length = Math.min(TOKENS.max, Math.max(TOKENS.min, drawn)) + 1
    if (at + length > tokens.length) break
    windows.push(tokens.slice(at, at + length))
    at += length
  }
  return { windows }
}
const texts = {
  ...Object.fromEntries(Object.entries(SOURCES).map(([name, path]) => [name, drawWindows(path)])),
  // The probe texts are scored as a node scores them: whole.
  probes: { windows: PROBE_TEXTS.map((text) => Int32Array.from(model.codec.encodeDocument(text))) },
}

const backend = createSparseBackend({ addon: loadNative(), threads: 1, kvTokens: 0, ownTokens: 4096 })
const masks = { dense: null, pruned: maskPath, damaged: damage(maskPath) }
const losses = await scoreTexts(backend, model, masks, texts, 4)
const result = {
  model: model.id,
  method: METHOD,
  pattern: '0.5',
  damaged_blocks: DAMAGED_BLOCKS,
  sources: SOURCES,
  tokens: Object.fromEntries(
    Object.entries(texts).map(([name, { windows }]) => [name, windows.map((window) => window.length - 1)]),
  ),
  losses,
}
const folder = join(ROOT, 'docs/results/drift')
mkdirSync(folder, { recursive: true })
writeFileSync(join(folder, 'windows.json'), `${JSON.stringify(result)}\n`)
process.exit(0)
