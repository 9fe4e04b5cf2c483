import { expect, test } from 'vitest'
import { hasGpuDriver } from '../../../../gpu-node/bench/engine/gpu-driver.ts'

test("NVIDIA's driver alone is enough: containers have it without Vulkan", () => {
  expect(hasGpuDriver({}, (path) => path === '/proc/driver/nvidia/version')).toBe(true)
  expect(hasGpuDriver({ VK_DRIVER_FILES: '/a/driver.json' }, () => false)).toBe(true)
})
