/**
 * Writes `docs/results/poison/poison.json`: `node test/docs/replay/write-poison.ts [folder for statistics]`. It draws the texts
 * of an update by the code of the reservoir, selects a mask from them, and evaluates it on held-out text of the domain.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { openModel } from '../../../gpu-node/src/model/open-model.ts'
import { DEFAULT_MODEL } from '../../../gpu-node/src/model/source/resolve-model.ts'
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
  takenBefore,
  takenTexts,
  SAMPLES,
  type Poison,
  type Request,
  type Sender,
} from './poison-traffic.ts'

const METHOD = process.argv[3] ?? 'continual-wanda+swaps'
const WINDOW_TOKENS = 512
const WINDOWS = 16
/** As many tokens of a text as a node describes. */
const DESCRIBED_TOKENS = 128

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const work = process.argv[2] ?? mkdtempSync(join(tmpdir(), 'copal-poison-'))
mkdirSync(work, { recursive: true })
const model = await openModel(DEFAULT_MODEL, { cacheDir: join(homedir(), '.cache', 'copal') })
const backend = createSparseBackend({ addon: loadNative(), threads: 2, kvTokens: 0, ownTokens: 4096 })

/** Returns the mean dense loss of the beginning of each text. */
async function describe(texts: readonly string[]): Promise<{ text: string; nllMean: number }[]> {
  const path = join(work, `${createHash('sha256').update(texts.join('\0')).digest('hex')}.losses.json`)
  if (existsSync(path)) return JSON.parse(readFileSync(path, 'utf8')) as { text: string; nllMean: number }[]
  const unique = [...new Set(texts)]
  const sources = await Promise.all(
    unique.map((text) => cutWindows({ texts: [text.slice(0, 1024)] }, model.codec, DESCRIBED_TOKENS, 1)),
  )
  const losses = new Map<string, number>()
  for await (const { nllMean } of evaluateWindows(backend, { model, version: 0, maskPath: null }, sources))
    losses.set(unique[losses.size] ?? '', nllMean)
  const described = texts.map((text) => ({ text, nllMean: losses.get(text) ?? 0 }))
  writeFileSync(path, JSON.stringify(described))
  return described
}

/** By the hash of the texts that a mask was selected from. In a file, so that a run can be continued. */
const PERPLEXITIES = join(work, 'perplexities.json')
const perplexities = new Map<string, number>(
  existsSync(PERPLEXITIES) ? (JSON.parse(readFileSync(PERPLEXITIES, 'utf8')) as [string, number][]) : [],
)

/** Selects a mask from texts, and returns its perplexity on held-out text. */
async function perplexityFrom(texts: readonly Request[]): Promise<number> {
  const data = texts.map(({ text }) => `${JSON.stringify({ text })}\n`).join('')
  const sha256 = createHash('sha256').update(data).digest('hex')
  const known = perplexities.get(sha256)
  if (known !== undefined) return known
  const path = join(work, `${sha256}.ndjson`)
  writeFileSync(path, data)
  const datasets = [{ path, sha256, domain: 'novel' }]
  const maskPath = await selectMask(model, { work, datasets, method: METHOD, samples: SAMPLES })
  const perplexity = await evaluate(maskPath)
  perplexities.set(sha256, perplexity)
  writeFileSync(PERPLEXITIES, JSON.stringify([...perplexities]))
  return perplexity
}

async function evaluate(maskPath: string | null): Promise<number> {
  const source = await cutWindows(
    { texts: [read('test/fixtures/text/novel.evaluation.txt')] },
    model.codec,
    WINDOW_TOKENS,
    WINDOWS,
  )
  for await (const { perplexity } of evaluateWindows(
    backend,
    { model, version: maskPath ? -1 : 0, maskPath },
    [source],
  ))
    return Number(perplexity.toFixed(4))
  throw new Error('nothing was evaluated')
}

const foreign =
  read('test/fixtures/text/speech.calibration.txt') + read('infra/local/start/texts/general.txt')
const words = Array.from({ length: 40_000 }, (_, id) =>
  new TextDecoder().decode(model.codec.tokenBytes(id + 256)),
)
const ordinary = await describe(ordinaryTexts(read('test/fixtures/text/novel.calibration.txt')).slice(0, 280))
process.stderr.write(`described ${ordinary.length} texts\n`)

