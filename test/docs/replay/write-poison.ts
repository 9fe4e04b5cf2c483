/**
 * Writes `docs/results/poison/poison.json`: `node test/docs/replay/write-poison.ts [folder for statistics]`. It draws the texts
 * of an update by the code of the reservoir, selects a mask from them, and evaluates it on held-out text of the domain.
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
import {
  assignKeys,
  ordinaryTexts,
  poisonCount,
  poisonShare,
  poisonTexts,
  takenBefore,
  takenTexts,
  type Poison,
  type Request,
  type Sender,
} from './poison-traffic.ts'

const ROOT = resolve(import.meta.dirname, '../../..')
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
  const unique = [...new Set(texts)]
  const sources = await Promise.all(
    unique.map((text) => cutWindows({ texts: [text.slice(0, 1024)] }, model.codec, DESCRIBED_TOKENS, 1)),
  )
  const losses = new Map<string, number>()
  for await (const { nllMean } of evaluateWindows(backend, { model, version: 0, maskPath: null }, sources))
    losses.set(unique[losses.size] ?? '', nllMean)
  return texts.map((text) => ({ text, nllMean: losses.get(text) ?? 0 }))
}

/** Selects a mask from texts, and returns its perplexity on held-out text. */
async function perplexityFrom(texts: readonly Request[]): Promise<number> {
  const data = texts.map(({ text }) => `${JSON.stringify({ text })}\n`).join('')
  const sha256 = createHash('sha256').update(data).digest('hex')
  const path = join(work, `${sha256}.ndjson`)
  writeFileSync(path, data)
  const { maskPath } = await calibrateAndSelect(
    model,
    {
      datasets: [{ path, sha256, domain: 'novel' }],
      accumulated: [],
      samples: 16,
      length: 512,
      seed: 0,
      selection: { method: METHOD, pattern: '0.5', scope: 'row' as const, weights: {} },
      parentMaskPath: null,
      created: '2026-11-28T00:00:00.000Z',
      workDir: work,
      statisticsDir: join(work, 'statistics'),
    },
    2,
    () => {},
  )
  return evaluate(maskPath)
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

interface Row {
  poison: Poison | null
  sender: Sender | null
  /** Share of the requests, and of the characters that the update takes, now and before. */
  requests: number
  share: number
  share_before: number
  /** Texts that were set aside for review. */
  review: number
  perplexity: number
  perplexity_before: number | null
}

const dense = await evaluate(null)
const rows: Row[] = []
async function measure(poison: Poison | null, sender: Sender | null): Promise<void> {
  const count = poison && sender ? poisonCount(ordinary.length, sender) : 0
  const spoiled = poison ? await describe(poisonTexts(poison, count, words, foreign)) : []
  const requests = assignKeys(ordinary, spoiled, sender ?? 'one key')
  const { texts, review } = await takenTexts(requests)
  const before = await takenBefore(requests)
  const row: Row = {
    poison,
    sender,
    requests: count / requests.length,
    share: poisonShare(texts),
    share_before: poisonShare(before),
    review,
    perplexity: await perplexityFrom(texts),
    perplexity_before: sender === 'ten keys' ? null : await perplexityFrom(before),
  }
  rows.push(row)
  process.stderr.write(`${JSON.stringify(row)}\n`)
  const result = {
    model: model.id,
    method: METHOD,
    pattern: '0.5',
    samples: 16,
    window_tokens: WINDOW_TOKENS,
    windows: WINDOWS,
    dense,
    rows,
  }
  mkdirSync(join(ROOT, 'docs/results/poison'), { recursive: true })
  writeFileSync(join(ROOT, 'docs/results/poison/poison.json'), `${JSON.stringify(result, null, 1)}\n`)
}

await measure(null, null)
for (const sender of ['one key', 'ten keys'] as const)
  for (const poison of ['random tokens', 'one repeated text', '16 KB texts'] as const)
    await measure(poison, sender)
process.exit(0)
