/**
 * Writes the texts of no domain that every classifier is trained against, `background-texts.json` of the gateway: `node
 * test/docs/replay/write-background-texts.ts`. The default model, with all its weights, continues each of the openings, which
 * takes about two minutes on two processors; the others are excerpts of the bundled general text. Another machine may round
 * otherwise, so that its texts are others. Classifiers are trained anew when the file changes.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { loadNative } from '../../../gpu-node/src/platform/native-addon.ts'
import { createSparseBackend } from '../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'
import { GREEDY } from '../../../gpu-node/src/serving/contract/greedy.ts'
import { createEngine } from '../../../gpu-node/src/serving/engine/engine.ts'
import { openDefaultModel } from '../../support/models/default-model.ts'
import { OPENINGS } from './background-openings.ts'

/** A text has at least as many tokens as a node reads of it, and at most this many more. */
const DESCRIBED_TOKENS = 128
const SPARE_TOKENS = 22
/** A continuation that ends before, or has what is unwanted, is drawn again with the next seed. */
const MAX_ATTEMPTS = 8
/** Links, telephone numbers, and words that nobody wants to meet in the source of a program. */
const UNWANTED = /:\/\/|www\.|\d{3}-\d{3}-\d{4}|massacre|kill|murder|porn|sex/iu
const SAMPLING = { ...GREEDY, temperature: 0.7, topP: 0.95, repetitionPenalty: 1.05 }
const EXCERPTS = 16
const EXCERPT_CHARACTERS = 720

const root = resolve(import.meta.dirname, '../../..')
const model = await openDefaultModel()
const backend = createSparseBackend({ addon: loadNative(), threads: 2 })
const engine = createEngine({ backend, config: model.config, codec: model.codec })
engine.setActive(await backend.load({ model, version: 0, maskPath: null, priority: 'background' }))

const tokensOf = (text: string) => model.codec.encode(text).length

/** Continues an opening until the text is long enough. */
async function continueText(kind: string, opening: string, index: number): Promise<string> {
  const prompt = model.codec.encodeDocument(opening)
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const { events } = engine.generate({
      id: `${kind} ${attempt}`,
      prompt,
      maxTokens: DESCRIBED_TOKENS + SPARE_TOKENS - prompt.length,
      sampling: { ...SAMPLING, seed: index * MAX_ATTEMPTS + attempt },
      stops: [],
      restartable: false,
    })
    let text = opening
    for await (const event of events) if (event.type === 'text') text += event.text
    text = text.replaceAll('\uFFFD', '').trimEnd()
    if (tokensOf(text) >= DESCRIBED_TOKENS && !UNWANTED.test(text)) return text
  }
  throw new Error(`No continuation of '${kind}' is fit for use.`)
}

/** Cuts excerpts out of the bundled text, evenly spread, from the beginning of a paragraph to the end of a word. */
function excerpts(): { kind: string; text: string }[] {
  const general = readFileSync(join(root, 'infra/local/start/texts/general.txt'), 'utf8')
  return Array.from({ length: EXCERPTS }, (_, index) => {
    const start = general.indexOf('\n', Math.floor((general.length * index) / EXCERPTS)) + 1
    const text = general.slice(start, start + EXCERPT_CHARACTERS).trim()
    return { kind: 'bundled', text: text.slice(0, text.lastIndexOf(' ')) }
  })
}

// One after another: what runs beside a sequence may change the rounding of its sums.
const texts: { kind: string; text: string }[] = []
for (const [index, [kind, opening]] of OPENINGS.entries())
  texts.push({ kind, text: await continueText(kind, opening, index) })
texts.push(...excerpts())
const short = texts.filter(({ text }) => tokensOf(text) < DESCRIBED_TOKENS)
if (short.length > 0) throw new Error(`Too short: ${short.map(({ text }) => text).join('\n')}`)
writeFileSync(
  join(root, 'gateway/src/adaptation/discovery/background-texts.json'),
  `${JSON.stringify(texts, null, 1)}\n`,
)
process.exit(0)
