import { AppError } from '@copal/shared/errors.ts'
import type { GpuAddon, GpuDevice, GpuSelection } from '../../../gpu/addon.d.ts'
import type { Precision } from '../../../native/addon.d.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'
import { isGpuFault, loadGpu } from '../../platform/gpu-addon.ts'
import type { Log } from '../../platform/log.ts'
import { modelShape } from '../../pruning/graph/model-shape.ts'
import type { NodeGpu } from '../../pruning/runs/choose-device.ts'
import { OPENING_TIMEOUT_MS, type CallWatch } from './gpu/call-watch.ts'
import { requireGpuAddon } from './gpu/require-gpu-addon.ts'

/** The settings that decide what a backend runs on. */
export interface BackendResourcesOptions {
  backend: 'onnx' | 'sparse' | 'gpu' | 'auto'
  /** A part of the interface and name of the GPU; null for the best of the machine. */
  gpu: string | null
  precision: Precision
  headPrecision: Precision
  /** The model that is served. */
  config: LlamaConfig
  log: Pick<Log, 'warn'>
  /** Watches calls of the GPU for hangs. */
  gpuCalls: CallWatch
  /** Loads the GPU addon; replaced in tests. */
  loadGpu?: () => Pick<GpuAddon, 'devices' | 'selectDevice'>
}

/** What a backend runs on: the memory in which weights, keys and values lie, of the machine or of the GPU. */
export interface BackendResources {
  /** Bytes that are free before any are loaded. */
  freeBytes: number
  /** The largest buffer, bytes: the keys of a layer lie in one, and so do its values. */
  maxBufferBytes: number
  /** Interface and name of the GPU; null where the processor does everything. */
  gpu: string | null
  /** The GPU of updates; null where the processor does everything. */
  updateGpu: NodeGpu | null
}

/**
 * Describes what the backend that the settings require runs on. Of a GPU, the kernels of the model are compiled if the driver keeps
 * them, while the event loop goes on. If the best driver of a GPU cannot be used, the next one is, or the next GPU, with a warning.
 *
 * @throws AppError `invalid_request` when the settings require a GPU and its addon, a driver or the named device is missing, or
 * does not open; `node_failed` when it hangs
 */
export async function backendResources(options: BackendResourcesOptions): Promise<BackendResources> {
  if (options.backend !== 'gpu')
    return {
      freeBytes: process.availableMemory(),
      maxBufferBytes: Number.POSITIVE_INFINITY,
      gpu: null,
      updateGpu: null,
    }
  const addon = requireGpuAddon(options.loadGpu ?? loadGpu)
  // Says what to do where there is none.
  findDevice(
    await options.gpuCalls.run('finding devices', () => addon.devices(), OPENING_TIMEOUT_MS),
    options.gpu,
  )
  const { device, passedOver } = await selectDevice(addon, options)
  for (const { device: other, reason } of passedOver) {
    const instead =
      other.name === device.name
        ? 'the GPU is used by another driver, because the best one cannot be used'
        : 'another GPU serves, because the best one cannot be used'
    options.log.warn(instead, { driver: titleOf(other), reason, instead: titleOf(device) })
  }
  return {
    freeBytes: freeDeviceMemory(device),
    maxBufferBytes: device.maxBindingBytes,
    gpu: titleOf(device),
    // A software driver gains nothing; who names one wants to see what it does.
    updateGpu: device.kind === 'software' && options.gpu === null ? null : { device: titleOf(device) },
  }
}

async function selectDevice(
  addon: Pick<GpuAddon, 'selectDevice'>,
  { gpu, precision, headPrecision, config, gpuCalls }: BackendResourcesOptions,
): Promise<GpuSelection> {
  try {
    const selection = { device: gpu, precision, headPrecision, model: modelShape(config) }
    return await gpuCalls.run('choosing a device', () => addon.selectDevice(selection), OPENING_TIMEOUT_MS)
  } catch (error) {
    if (!isGpuFault(error)) throw error
    const message = `COPAL_BACKEND is 'gpu', but no device can be used: ${error.message}.`
    throw new AppError('invalid_request', message, { cause: error })
  }
}

/** Returns what a setting names a device by. */
function titleOf({ api, name }: GpuDevice): string {
  return `${api} ${name}`
}

/** Returns the bytes of a device's memory; of what is free on the machine where it has none of its own or does not tell. */
export function freeDeviceMemory({ kind, memoryBytes }: GpuDevice): number {
  const free = process.availableMemory()
  const isOwnMemory = kind === 'discrete' || kind === 'virtual'
  return isOwnMemory ? (memoryBytes ?? free) : Math.min(free, memoryBytes ?? free)
}

/**
 * Returns the first device whose interface and name, such as `vulkan NVIDIA L4`, contain a text.
 *
 * @param setting the name of the setting that wants it
 * @throws AppError `invalid_request` when there is none
 */
export function findDevice(
  devices: readonly GpuDevice[],
  wanted: string | null,
  setting = 'COPAL_GPU',
): GpuDevice {
  const found = devices.find((device) =>
    titleOf(device)
      .toLowerCase()
      .includes((wanted ?? '').toLowerCase()),
  )
  if (found) return found
  const known = devices.map(titleOf).join(', ')
  throw new AppError(
    'invalid_request',
    known === ''
      ? "COPAL_BACKEND is 'gpu', but no driver of a GPU was found: CUDA or Vulkan on Linux, Metal, or DX12. Install the card's driver, with libvulkan1 on Debian."
      : `${setting} is '${wanted}', but the devices here are ${known}. Set it to a part of one of these names or leave it out.`,
  )
}
