import { availableParallelism } from 'node:os'
import type { GpuAddon, GpuDevice, GpuEngine } from '../../../../gpu/addon.d.ts'
import type { Addon, Precision } from '../../../../native/addon.d.ts'
import type { Log } from '../../../platform/log.ts'
import { MAX_THREADS, type WeightSet } from '../../contract/backend.ts'
import { createScriptLogitKernels } from '../../sampling/logit-kernels.ts'
import { createEngineBackend, type EngineBackend } from '../sparse/engine-backend.ts'
import { createModelEngine, SELF_TEST_TOKENS } from '../sparse/model-engine.ts'
import { denseBytesPerWeight } from '../sparse/weight-bytes.ts'
import { createNativeLogitKernels } from '../sparse/native-logit-kernels.ts'
import { measureStream } from './stream-speed.ts'

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
}

/** Longest name of a device in a description, so that the speed and the precision have room behind it. */
const MAX_NAME = 50

/** A {@link EngineBackend} on a GPU. */
export interface GpuBackend extends EngineBackend {
  /** Loses the device of every engine; for tests. */
  provokeDeviceLoss(): void
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
  const backend = createEngineBackend({
    name: ['gpu', precision, ...(headPrecision === precision ? [] : [`head-${headPrecision}`])].join('-'),
    bytesPerWeight: denseBytesPerWeight(precision),
    createEngine({ config }) {
      const engine = createModelEngine(addon, config, {
        kernel: null,
        device: options.device,
        threads,
        precision,
        headPrecision,
        kvTokens: options.kvTokens ?? 4 * config.contextLength,
        ownTokens: SELF_TEST_TOKENS + (options.ownTokens ?? 0),
      })
      latest = engine.native
      announce(latest.device, log)
      return engine
    },
    createLogitKernels: (vocabSize) =>
      native ? createNativeLogitKernels(native, vocabSize) : createScriptLogitKernels(vocabSize),
    packThreads: threads,
    log,
  })
  /** Measures one stream on the first set, which nothing uses yet. */
  async function measureFirst(weights: WeightSet): Promise<void> {
    if (streamRate !== undefined || weights.source.priority !== 'serving') return
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
      const weights = await backend.load(source)
      await measureFirst(weights)
      return weights
    },
    device: () => (latest ? describeDevice(latest.device, streamRate) : undefined),
    provokeDeviceLoss: () => latest?.provokeDeviceLoss(),
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
