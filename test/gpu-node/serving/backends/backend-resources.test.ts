import { expect, test } from 'vitest'
import type { GpuDevice } from '../../../../gpu-node/gpu/addon.d.ts'
import { loadGpu } from '../../../../gpu-node/src/platform/gpu-addon.ts'
import { backendResources } from '../../../../gpu-node/src/serving/backends/backend-resources.ts'

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
const resources = (gpu: string | null, ...devices: GpuDevice[]) =>
  backendResources({ backend: 'gpu', gpu, loadGpu: () => withDevices(...devices) })
const free = async (gpu: string | null, ...devices: GpuDevice[]) =>
  (await resources(gpu, ...devices)).freeBytes

test('a card has its own memory, and a device without one that of the machine', async () => {
  expect(await free(null, CARD, LAPTOP)).toBe(24e9)
  const machine = await free('arc', CARD, LAPTOP)
  expect(machine).toBeGreaterThan(0)
  expect(machine).toBeLessThan(1e15)
  expect(await free(null, { ...CARD, memoryBytes: null })).toBeLessThan(1e15)
  const { freeBytes, maxBufferBytes } = await backendResources({ backend: 'sparse', gpu: null })
  expect(freeBytes).toBeGreaterThan(0)
  expect(maxBufferBytes).toBe(Infinity)
  expect((await resources(null, CARD)).maxBufferBytes).toBe(2 ** 31)
})

test('a missing addon, driver or device is an error that says what to do', async () => {
  const built = backendResources({ backend: 'gpu', gpu: null, loadGpu: () => loadGpu('/nowhere.node') })
  await expect(built).rejects.toThrow(/COPAL_BACKEND is 'gpu'.*build-gpu\.mjs/)
  await expect(free(null)).rejects.toThrow(/no driver of a GPU/)
  await expect(free('radeon', CARD, LAPTOP)).rejects.toThrow(
    /COPAL_GPU is 'radeon'.*vulkan NVIDIA L4, vulkan Intel Arc/,
  )
})

test('updates run on the device that serves, but not on a software driver that nobody named', async () => {
  const cuda: GpuDevice = { ...CARD, api: 'cuda' }
  const software: GpuDevice = { ...CARD, name: 'llvmpipe', kind: 'software' }
  const updateGpu = async (gpu: string | null, ...devices: GpuDevice[]) =>
    (await resources(gpu, ...devices)).updateGpu
  expect(await updateGpu(null, cuda, CARD, software)).toEqual({ device: 'cuda NVIDIA L4' })
  expect(await updateGpu('vulkan', cuda, LAPTOP, CARD)).toEqual({ device: 'vulkan Intel Arc' })
  expect(await updateGpu(null, software)).toBeNull()
  expect(await updateGpu('llvmpipe', software)).toEqual({ device: 'vulkan llvmpipe' })
})
