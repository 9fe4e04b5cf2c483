import { existsSync } from 'node:fs'
import { hasVulkanDriver } from '../../../infra/local/test/vulkan-driver.ts'

/** What NVIDIA's driver has on Linux, in containers without graphics too, and in Windows' subsystem for Linux. */
const CUDA_FILES = ['/proc/driver/nvidia/version', '/usr/lib/wsl/lib/libcuda.so.1']

/**
 * Returns whether Linux has a driver through which the GPU addon may find a device: before the addon is built, which takes
 * minutes.
 */
export function hasGpuDriver(
  env: Readonly<Record<string, string | undefined>>,
  exists: (path: string) => boolean = existsSync,
): boolean {
  return CUDA_FILES.some(exists) || hasVulkanDriver(env)
}
