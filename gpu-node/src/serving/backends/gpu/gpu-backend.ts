import { availableParallelism } from 'node:os'
import { AppError } from '@copal/shared/errors.ts'
import { numericsOf } from '@copal/shared/metrics/numerics.ts'
import type {
  GpuAddon,
  GpuDevice,
  GpuEngine,
  GpuEngineOptions,
  GpuErrorCode,
} from '../../../../gpu/addon.d.ts'
import type { Addon, Precision } from '../../../../native/addon.d.ts'
import type { Log } from '../../../platform/log.ts'
import { addonErrorCode } from '../../../platform/native-addon.ts'
import { MAX_THREADS, type WeightSet, type WeightSetSource } from '../../contract/backend.ts'
import { createScriptLogitKernels } from '../../sampling/logit-kernels.ts'
import { createEngineBackend, type EngineBackend } from '../sparse/engine-backend.ts'
import { openModelEngine, SELF_TEST_TOKENS, type AddonEngine } from '../sparse/model-engine.ts'
import { denseBytesPerWeight } from '../sparse/weight-bytes.ts'
import { createNativeLogitKernels } from '../sparse/native-logit-kernels.ts'
import { measureStream } from './stream-speed.ts'
import { createCallWatch, OPENING_TIMEOUT_MS, type CallWatch } from './call-watch.ts'
import { callTimeouts, watchedEngine, type CallTimeout } from './watched-engine.ts'

/** Settings of the GPU engine. */
export interface GpuBackendOptions {
  addon: GpuAddon
  /** Draws tokens from logits; without it JavaScript does, with the same tokens. */
  native?: Addon | undefined
  /** A part of the name of the device; the best of the machine by default. */
  device?: string | undefined
  /** Threads that pack a weight set before it goes to the device; all processors by default. */
  threads?: number | undefined
  /** Precision of the linears; bf16 by default. */
  precision?: Precision | undefined
  /** Precision of the head; bf16 by default. */
  headPrecision?: Precision | undefined
  /** Tokens of keys and values that the scheduler allocates; four contexts by default, like its own default. */
  kvTokens?: number | undefined
  /** Tokens of callers that pass no pages, such as benchmarks; none by default. Self-tests have pages of their own. */
  ownTokens?: number | undefined
  log?: Pick<Log, 'info' | 'warn'> | undefined
  /** Called when the device was lost and does not work again: a new process may be able to use it. */
  onGone?: ((error: Error) => void) | undefined
  /** Watches calls for hangs; by default one of each engine, which calls {@link onGone}. */
  calls?: CallWatch | undefined
  /** How long calls of the engine may take; by the size of the model by default. */
  timeoutMs?: CallTimeout | undefined
}

/** Codes of errors of a device that was lost and is not there again. Memory that a driver did not free can be one, too. */
const DEVICE_ERRORS: ReadonlySet<unknown> = new Set<GpuErrorCode>([
  'DeviceLost',
  'DeviceUnavailable',
  'InvalidPageCount',
  'OutOfMemory',
])
/** Loads in a row that fail by the device, from its loss on, until {@link GpuBackendOptions.onGone} is called. */
const MAX_FAILED_LOADS = 3

/** Longest name of a device in a description, so that the speed and the precision have room behind it. */
const MAX_NAME = 50

/** A {@link EngineBackend} on a GPU. */
export interface GpuBackend extends EngineBackend {
  /** Loses the device of every engine; for tests. */
  provokeDeviceLoss(): void
  /** Makes every step hang from now on; for tests. */
  provokeHang(): void
}

/**
 * Creates the backend that runs weight sets on a GPU: the whole step on the device, sampling on the event loop. Sets are
 * packed on the processor as those of the sparse engine are. The device is opened when the first set is loaded, and one
 * stream is measured on it for `device()`.
 */
