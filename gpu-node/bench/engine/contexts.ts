import { createSparseBackend } from '@copal/gpu-node/serving/backends/sparse/sparse-backend.ts'
import { KV_PRECISIONS } from '@copal/gpu-node/serving/contract/backend.ts'
import { loadNative } from '@copal/gpu-node/platform/native-addon.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import type { KvPrecision } from '../../native/addon.d.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { runPairs } from '../measurement/paired-rounds.ts'
import { decode, prefill, type ServedSet } from '../serving/serving.ts'
import { FORMS, type Form } from './engine-contender.ts'

/** Tokens that each sequence decodes in a round. */
const DECODE_STEPS = 24
/** Tokens of the windows whose perplexity is measured, and of the steps that score them. */
const WINDOW = 2048
const CHUNK = 256

/** What {@link benchContexts} measures. */
export interface ContextsLoad {
  model: DenseModel
  /** Of the weights that decode. */
  maskPath: string
  form: Form
  streams: readonly number[]
  contexts: readonly number[]
  rounds: number
  /** Text whose perplexity under dense weights is measured; none by default. */
  text?: string | undefined
}

/**
 * Measures decoding and prefill at several contexts with keys and values in f16 and in int8, in rounds in turn.
 *
 * @returns lines for people
 * @throws NativeUnavailableError when the addon is not built
 */
export async function benchContexts(load: ContextsLoad): Promise<string[]> {
  const { model, maskPath, form, streams, contexts, rounds, text } = load
  const [precision, headPrecision] = FORMS[form]
  const ownTokens = Math.max(WINDOW, Math.max(...streams) * (Math.max(...contexts) + DECODE_STEPS + CHUNK))
  const open = async (kvPrecision: KvPrecision, mask: string | null): Promise<ServedSet> => {
    const addon = loadNative()
    const backend = createSparseBackend({
      addon,
      precision,
      headPrecision,
      kvPrecision,
      kvTokens: 0,
      ownTokens,
    })
    const source = { model, version: mask === null ? 0 : 1, maskPath: mask, priority: 'serving' as const }
    return { name: kvPrecision, backend, weights: await backend.load(source) }
  }
  const [f16, int8] = await Promise.all(KV_PRECISIONS.map((kvPrecision) => open(kvPrecision, maskPath)))
  let next = 0
  const compare = async (name: string, run: (set: ServedSet) => Promise<number>): Promise<string[]> => {
    const speeds = await runPairs(rounds, (isInt8) => run((isInt8 ? int8 : f16)!))
    const ratios = speeds.with.map((speed, round) => speed / speeds.without[round]!)
    return [
      line(`${name}, f16`, formatSpread(spread(speeds.without), 'tokens/s')),
      line(`${name}, int8`, formatSpread(spread(speeds.with), 'tokens/s')),
      line('int8 / f16, by pairs of rounds', formatSpread(spread(ratios), '×', 2)),
    ]
  }
  const lines: string[] = []
  for (const context of contexts) {
    for (const count of streams) {
      const sequences = () => Array.from({ length: count }, () => next++)
      lines.push(
        ...(await compare(`${count} streams at ${context}`, (set) =>
          decode(set, sequences(), context, DECODE_STEPS),
        )),
      )
    }
    lines.push(...(await compare(`prefill of ${context}`, (set) => prefill(set, [next++], context))))
  }
  if (text === undefined) return lines
  const tokens = Int32Array.from(model.codec.encode(text))
  for (const kvPrecision of KV_PRECISIONS) {
    const value = await perplexity(await open(kvPrecision, null), tokens)
    lines.push(line(`perplexity of dense weights, ${kvPrecision}`, value.toFixed(3)))
  }
  return lines
}

/** Returns the perplexity over whole windows of a text. */
async function perplexity({ backend, weights }: ServedSet, tokens: Int32Array): Promise<number> {
  let [sum, count] = [0, 0]
  for (let start = 0; start + WINDOW <= tokens.length; start += WINDOW) {
    for (let position = 0; position < WINDOW - 1; position += CHUNK) {
      const end = Math.min(position + CHUNK, WINDOW - 1)
      const scored = tokens.subarray(start + position, start + end)
      const targets = tokens.subarray(start + position + 1, start + end + 1)
      const work = [{ sequence: start, tokens: scored, position, output: 'nll', targets }] as const
      const [output] = (await backend.step({ weights, work, drop: [] })).outputs
      if (output?.kind !== 'nll') throw new Error('a work that scores has no losses')
      for (const loss of output.nll) sum += loss
      count += scored.length
    }
    await backend.step({ weights, work: [], drop: [start] })
  }
  return Math.exp(sum / count)
}
