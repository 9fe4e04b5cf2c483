import { AppError } from '@copal/shared/errors.ts'
import type { GpuAddon, GpuDevice } from '../../../gpu/addon.d.ts'
import { loadGpu } from '../../platform/gpu-addon.ts'
import type { NodeGpu } from '../../pruning/runs/choose-device.ts'
import { requireGpuAddon } from './gpu/require-gpu-addon.ts'

/** The settings that decide what a backend runs on. */
export interface BackendResourcesOptions {
  backend: 'onnx' | 'sparse' | 'gpu' | 'auto'
  /** A part of the interface and name of the GPU; null for the best of the machine. */
  gpu: string | null
  /** Loads the GPU addon; replaced in tests. */
  loadGpu?: () => Pick<GpuAddon, 'devices'>
}

/** What a backend runs on: the memory in which weights, keys and values lie, of the machine or of the GPU. */
export interface BackendResources {
  /** Bytes that are free before any are loaded. */
  freeBytes: number
  /** The largest buffer, bytes: the keys of a layer lie in one, and so do its values. */
  maxBufferBytes: number
  /** The GPU of updates; null where the processor does everything. */
  updateGpu: NodeGpu | null
}

/**
 * Describes what the backend that the settings require runs on.
 *
 * @throws AppError `invalid_request` when the settings require a GPU and its addon, a driver or the named device is missing
 */
export async function backendResources(options: BackendResourcesOptions): Promise<BackendResources> {
  if (options.backend !== 'gpu')
    return {
      freeBytes: process.availableMemory(),
      maxBufferBytes: Number.POSITIVE_INFINITY,
      updateGpu: null,
    }
  const addon = requireGpuAddon(options.loadGpu ?? loadGpu)
  const device = findDevice(await addon.devices(), options.gpu)
  return {
    freeBytes: freeDeviceMemory(device),
    maxBufferBytes: device.maxBindingBytes,
    // A software driver gains nothing; who names one wants to see what it does.
    updateGpu: device.kind === 'software' && options.gpu === null ? null : { device: titleOf(device) },
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
