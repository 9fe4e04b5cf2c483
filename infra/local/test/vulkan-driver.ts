import { existsSync, readdirSync } from 'node:fs'

/** Folders in which Vulkan drivers are registered. */
const FOLDERS = ['/usr/share/vulkan/icd.d', '/usr/local/share/vulkan/icd.d', '/etc/vulkan/icd.d']

/** Returns whether a Vulkan driver is installed, also one that runs on the processor; the tests of the GPU addon need one. */
export function hasVulkanDriver(env: Readonly<Record<string, string | undefined>>): boolean {
  if (env['VK_DRIVER_FILES'] || env['VK_ICD_FILENAMES']) return true
  return FOLDERS.some((folder) => existsSync(folder) && readdirSync(folder).length > 0)
}
