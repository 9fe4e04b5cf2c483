import type { Precision } from '@copal/gpu-node/native/addon.d.ts'
import type { Backend, WeightSet, WeightSetSource } from '@copal/gpu-node/serving/contract/backend.ts'
import { createSparseBackend } from '@copal/gpu-node/serving/backends/sparse/sparse-backend.ts'
import { loadNative } from '@copal/gpu-node/platform/native-addon.ts'
import { decode, prefill } from '../serving/serving.ts'

/** Room for the sequences of a case together; no memory before it is used. */
const SEQUENCES_TOKENS = 1 << 15

/** Precisions of the linears and of the head, by the name that a benchmark's options and tables give them. */
export const FORMS = {
  bf16: ['bf16', 'int8'],
  int8: ['int8', 'int8'],
  'int8/int4': ['int8', 'int4'],
  int4: ['int4', 'int8'],
  'int4/int4': ['int4', 'int4'],
} as const satisfies Record<string, readonly [Precision, Precision]>
export type Form = keyof typeof FORMS

/** A model in some form that a benchmark decodes and prefills with. */
export interface Contender {
  name: string
  /** Weights that a token reads when it is decoded alone, in millions of bytes. */
  megabytes: number
  /** Tokens a second over all sequences: `steps` more of each that holds `context` already. */
  decode: (sequences: number, context: number, steps: number) => Promise<number>
  /** Tokens a second of one prompt. */
  prefill: (tokens: number) => Promise<number>
  /** Frees what it holds. */
  close: () => Promise<void>
}

/** A weight set of ours; it is released with the contender. */
export function servedContender(
  name: string,
  backend: Backend,
  weights: WeightSet,
  megabytes: number,
): Contender {
  const set = { name, backend, weights }
  let sequence = 1_000_000
  const sequences = (count: number) => Array.from({ length: count }, () => sequence++)
  return {
    name,
    megabytes,
    decode: (count, context, steps) => decode(set, sequences(count), context, steps),
    prefill: (tokens) => prefill(set, sequences(1), tokens),
    close: () => backend.release(weights),
  }
}

/**
 * Loads weight sets of the sparse engine in one form: the backend that runs them, and each as a contender.
 *
 * @throws NativeUnavailableError where the addon is not built
 */
export function createSparseLoader(
  form: Form,
  threads: number,
): { backend: Backend; load: (name: string, source: WeightSetSource) => Promise<Contender> } {
  const [precision, headPrecision] = FORMS[form]
  let megabytes = Number.NaN
  const log = {
    info: (_: string, fields?: object) => (megabytes = Number((fields as { megabytes?: number }).megabytes)),
  }
  const ownTokens = SEQUENCES_TOKENS
  const backend = createSparseBackend({
    addon: loadNative(),
    precision,
    headPrecision,
    threads,
    ownTokens,
    log,
  })
  return {
    backend,
    async load(name, source) {
      const weights = await backend.load(source)
      return servedContender(name, backend, weights, megabytes)
    },
  }
}
