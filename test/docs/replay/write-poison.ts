/**
 * Writes `docs/results/poison/poison.json`: `node test/docs/replay/write-poison.ts [folder for statistics] [number of draws]`.
 * It draws the texts of an update by the code of the reservoir, selects a mask from them, and evaluates it on held-out text of
 * the domain: for each draw of ordinary traffic once without poison, and once with each kind of it.
 */
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadNative } from '../../../gpu-node/src/platform/native-addon.ts'
import { evaluateWindows } from '../../../gpu-node/src/pruning/evaluation/evaluate-windows.ts'
import { cutWindows } from '../../../gpu-node/src/pruning/evaluation/text-windows.ts'
import { createSparseBackend } from '../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'
import { ROOT, selectMask } from './mask-selection.ts'
import {
  assignKeys,
  ordinaryTexts,
  poisonCount,
  poisonShare,
  poisonTexts,
  takenTexts,
  SAMPLES,
  type Poison,
  type Request,
  type Sender,
} from './poison-traffic.ts'
import { openDefaultModel } from '../../support/models/default-model.ts'

const METHOD = 'continual-wanda+swaps'
const WINDOW_TOKENS = 512
const WINDOWS = 16
/** Maximum draws of the kinds of poison after the first group. */
const MAX_OTHER_DRAWS = 5
/** As many tokens of a text as a node describes. */
const DESCRIBED_TOKENS = 128

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const work = process.argv[2] ?? mkdtempSync(join(tmpdir(), 'copal-poison-'))
const draws = Number(process.argv[3] ?? 6)
mkdirSync(work, { recursive: true })
const model = await openDefaultModel()
const backend = createSparseBackend({ addon: loadNative(), threads: 2, kvTokens: 0, ownTokens: 4096 })

/** Returns known values by a key. They are in a file, so that a run can be continued. */
function openCache(name: string): { get(key: string, compute: () => Promise<number>): Promise<number> } {
  const path = join(work, name)
  const known = new Map<string, number>(
    existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as [string, number][]) : [],
  )
  return {
    async get(key, compute) {
      const value = known.get(key) ?? (await compute())
      if (known.has(key)) return value
      known.set(key, value)
      writeFileSync(path, JSON.stringify([...known]))
      return value
    },
  }
}
const losses = openCache('losses.json')
const perplexities = openCache('perplexities.json')
const hashOf = (text: string) => createHash('sha256').update(text).digest('hex')

/** Returns the mean dense loss of the beginning of each text. */
async function describe(texts: readonly string[]): Promise<number[]> {
  const described: number[] = []
  for (const text of texts) {
    described.push(
      await losses.get(hashOf(text), async () => {
        const windows = await cutWindows({ texts: [text] }, model.codec, DESCRIBED_TOKENS, 1)
        for await (const { nllMean } of evaluateWindows(backend, { model, version: 0, maskPath: null }, [
          windows,
        ]))
          return nllMean
        throw new Error('nothing was evaluated')
      }),
    )
  }
  return described
}

/** Selects a mask from texts, and returns its perplexity on held-out text. */
async function perplexityFrom(texts: readonly Request[]): Promise<number> {
  const data = texts.map(({ text }) => `${JSON.stringify({ text })}\n`).join('')
  const sha256 = hashOf(data)
  return perplexities.get(sha256, async () => {
    const path = join(work, `${sha256}.ndjson`)
    writeFileSync(path, data)
    const datasets = [{ path, sha256, domain: 'novel' }]
    return evaluate(await selectMask(model, { work, datasets, method: METHOD, samples: SAMPLES }))
  })
}

async function evaluate(maskPath: string | null): Promise<number> {
  const source = await cutWindows(
    { texts: [read('test/fixtures/text/novel.evaluation.txt')] },
    model.codec,
    WINDOW_TOKENS,
    WINDOWS,
  )
  const weights = { model, version: maskPath ? -1 : 0, maskPath }
  for await (const { perplexity } of evaluateWindows(backend, weights, [source]))
    return Number(perplexity.toFixed(4))
  throw new Error('nothing was evaluated')
}

