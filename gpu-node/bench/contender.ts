import type { Precision } from '../native/addon.d.ts'
import type { Backend, WeightSet, WeightSetSource } from '../src/backends/backend.ts'
import { createSparseBackend } from '../src/backends/sparse/backend.ts'
import { loadNative } from '../src/backends/sparse/native.ts'
import { decode, prefill } from './serving.ts'

/** Room for the sequences of a case together; no memory before it is used. */
const SEQUENCES_TOKENS = 1 << 15

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
 * Loads weight sets of the sparse engine in one precision: the backend that runs them, and each as a contender.
 *
 * @throws NativeUnavailableError where the addon is not built
 */
export function createSparseLoader(
  precision: Precision,
  threads: number,
): { backend: Backend; load: (name: string, source: WeightSetSource) => Promise<Contender> } {
  let megabytes = Number.NaN
  const log = {
    info: (_: string, fields?: object) => (megabytes = Number((fields as { megabytes?: number }).megabytes)),
  }
  const ownTokens = SEQUENCES_TOKENS
  const backend = createSparseBackend({ addon: loadNative(), precision, threads, ownTokens, log })
  return {
    backend,
    async load(name, source) {
      const weights = await backend.load(source)
      return servedContender(name, backend, weights, megabytes)
    },
  }
}
