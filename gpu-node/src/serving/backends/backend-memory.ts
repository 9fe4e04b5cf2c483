import { AppError } from '@copal/shared/errors.ts'
import type { GpuAddon, GpuDevice } from '../../../gpu/addon.d.ts'
import { loadGpu } from '../../platform/gpu-addon.ts'
import { requireGpuAddon } from './gpu/require-gpu-addon.ts'

/** The settings that decide in which memory weights lie. */
export interface BackendMemoryOptions {
  backend: 'onnx' | 'sparse' | 'gpu' | 'auto'
  /** A part of the name of the GPU; null for the best of the machine. */
  gpu: string | null
  /** Loads the GPU addon; replaced in tests. */
  loadGpu?: () => Pick<GpuAddon, 'devices'>
}

/** The memory in which weights, keys and values lie: of the machine, or of the GPU. */
export interface BackendMemory {
  /** Bytes that are free before any are loaded. */
  freeBytes: number
  /** The largest buffer, bytes: the keys of a layer lie in one, and so do its values. */
  maxBufferBytes: number
}

/**
 * Describes the memory of the backend that the settings require.
 *
 * @throws AppError `invalid_request` when the settings require a GPU and its addon, a driver or the named device is missing
 */
export async function backendMemory(options: BackendMemoryOptions): Promise<BackendMemory> {
  if (options.backend !== 'gpu')
    return { freeBytes: process.availableMemory(), maxBufferBytes: Number.POSITIVE_INFINITY }
  const addon = requireGpuAddon(options.loadGpu ?? loadGpu)
  const device = findDevice(await addon.devices(), options.gpu)
  return { freeBytes: freeDeviceMemory(device), maxBufferBytes: device.maxBindingBytes }
}

/** Returns the bytes of a device's memory; of what is free on the machine where it has none of its own or does not tell. */
export function freeDeviceMemory({ kind, memoryBytes }: GpuDevice): number {
  const free = process.availableMemory()
  const isOwnMemory = kind === 'discrete' || kind === 'virtual'
  return isOwnMemory ? (memoryBytes ?? free) : Math.min(free, memoryBytes ?? free)
}

/**
 * Returns the first device with a part of a name.
 *
 * @param setting the name of the setting that wants it
 * @throws AppError `invalid_request` when there is none
 */
export function findDevice(
  devices: readonly GpuDevice[],
  wanted: string | null,
  setting = 'COPAL_GPU',
): GpuDevice {
  const found = devices.find(({ name }) => name.toLowerCase().includes((wanted ?? '').toLowerCase()))
  if (found) return found
  const known = devices.map(({ name }) => name).join(', ')
  throw new AppError(
    'invalid_request',
    known === ''
      ? "COPAL_BACKEND is 'gpu', but no driver of a GPU was found: Vulkan on Linux, Metal, or DX12. Install the card's driver, with libvulkan1 on Debian."
      : `${setting} is '${wanted}', but the devices here are ${known}. Set it to a part of one of these names or leave it out.`,
  )
}