export function createGpuBackend(options: GpuBackendOptions): GpuBackend {
  const { addon, native, log } = options
  const threads = Math.min(options.threads ?? availableParallelism(), MAX_THREADS)
  const precision = options.precision ?? 'bf16'
  const headPrecision = options.headPrecision ?? 'bf16'
  /** The engine that was created last. */
  let latest: GpuEngine | undefined
  /** Tokens per second of one stream, measured on the first set. */
  let streamRate: number | undefined
  /** Loads that failed by the device since it was lost; undefined while it works. */
  let failedLoads: number | undefined
  const backend = createEngineBackend({
    name: ['gpu', precision, ...(headPrecision === precision ? [] : [`head-${headPrecision}`])].join('-'),
    bytesPerWeight: denseBytesPerWeight(precision),
    async createEngine(model) {
      const { config } = model
      const open = async (engineOptions: GpuEngineOptions): Promise<AddonEngine> => {
        const watch = options.calls ?? createCallWatch((error) => options.onGone?.(error))
        latest = await watch.run('opening', () => addon.openEngine(engineOptions), OPENING_TIMEOUT_MS)
        const { device } = latest
        announce(device, log)
        const timeoutMs = options.timeoutMs ?? callTimeouts(model, device.kind)
        return watchedEngine(latest, watch, timeoutMs)
      }
      return openModelEngine(open, config, {
        kernel: null,
        device: options.device,
        threads,
        precision,
        headPrecision,
        kvTokens: options.kvTokens ?? 4 * config.contextLength,
        ownTokens: SELF_TEST_TOKENS + (options.ownTokens ?? 0),
      })
    },
    numerics: (form) => numericsOf({ precision, headPrecision, form }),
    createLogitKernels: (vocabSize) =>
      native ? createNativeLogitKernels(native, vocabSize) : createScriptLogitKernels(vocabSize),
    packThreads: threads,
    log,
    onDeviceLost: () => (failedLoads ??= 0),
  })
  async function loadAgain(source: WeightSetSource): Promise<WeightSet> {
    try {
      const weights = await backend.load(source)
      failedLoads = undefined
      return weights
    } catch (error) {
      const isOfDevice = error instanceof AppError && DEVICE_ERRORS.has(addonErrorCode(error.cause))
      if (failedLoads !== undefined && isOfDevice && ++failedLoads === MAX_FAILED_LOADS)
        options.onGone?.(error)
      throw error
    }
  }
  /** Measures one stream on the first set, which nothing uses yet. */
  async function measureFirst(weights: WeightSet): Promise<void> {
    const { priority, signal } = weights.source
    if (streamRate !== undefined || priority !== 'serving' || signal?.aborted) return
    streamRate = Number.NaN
    try {
      streamRate = await measureStream(backend, weights)
      log?.info('one stream measured', { tokensPerS: Number(streamRate.toPrecision(3)) })
    } catch (error) {
      // The set ends if its device was lost. Its owner loads it again.
      log?.warn('one stream could not be measured', { error: String(error) })
    }
  }

  return {
    ...backend,
    async load(source) {
      const weights = await loadAgain(source)
      await measureFirst(weights)
      return weights
    },
    device: () => (latest ? describeDevice(latest.device, streamRate) : undefined),
    provokeDeviceLoss: () => latest?.provokeDeviceLoss(),
    provokeHang: () => latest?.provokeHang(),
  }
}

/** Logs the device of a new engine, with a warning for one that is no GPU. */
function announce(device: GpuDevice, log: GpuBackendOptions['log']): void {
  const { kind, driver } = device
  log?.info('GPU opened', { device: device.name, kind, api: device.api, driver })
  if (kind === 'software')
    log?.warn('the GPU backend runs on the processor, by a software driver: for tests only', {
      device: device.name,
    })
}

/** Describes a device for people: `NVIDIA H100, vulkan, 212 tokens/s for one stream`. */
function describeDevice({ name, api, kind }: GpuDevice, streamRate = Number.NaN): string {
  const speed = `${Number(streamRate.toPrecision(3))} tokens/s for one stream`
  return [
    name.slice(0, MAX_NAME),
    api,
    ...(kind === 'software' ? ['software'] : []),
    ...(Number.isFinite(streamRate) ? [speed] : []),
  ].join(', ')
}
