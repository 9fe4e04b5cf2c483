import { expect, test } from 'vitest'
import type { GpuDevice } from '../../../../gpu-node/gpu/addon.d.ts'
import { loadGpu } from '../../../../gpu-node/src/platform/gpu-addon.ts'
import { backendMemory } from '../../../../gpu-node/src/serving/backends/backend-memory.ts'

const CARD: GpuDevice = {
  name: 'NVIDIA L4',
  api: 'vulkan',
  kind: 'discrete',
  driver: '550',
  maxBindingBytes: 2 ** 31,
  memoryBytes: 24e9,
}
const LAPTOP: GpuDevice = { ...CARD, name: 'Intel Arc', kind: 'integrated', memoryBytes: 1e15 }

/** Lists devices; no test machine has these. */
const withDevices = (...devices: GpuDevice[]) => ({ devices: () => Promise.resolve(devices) })
const memory = (gpu: string | null, ...devices: GpuDevice[]) =>
  backendMemory({ backend: 'gpu', gpu, loadGpu: () => withDevices(...devices) })
const free = async (gpu: string | null, ...devices: GpuDevice[]) => (await memory(gpu, ...devices)).freeBytes

test('a card has its own memory, and a device without one that of the machine', async () => {
  expect(await free(null, CARD, LAPTOP)).toBe(24e9)
  const machine = await free('arc', CARD, LAPTOP)
  expect(machine).toBeGreaterThan(0)
  expect(machine).toBeLessThan(1e15)
  expect(await free(null, { ...CARD, memoryBytes: null })).toBeLessThan(1e15)
  const { freeBytes, maxBufferBytes } = await backendMemory({ backend: 'sparse', gpu: null })
  expect(freeBytes).toBeGreaterThan(0)
  expect(maxBufferBytes).toBe(Infinity)
  expect((await memory(null, CARD)).maxBufferBytes).toBe(2 ** 31)
})

test('a missing addon, driver or device is an error that says what to do', async () => {
  const built = backendMemory({ backend: 'gpu', gpu: null, loadGpu: () => loadGpu('/nowhere.node') })
  await expect(built).rejects.toThrow(/COPAL_BACKEND is 'gpu'.*build-gpu\.mjs/)
  await expect(free(null)).rejects.toThrow(/no driver of a GPU/)
  await expect(free('radeon', CARD, LAPTOP)).rejects.toThrow(/COPAL_GPU is 'radeon'.*NVIDIA L4, Intel Arc/)
})
