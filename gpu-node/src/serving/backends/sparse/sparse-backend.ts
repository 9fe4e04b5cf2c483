import { availableParallelism } from 'node:os'
import { AppError } from '@copal/shared/errors.ts'
import { numericsOf } from '@copal/shared/metrics/numerics.ts'
import type { Addon, KernelName, KvPrecision, Precision } from '../../../../native/addon.d.ts'
import type { Log } from '../../../platform/log.ts'
import { MAX_THREADS } from '../../contract/backend.ts'
import { createEngineBackend, type EngineBackend } from './engine-backend.ts'
import { chooseForm, chooseInt4Form, type FormSetting } from './form-choice.ts'
import { keptPattern, type FormMeter } from './form-figures.ts'
import { createModelEngine, SELF_TEST_TOKENS } from './model-engine.ts'
import { createNativeLogitKernels } from './native-logit-kernels.ts'
import { denseBytesPerWeight, formBytes } from './weight-bytes.ts'

/** Settings of the sparse engine. */
export interface SparseBackendOptions {
  addon: Addon
  /** Threads of a step, at most {@link MAX_THREADS}; all processors by default. */
  threads?: number | undefined
  /** Kernel to use; the fastest of the machine by default. */
  kernel?: KernelName | undefined
  /** Precision of the linears; bf16 by default. */
  precision?: Precision | undefined
  /** Precision of the head; int8 by default. The head is not pruned: in bf16 a third of the bytes that a half-pruned model reads. */
  headPrecision?: Precision | undefined
  /** How keys and values are stored; f16 by default. */
  kvPrecision?: KvPrecision | undefined
  /** Tokens of keys and values that the scheduler allocates; four contexts by default, like its own default. */
  kvTokens?: number | undefined
  /** Tokens of callers that pass no pages, such as benchmarks; none by default. Self-tests have pages of their own. */
  ownTokens?: number | undefined
  /** Form of pruned weights; `packed` by default. */
  form?: FormSetting | undefined
  /** Gives the figures from which `auto` chooses a form; without it `auto` takes the packed form. */
  formMeter?: FormMeter | undefined
  /** Requests that are expected to run at once; 8 by default. */
  streams?: number | undefined
  log?: Pick<Log, 'info' | 'warn'> | undefined
}

const DEFAULT_HEAD_PRECISION: Precision = 'int8'
const DEFAULT_STREAMS = 8

/**
 * Creates the backend that runs weight sets on the processor with the Rust addon.
 *
 * @throws AppError `invalid_request` for a kernel that this machine cannot run
 */
export function createSparseBackend(options: SparseBackendOptions): EngineBackend {
  const { addon, kernel, log } = options
  const threads = Math.min(options.threads ?? availableParallelism(), MAX_THREADS)
  const precision = options.precision ?? 'bf16'
  const headPrecision = options.headPrecision ?? DEFAULT_HEAD_PRECISION
  const kvPrecision = options.kvPrecision ?? 'f16'
  const known = addon.kernels()
  if (kernel && !known.includes(kernel)) {
    throw new AppError(
      'invalid_request',
      `This machine cannot run the kernel '${kernel}'; it runs ${known.join(', ')}. Set COPAL_KERNEL to one of them or leave it out.`,
      { param: 'kernel' },
    )
  }
  const suffixes = [
    ...(headPrecision === DEFAULT_HEAD_PRECISION ? [] : [`head-${headPrecision}`]),
    ...(kvPrecision === 'f16' ? [] : [`kv-${kvPrecision}`]),
  ]
  return createEngineBackend({
    name: ['sparse', precision, ...suffixes, kernel ?? known[0]].join('-'),
    bytesPerWeight: denseBytesPerWeight(precision),
    createEngine: ({ config }) =>
      createModelEngine(addon, config, {
        kernel: kernel ?? null,
        threads,
        precision,
        headPrecision,
        kvPrecision,
        kvTokens: options.kvTokens ?? 4 * config.contextLength,
        ownTokens: SELF_TEST_TOKENS + (options.ownTokens ?? 0),
      }),
    async chooseForm({ model: { config }, signal, budgetBytes }, engine, places) {
      const { form: wanted = 'packed' } = options
      if (precision === 'int4' && wanted === 'auto') return chooseInt4Form(engine.native.kernel)
      const kept = keptPattern(places, config)
      const subject = { config, precision, kernel: engine.native.kernel, threads, kept }
      const figures = await options.formMeter?.figures(subject, (piece) => {
        signal?.throwIfAborted()
        return engine.betweenSteps(piece)
      })
      return chooseForm({
        wanted,
        figures: figures ?? null,
        streams: options.streams ?? DEFAULT_STREAMS,
        bytes: formBytes(precision, kept.weights, kept.share),
        // Its successor is loaded while it still serves.
        fits: (bytes) => 2 * bytes <= (budgetBytes?.() ?? Infinity),
      })
    },
    numerics: (form) => numericsOf({ precision, headPrecision, form, kvPrecision }),
    createLogitKernels: (vocabSize) => createNativeLogitKernels(addon, vocabSize, kernel),
    packThreads: threads,
    log,
  })
}