/** Returns the sentences of a package's translations. */
function translations(languages: readonly string[]): string {
  const sentences = languages.flatMap((language) => {
    const found: string[] = []
    JSON.parse(read(`node_modules/axe-core/locales/${language}.json`), (_, value: unknown) => {
      if (typeof value === 'string' && value.length > 20) found.push(value)
      return value
    })
    return found
  })
  return sentences.join('\n')
}

const domain = read('test/fixtures/text/novel.calibration.txt')
const sources = {
  tokens: Array.from({ length: 40_000 }, (_, id) =>
    new TextDecoder().decode(model.codec.tokenBytes(id + 256)),
  ),
  domain,
  prose: read('test/fixtures/text/speech.calibration.txt') + read('infra/local/start/texts/general.txt'),
  code: read('node_modules/axe-core/axe.js'),
  language: translations(['de', 'fr', 'es', 'it', 'pl']),
  script: translations(['zh_CN', 'zh_TW', 'ja', 'ko']),
}

/** The result of one draw of the update's texts. */
interface Draw {
  draw: number
  /** Share of the poison in the bytes, and in the tokens, that the update takes. */
  share: number
  token_share: number
  /** Texts that were set aside for review. */
  review: number
  perplexity: number
}

interface Row {
  poison: Poison | null
  sender: Sender | null
  /** Share of the poison in the requests. */
  requests: number
  draws: Draw[]
}

/** The most telling first; a group is measured draw by draw, and a cancelled run goes on where it stopped. */
const GROUPS: readonly (readonly [Poison | null, Sender | null])[][] = [
  [
    [null, null],
    ['16 KB texts', 'one key'],
  ],
  [
    ['random tokens', 'one key'],
    ['one repeated text', 'one key'],
    ['16 KB texts', 'ten keys'],
    ['random tokens', 'ten keys'],
    ['one repeated text', 'ten keys'],
  ],
  [['another script', 'one key']],
  [['source code', 'one key']],
  [['shuffled words', 'one key']],
  [['another language', 'one key']],
]
const ordinaryCount = ordinaryTexts(domain, 1).length
const groups = GROUPS.map((group) =>
  group.map(([poison, sender]): Row => {
    const sent = poison && sender ? poisonCount(sender) : 0
    return { poison, sender, requests: sent / (sent + ordinaryCount), draws: [] }
  }),
)
const dense = await perplexities.get('dense', () => evaluate(null))
const tokensOf = (text: string) => model.codec.encode(text).length

function save(): void {
  const result = {
    model: model.id,
    method: METHOD,
    pattern: '0.5',
    samples: SAMPLES,
    window_tokens: WINDOW_TOKENS,
    windows: WINDOWS,
    dense,
    rows: groups.flat().filter(({ draws: results }) => results.length > 0),
  }
  writeFileSync(join(work, 'poison.json'), `${JSON.stringify(result, null, 1)}\n`)
}

async function measure({ poison, sender, draws: results }: Row, draw: number): Promise<void> {
  const poisoned = poison && sender ? poisonTexts(poison, sender, sources) : []
  const requests = assignKeys(ordinaryTexts(domain, draw), poisoned, sender ?? 'one key')
  const { texts, review } = await takenTexts(requests, `draw ${draw}`, describe)
  const shares = {
    share: poisonShare(texts, (text) => Buffer.byteLength(text)),
    token_share: poisonShare(texts, tokensOf),
  }
  process.stderr.write(`${JSON.stringify({ poison, sender, draw, ...shares, review })}\n`)
  const perplexity = await perplexityFrom(texts)
  process.stderr.write(`perplexity ${perplexity}\n`)
  results.push({ draw, ...shares, review, perplexity })
  save()
}

for (const [index, group] of groups.entries()) {
  for (let draw = 1; draw <= (index === 0 ? draws : Math.min(draws, MAX_OTHER_DRAWS)); draw++) {
    for (const row of group) await measure(row, draw)
  }
}
mkdirSync(join(ROOT, 'docs/results/poison'), { recursive: true })
copyFileSync(join(work, 'poison.json'), join(ROOT, 'docs/results/poison/poison.json'))
process.exit(0)
