/**
 * Writes `docs/results/domains/replay.json`: `node test/docs/replay/write-domain-replay.ts FOLDER`, with the folder of
 * `write-domain-prompts.ts`.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { classify } from '../../../gateway/src/adaptation/discovery/classify.ts'
import { encodeClassifier } from '../../../gateway/src/adaptation/discovery/classifier-codec.ts'
import { clusterTexts } from '../../../gateway/src/adaptation/discovery/cluster-texts.ts'
import { trainClassifier } from '../../../gateway/src/adaptation/discovery/train-classifier.ts'
import backgroundTexts from '../../../gateway/src/adaptation/discovery/background-texts.json' with { type: 'json' }
import { BACKGROUND_FILE, decodeEmbedding, LENGTHS, type PromptFile } from './domain-prompts.ts'

const LABELLED = 20
const HELD_OUT = 50
/** Every third training prompt, 20 where there are 60; the manual has 54 and so 18. */
const DRAWS = [0, 1, 2]
const SETS = [
  { known: ['code', 'mail', 'news', 'manual'], unknown: ['speech', 'fiction', 'novel', 'licence'] },
  { known: ['code', 'manual', 'speech', 'novel'], unknown: ['licence', 'mail', 'news', 'fiction'] },
]
const folder = resolve(process.argv[2] ?? '.')

const encoded = JSON.parse(readFileSync(join(folder, BACKGROUND_FILE), 'utf8')) as string[]
const background = {
  version: 'shipped',
  texts: backgroundTexts.map(({ text }, index) => ({
    text,
    embedding: decodeEmbedding(encoded[index] ?? ''),
  })),
}

function promptsOf(kind: string, length: number, side: 'training' | 'held_out') {
  const file = JSON.parse(readFileSync(join(folder, `${kind}.json`), 'utf8')) as PromptFile
  const at = LENGTHS.findIndex((tokens) => tokens === length)
  return file.prompts
    .filter((prompt) => prompt.side === side)
    .map(({ texts, embeddings }) => ({
      domain: kind,
      tokens: length,
      text: texts[at] ?? '',
      embedding: decodeEmbedding(embeddings[at] ?? ''),
    }))
}

const rounded = (value: number) => Number(value.toFixed(4))
const share = <T>(items: readonly T[], is: (item: T) => boolean) =>
  rounded(items.filter(is).length / items.length)

const cases = SETS.flatMap(({ known, unknown }) =>
  LENGTHS.map((length) => {
    const heldOut = known.flatMap((kind) => promptsOf(kind, length, 'held_out').slice(0, HELD_OUT))
    const others = unknown.map((kind) => promptsOf(kind, length, 'held_out'))
    const draws = DRAWS.map((draw) => {
      const training = known.flatMap((kind) =>
        promptsOf(kind, length, 'training').filter((_, index) => index % DRAWS.length === draw),
      )
      const classifier = { ...trainClassifier(training, background), minTokens: 0 }
      const found = heldOut.map((text) => ({ ...text, found: classify(classifier, text) }))
      return {
        labelled: training.length,
        stored_bytes: encodeClassifier(classifier).length,
        right: share(found, ({ domain, found: one }) => 'domain' in one && one.domain === domain),
        // The domain that is nearest counts, also of those that are rejected.
        nearest: share(
          found,
          ({ domain, found: one }) => ('domain' in one ? one.domain : one.nearest) === domain,
        ),
        rejected: share(found, ({ found: one }) => 'rejected' in one),
        unknown_rejected: Object.fromEntries(
          others.map((texts, at) => [
            unknown[at],
            share(texts, (text) => 'rejected' in classify(classifier, text)),
          ]),
        ),
      }
    })
    const clusters = clusterTexts(heldOut)
    const assigned = clusters.reduce((sum, { members }) => sum + members.length, 0)
    const ofLargestKind = clusters.reduce((sum, { members }) => {
      const kinds = Map.groupBy(members, (index) => heldOut[index]?.domain)
      return sum + Math.max(...[...kinds.values()].map((own) => own.length))
    }, 0)
    return {
      known,
      tokens: length,
      held_out: heldOut.length,
      draws,
      clusters: clusters.map(({ name, members }) => ({ name, texts: members.length })),
      purity: rounded(ofLargestKind / assigned),
      unassigned: heldOut.length - assigned,
    }
  }),
)
const target = resolve(import.meta.dirname, '../../../docs/results/domains')
mkdirSync(target, { recursive: true })
writeFileSync(
  join(target, 'replay.json'),
  `${JSON.stringify({ labelled_a_domain: LABELLED, cases }, null, 1)}\n`,
)
