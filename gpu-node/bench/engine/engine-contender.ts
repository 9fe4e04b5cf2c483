import type { Addon, KernelName, Precision } from '@copal/gpu-node/native/addon.d.ts'
import type { Backend, WeightSet, WeightSetSource } from '@copal/gpu-node/serving/contract/backend.ts'
import {
  createSparseBackend,
  type SparseBackendOptions,
} from '@copal/gpu-node/serving/backends/sparse/sparse-backend.ts'
import type { Log } from '@copal/gpu-node/platform/log.ts'
import { loadNative } from '@copal/gpu-node/platform/native-addon.ts'
import { decode, prefill } from '../serving/serving.ts'

/** Key/value cache for the sequences of a case; it takes no memory before it is used. */
const SEQUENCES_TOKENS = 1 << 15

/** Precisions of the linears and of the head, by their name in options and tables. */
export const FORMS = {
  bf16: ['bf16', 'int8'],
  int8: ['int8', 'int8'],
  'int8/int4': ['int8', 'int4'],
  int4: ['int4', 'int8'],
  'int4/int4': ['int4', 'int4'],
} as const satisfies Record<string, readonly [Precision, Precision]>
/** The name of a precision in {@link FORMS}. */
export type Form = keyof typeof FORMS

/** A model in one precision that a benchmark decodes and prefills with. */
export interface Contender {
  name: string
  /** Bytes of weights that decoding one token reads at batch size 1, in millions. */
  megabytes: number
  /** How its pruned weights are stored, and why. */
  form?: NonNullable<WeightSet['form']>
  /** Name of the contender with dense weights in the same precision. */
  dense?: string
  /**
   * Decodes `steps` tokens of each sequence after `context` tokens, and returns tokens per second over all sequences.
   */
  decode: (sequences: number, context: number, steps: number) => Promise<number>
  /** Prefills one prompt and returns tokens per second. */
  prefill: (tokens: number) => Promise<number>
  /** Releases its memory. */
  close: () => Promise<void>
}

/** Creates a contender of one of our weight sets, which is released with it. */
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

/** Creates a log for a backend that remembers the bytes a token reads of the set that was loaded last. */
export function createLoadLog(): Pick<Log, 'info' | 'warn'> & { megabytes: () => number } {
  let megabytes = Number.NaN
  return {
    info(_, fields) {
      const value = fields?.['megabytes']
      if (typeof value === 'number') megabytes = value
    },
    warn: () => undefined,
    megabytes: () => megabytes,
  }
}

/**
 * Returns the kernels of these names; without names that of `COPAL_KERNEL`, or undefined for the machine's best.
 *
 * @throws for a kernel that the machine does not run
 */
export function kernelsNamed(addon: Addon, names: readonly string[]): (KernelName | undefined)[] {
  const wanted = names.length > 0 ? names : [process.env.COPAL_KERNEL || undefined]
  return wanted.map((name) => {
    const kernel = addon.kernels().find((one) => one === name)
    if (name !== undefined && !kernel)
      throw new Error(`This machine runs the kernels ${addon.kernels().join(', ')}, not '${name}'.`)
    return kernel
  })
}

/**
 * Creates a backend of the sparse engine in one precision, and a function that loads its weight sets as contenders.
 *
 * @param chosen how the form of pruned weights is chosen; they are packed by default
 * @throws NativeUnavailableError when the addon is not built
 */
export function createSparseLoader(
  form: Form,
  threads: number,
  kernel?: KernelName,
  chosen: Pick<SparseBackendOptions, 'form' | 'formMeter'> = {},
): { backend: Backend; load: (name: string, source: WeightSetSource) => Promise<Contender> } {
  const [precision, headPrecision] = FORMS[form]
  const log = createLoadLog()
  const ownTokens = SEQUENCES_TOKENS
  const backend = createSparseBackend({
    addon: loadNative(),
    kernel,
    precision,
    headPrecision,
    threads,
    ownTokens,
    ...chosen,
    log,
  })
  return {
    backend,
    async load(name, source) {
      const weights = await backend.load(source)
      const contender = servedContender(name, backend, weights, log.megabytes())
      return weights.form ? { ...contender, form: weights.form } : contender
    },
  }
}
