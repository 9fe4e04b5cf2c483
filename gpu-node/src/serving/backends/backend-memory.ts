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

/**
 * Returns the bytes that are free for weights and for keys and values before either is loaded: of the machine, or of the
 * GPU.
 *
 * @throws AppError `invalid_request` when the settings require a GPU and its addon, a driver or the named device is missing
 */
export async function freeBackendMemory(options: BackendMemoryOptions): Promise<number> {
  const free = process.availableMemory()
  if (options.backend !== 'gpu') return free
  const addon = requireGpuAddon(options.loadGpu ?? loadGpu)
  const { kind, memoryBytes } = findDevice(await addon.devices(), options.gpu)
  // Other devices share the memory of the machine, or do not tell theirs.
  const isOwnMemory = kind === 'discrete' || kind === 'virtual'
  return isOwnMemory ? (memoryBytes ?? free) : Math.min(free, memoryBytes ?? free)
}

function findDevice(devices: readonly GpuDevice[], wanted: string | null): GpuDevice {
  const found = devices.find(({ name }) => name.toLowerCase().includes((wanted ?? '').toLowerCase()))
  if (found) return found
  const known = devices.map(({ name }) => name).join(', ')
  throw new AppError(
    'invalid_request',
    known === ''
      ? "COPAL_BACKEND is 'gpu', but no driver of a GPU was found: Vulkan on Linux, Metal, or DX12. Install the card's driver, with libvulkan1 on Debian."
      : `COPAL_GPU is '${wanted}', but the devices here are ${known}. Set it to a part of one of these names or leave it out.`,
  )
}
