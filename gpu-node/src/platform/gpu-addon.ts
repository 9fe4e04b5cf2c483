import { join } from 'node:path'
import type { GpuAddon, GpuErrorCode } from '../../gpu/addon.d.ts'
import { GPU_CRATE, gpuSourceHash } from '../../gpu/source-hash.mjs'
import { loadAddonInto, type Library } from './native-addon.ts'

/** Thrown when there is no fitting GPU addon. The message names the file, the reason and what to do. */
export class GpuUnavailableError extends Error {
  override readonly name = 'GpuUnavailableError'

  constructor(path: string, reason: string) {
    super(
      `The GPU addon is not available (${path}: ${reason}). Build it with 'node infra/local/build-gpu.mjs', which needs cargo.`,
    )
  }
}

const FAULTS: ReadonlySet<unknown> = new Set<GpuErrorCode>(['DeviceLost', 'DeviceUnavailable', 'OutOfMemory'])

/** Returns whether an error says that there is no device for the work: it is lost, missing, or has too little memory. */
export function isGpuFault(error: unknown): error is Error {
  if (error instanceof GpuUnavailableError) return true
  return error instanceof Error && 'code' in error && FAULTS.has(error.code)
}

/** Path of the addon that the build writes for this platform. */
function gpuAddonPath(): string {
  return join(GPU_CRATE, `copal-gpu.${process.platform}-${process.arch}.node`)
}

/** Loads the GPU addon. @throws {GpuUnavailableError} unless it loads and was built from the sources beside it */
export function loadGpu(path = gpuAddonPath()): GpuAddon {
  const library: Library<GpuAddon> = { exports: {} }
  const addon = loadAddonInto(library, path, gpuSourceHash())
  if (typeof addon === 'string') throw new GpuUnavailableError(path, addon)
  return addon
}