/** The result of one draw of the update's texts, by the reservoir and by the version before. */
interface Draw {
  seed: string
  /** Share of the poison in the characters that the update takes. */
  share: number
  share_before: number
  /** Texts that were set aside for review. */
  review: number
  perplexity: number
  /** Null where it was not measured. */
  perplexity_before: number | null
}

interface Row {
  poison: Poison | null
  sender: Sender | null
  /** Whether a node had described the texts before they were drawn. */
  described: boolean
  /** Share of the poison in the requests. */
  requests: number
  draws: Draw[]
}

const dense = await evaluate(null)
const rows: Row[] = []

async function measure(
  row: Omit<Row, 'draws' | 'requests'> & { texts: readonly Omit<Request, 'keyId'>[] },
  seed: string,
  isBeforeMeasured: boolean,
): Promise<void> {
  const { poison, sender, described, texts } = row
  const offered = [ordinary, texts].map((part) =>
    described ? part : part.map(({ text }) => ({ text, nllMean: undefined })),
  )
  const requests = assignKeys(offered[0] ?? [], offered[1] ?? [], sender ?? 'one key')
  const { texts: taken, review } = await takenTexts(requests, seed)
  const before = await takenBefore(requests, seed)
  const draw: Draw = {
    seed,
    share: poisonShare(taken),
    share_before: poisonShare(before),
    review,
    perplexity: await perplexityFrom(taken),
    perplexity_before: isBeforeMeasured ? await perplexityFrom(before) : null,
  }
  const known = rows.find(
    (each) => each.poison === poison && each.sender === sender && each.described === described,
  )
  const same = known?.draws.findIndex((each) => each.seed === seed) ?? -1
  if (known && same >= 0) known.draws[same] = draw
  else if (known) known.draws.push(draw)
  else rows.push({ poison, sender, described, requests: texts.length / requests.length, draws: [draw] })
  process.stderr.write(`${JSON.stringify({ poison, sender, described, ...draw })}\n`)
  const result = {
    model: model.id,
    method: METHOD,
    pattern: '0.5',
    samples: SAMPLES,
    window_tokens: WINDOW_TOKENS,
    windows: WINDOWS,
    dense,
    rows,
  }
  mkdirSync(join(ROOT, 'docs/results/poison'), { recursive: true })
  writeFileSync(join(ROOT, 'docs/results/poison/poison.json'), `${JSON.stringify(result, null, 1)}\n`)
}

const POISONS: readonly Poison[] = ['random tokens', 'one repeated text', '16 KB texts']
const sent = new Map<string, { text: string; nllMean: number }[]>()
for (const sender of ['one key', 'ten keys'] as const)
  for (const poison of POISONS)
    sent.set(
      `${poison} ${sender}`,
      await describe(poisonTexts(poison, poisonCount(ordinary.length, sender), words, foreign)),
    )
const textsOf = (poison: Poison, sender: Sender) => sent.get(`${poison} ${sender}`) ?? []
/** The measured runs, the most telling first: `[poison, sender, seed, described, before]`. */
const RUNS: readonly [Poison | null, Sender | null, string, boolean, boolean][] = [
  [null, null, 'poison', true, true],
  ['random tokens', 'one key', 'poison', true, true],
  ['one repeated text', 'one key', 'poison', true, true],
  ['16 KB texts', 'one key', 'poison', true, true],
  ['random tokens', 'ten keys', 'poison', true, false],
  ['one repeated text', 'ten keys', 'poison', true, false],
  ['16 KB texts', 'ten keys', 'poison', true, false],
  ...['second', 'third'].flatMap((seed): [Poison | null, Sender | null, string, boolean, boolean][] => [
    [null, null, seed, true, false],
    ['16 KB texts', 'one key', seed, true, false],
  ]),
  ['random tokens', 'one key', 'poison', false, false],
]
for (const [poison, sender, seed, described, before] of RUNS) {
  const texts = poison && sender ? textsOf(poison, sender) : []
  await measure({ poison, sender, described, texts }, seed, before)
}
process.exit(0)
