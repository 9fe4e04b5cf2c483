import { createSparseBackend } from '@copal/gpu-node/serving/backends/sparse/sparse-backend.ts'
import { KV_PRECISIONS, PAGE_TOKENS } from '@copal/gpu-node/serving/contract/backend.ts'
import { cutWindows } from '@copal/gpu-node/pruning/evaluation/text-windows.ts'
import { evaluateWindows } from '@copal/gpu-node/pruning/evaluation/evaluate-windows.ts'
import { loadNative } from '@copal/gpu-node/platform/native-addon.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { runPairs } from '../measurement/paired-rounds.ts'
import { decode, prefill, type ServedSet } from '../serving/serving.ts'
import { FORMS, type Form } from './engine-contender.ts'

/** Tokens that each sequence decodes in a round. */
const DECODE_STEPS = 24
/** Tokens of the windows whose perplexity is measured. */
const WINDOW = 2048

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
  const ownTokens = Math.max(
    WINDOW,
    Math.max(...streams) * (Math.max(...contexts) + DECODE_STEPS + PAGE_TOKENS),
  )
  const backends = KV_PRECISIONS.map((kvPrecision) =>
    createSparseBackend({
      addon: loadNative(),
      precision,
      headPrecision,
      kvPrecision,
      kvTokens: 0,
      ownTokens,
    }),
  )
  const [f16, int8] = await Promise.all(
    backends.map(async (backend): Promise<ServedSet> => {
      const weights = await backend.load({ model, version: 1, maskPath, priority: 'serving' })
      return { name: backend.name, backend, weights }
    }),
  )
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
  const windows = await cutWindows({ texts: [text] }, model.codec, WINDOW, Number.POSITIVE_INFINITY)
  const dense = { model, version: 0, maskPath: null }
  for (const backend of backends) {
    for await (const { perplexity, tokens } of evaluateWindows(backend, dense, [windows]))
      lines.push(
        line(`perplexity of dense weights, ${backend.name}`, `${perplexity.toFixed(3)} on ${tokens} tokens`),
      )
  }
  return lines
}
