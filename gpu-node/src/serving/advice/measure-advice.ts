import type { Addon, Precision } from '../../../native/addon.d.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import { spread } from '../../platform/spread.ts'
import { scoreWindows } from '../../pruning/evaluation/evaluate-windows.ts'
import { createSparseBackend } from '../backends/sparse/sparse-backend.ts'
import type { Backend, WeightSet } from '../contract/backend.ts'
import type { AdviceRow, AdviceSubject } from './advice.ts'
import { decode, prefill } from './decode-speed.ts'

/** A mask file and its name. */
export interface AdviceMask {
  name: string
  path: string
}

/** Options of {@link measureAdvice}. */
export interface AdviceOptions {
  addon: Addon
  model: DenseModel
  masks: readonly AdviceMask[]
  precisions: readonly Precision[]
  headPrecision?: Precision | undefined
  threads?: number | undefined
  /** Text that was held out of the masks' calibration. */
  windows: readonly Int32Array[]
  /** No round begins after this time. One always runs. */
  timeLimitMs: number
  signal: AbortSignal
  onProgress: (what: string, share: number) => void
}

/** A way to serve the model that is loaded. */
interface Contender extends AdviceSubject {
  backend: Backend
  weights: WeightSet
  perplexity: number
  oneStream: number[]
  eightStreams: number[]
  prefill: number[]
}

const STREAMS = 8
const ONE_STREAM_STEPS = 24
const EIGHT_STREAMS_STEPS = 8
/** Tokens of a prompt before decoding: few, because attention costs the same in all contenders. */
const CONTEXT = 16
const PROMPT_TOKENS = 256
const MAX_ROUNDS = 5
/** Tokens of keys and values of a backend. */
const KV_TOKENS = 4096

/**
 * Measures the model dense and under each mask, in each precision, with pruned weights packed and dense. Speeds come from
 * rounds that measure every contender one after the other. Forms have the same outputs but in int4, so perplexity is
 * measured once for both.
 *
 * @throws AppError as `Backend.load` does; the reason of `signal`
 */
export async function measureAdvice(options: AdviceOptions): Promise<AdviceRow[]> {
  const { model, windows, timeLimitMs, signal, onProgress } = options
  const subjects = subjectsOf(options)
  const contenders: Contender[] = []
  try {
    for (const [index, subject] of subjects.entries()) {
      signal.throwIfAborted()
      onProgress('Loading and scoring', index / subjects.length)
      const contender = await load(options, subject)
      contenders.push(contender)
      const twin = contenders.find(
        ({ mask, precision }) =>
          mask === subject.mask && precision === subject.precision && precision !== 'int4',
      )
      contender.perplexity =
        twin && twin !== contender ? twin.perplexity : await perplexityOf(contender, windows, signal)
    }
    const startedMs = performance.now()
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const elapsedMs = performance.now() - startedMs
      if (round > 0 && (elapsedMs * (round + 1)) / round > timeLimitMs) break
      for (const [index, contender] of contenders.entries()) {
        signal.throwIfAborted()
        onProgress(`Measuring, round ${round + 1}`, index / contenders.length)
        await measure(contender, model.config.contextLength, round)
      }
    }
  } finally {
    for (const { backend, weights } of contenders) await backend.release(weights)
  }
  return contenders.map(rowOf)
}

/** A subject, and where its weights are. */
interface SubjectToLoad extends AdviceSubject {
  path: string | null
  version: number
}

function subjectsOf({ masks, precisions }: AdviceOptions): SubjectToLoad[] {
  return precisions.flatMap((precision): SubjectToLoad[] => [
    { mask: null, precision, form: null, path: null, version: 0 },
    ...masks.flatMap(({ name, path }, index) =>
      (['packed', 'dense'] as const).map((form): SubjectToLoad => ({
        mask: name,
        precision,
        form,
        path,
        version: index + 1,
      })),
    ),
  ])
}

async function load(
  { addon, model, threads, headPrecision }: AdviceOptions,
  { path, version, ...subject }: SubjectToLoad,
): Promise<Contender> {
  const { precision, form } = subject
  const backend = createSparseBackend({
    addon,
    threads,
    precision,
    headPrecision,
    form: form ?? 'packed',
    kvTokens: 0,
    ownTokens: KV_TOKENS,
  })
  const weights = await backend.load({ model, version, maskPath: path, priority: 'serving' })
  return {
    ...subject,
    backend,
    weights,
    perplexity: Number.NaN,
    oneStream: [],
    eightStreams: [],
    prefill: [],
  }
}

async function perplexityOf(
  { backend, weights }: Contender,
  windows: readonly Int32Array[],
  signal: AbortSignal,
): Promise<number> {
  let perplexity = Number.NaN
  for await (const found of scoreWindows(backend, weights, [{ windows: [...windows] }], { signal }))
    perplexity = found.perplexity
  // The last sequence is still held.
  await backend.step({ weights, work: [], drop: [windows.length] })
  return perplexity
}

async function measure(contender: Contender, contextLength: number, round: number): Promise<void> {
  const first = 1_000_000 + round * STREAMS
  const one = [first]
  const eight = Array.from({ length: STREAMS }, (_, index) => first + index)
  const steps = (wanted: number) => Math.max(1, Math.min(wanted, contextLength - CONTEXT - 1))
  contender.oneStream.push(await decode(contender, one, CONTEXT, steps(ONE_STREAM_STEPS)))
  contender.eightStreams.push(await decode(contender, eight, CONTEXT, steps(EIGHT_STREAMS_STEPS)))
  contender.prefill.push(await prefill(contender, one, Math.min(PROMPT_TOKENS, contextLength - 1)))
}

function rowOf(contender: Contender): AdviceRow {
  const { mask, precision, form, weights, perplexity } = contender
  return {
    mask,
    precision,
    form,
    bytes: weights.bytes ?? 0,
    oneStream: spread(contender.oneStream),
    eightStreams: spread(contender.eightStreams),
    prefill: spread(contender.prefill),
    perplexity,
  }
}
