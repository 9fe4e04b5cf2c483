import { AppError } from '@copal/shared/errors.ts'
import type { Log } from '../../platform/log.ts'
import type { GpuAddon } from '../../../gpu/addon.d.ts'
import type { KernelName, KvPrecision, Precision } from '../../../native/addon.d.ts'
import type { Backend, WeightSet } from '../contract/backend.ts'
import { createOnnxBackend } from './onnx/onnx-backend.ts'
import { createBackgroundSparseBackend } from './background-sparse.ts'
import type { FormSetting } from './sparse/form-choice.ts'
import { createFormMeter } from './sparse/form-figures.ts'
import { warnWithoutHugePages } from './sparse/huge-pages.ts'
import { createSparseBackend } from './sparse/sparse-backend.ts'
import { loadNative, loadNativeIfThere, NativeUnavailableError } from '../../platform/native-addon.ts'
import { loadGpu } from '../../platform/gpu-addon.ts'
import type { CallWatch } from './gpu/call-watch.ts'
import { createGpuBackend } from './gpu/gpu-backend.ts'
import { requireGpuAddon } from './gpu/require-gpu-addon.ts'

/** Settings of backends, as `NodeSettings` describes them, and the other parts that backends need. */
export interface ChooseBackendOptions {
  backend: 'onnx' | 'sparse' | 'gpu' | 'auto'
  kernel: KernelName | null
  /** A part of the name of the GPU; null for the best of the machine. */
  gpu: string | null
  precision: Precision
  headPrecision: Precision
  /** How the sparse engine stores keys and values; f16 by default, which is all that other backends take. */
  kvPrecision?: KvPrecision
  threads: number | null
  kvTokens: number | null
  /** Form of pruned weights in the sparse engine; `packed` by default. */
  form?: FormSetting
  /** Requests that run at once at most; null for the engine's default. */
  maxRunning?: number | null
  /** Folder of what is kept between starts: the measured speeds of the forms. Nothing is measured without it. */
  cacheDir?: string
  /** Scratch space of the ONNX backend. */
  workDir: string
  log: Pick<Log, 'info' | 'warn'>
  /** Called when a GPU was lost and does not work again in this process. */
  onGpuGone?: (error: Error) => void
  /** Watches calls of the GPU for hangs. */
  gpuCalls?: CallWatch
  /** Loads the addon; replaced in tests. */
  load?: typeof loadNative
  /** Loads the GPU addon; replaced in tests. */
  loadGpu?: () => GpuAddon
}

/**
 * Creates the backend that the settings request, and logs which one and why.
 *
 * Background sets run on the same engine with the same settings, in processes of their own, because evaluation is of what is
 * served and must yield the processor to serving.
 *
 * @throws AppError `invalid_request` when the settings require an addon that does not load or what another backend has, or
 * this machine cannot run the kernel
 */
export function chooseBackend(options: ChooseBackendOptions): Backend {
  const { backend: wanted, workDir, log } = options
  const threads = options.threads ?? undefined
  const load = options.load ?? loadNative
  const serveOnnx = (why: string) => {
    requireF16(options, why)
    const onnx = createOnnxBackend({ workDir, threads, log })
    log.info('backend chosen', { backend: onnx.name, why })
    return onnx
  }
  if (wanted === 'onnx') return serveOnnx('COPAL_BACKEND is onnx')
  if (wanted === 'gpu') return serveOnGpu(options)
  try {
    const { precision, headPrecision, kvPrecision } = options
    const engine = {
      threads,
      kernel: options.kernel ?? undefined,
      precision,
      headPrecision,
      kvPrecision,
      log,
    }
    const kvTokens = options.kvTokens ?? undefined
    const { cacheDir } = options
    const addon = load()
    const sparse = createSparseBackend({
      ...engine,
      addon,
      kvTokens,
      form: options.form,
      formMeter: cacheDir === undefined ? undefined : createFormMeter({ addon, cacheDir, log }),
      streams: options.maxRunning ?? undefined,
    })
    const why = wanted === 'auto' ? 'the addon loads' : 'COPAL_BACKEND is sparse'
    log.info('backend chosen', { backend: sparse.name, why })
    warnWithoutHugePages(log)
    return byPriority({
      serving: sparse,
      background: createBackgroundSparseBackend({
        ...engine,
        engine: 'sparse',
        kvTokens,
        // Packed weights take less memory. In int4 the dense form is other weights: there the form that serves is evaluated.
        form: precision === 'int4' ? options.form : 'packed',
      }),
    })
  } catch (error) {
    if (!(error instanceof NativeUnavailableError)) throw error
    if (wanted === 'auto') return serveOnnx(error.message)
    throw new AppError('invalid_request', `COPAL_BACKEND is 'sparse'. ${error.message}`, { cause: error })
  }
}

/** Creates the backend on a GPU. Sets that are only evaluated have a process each, which opens the device again. */
function serveOnGpu(options: ChooseBackendOptions): Backend {
  const { precision, headPrecision, log } = options
  requireF16(options, 'COPAL_BACKEND is gpu')
  const engine = {
    threads: options.threads ?? undefined,
    device: options.gpu ?? undefined,
    precision,
    headPrecision,
    log,
    kvTokens: options.kvTokens ?? undefined,
  }
  const addon = requireGpuAddon(options.loadGpu ?? loadGpu)
  const gpu = createGpuBackend({
    ...engine,
    addon,
    native: loadNativeIfThere(),
    onGone: options.onGpuGone,
    calls: options.gpuCalls,
  })
  log.info('backend chosen', { backend: gpu.name, why: 'COPAL_BACKEND is gpu' })
  return byPriority({ serving: gpu, background: createBackgroundSparseBackend({ ...engine, engine: 'gpu' }) })
}

/** Fails where another format of keys and values is set, for a backend that is not the sparse engine. */
function requireF16({ kvPrecision = 'f16' }: Pick<ChooseBackendOptions, 'kvPrecision'>, why: string): void {
  if (kvPrecision === 'f16') return
  throw new AppError(
    'invalid_request',
    `COPAL_KV_PRECISION is '${kvPrecision}', which only the sparse engine on the processor has. Leave it out, because another backend serves here: ${why}`,
  )
}

/** Combines two backends and runs each set on that of its priority. */
function byPriority(backends: Record<'serving' | 'background', Backend>): Backend {
  const owners = new WeakMap<WeightSet, Backend>()
  const ownerOf = (weights: WeightSet) => owners.get(weights) ?? backends.serving
  return {
    name: backends.serving.name,
    bytesPerWeight: backends.serving.bytesPerWeight ?? 4,
    device: () => backends.serving.device?.(),
    async load(source) {
      const owner = backends[source.priority]
      const weights = await owner.load(source)
      owners.set(weights, owner)
      return weights
    },
    step: (plan) => ownerOf(plan.weights).step(plan),
    release: (weights) => ownerOf(weights).release(weights),
  }
}
