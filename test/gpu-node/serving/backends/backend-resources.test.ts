import { expect, test } from 'vitest'
import type { GpuAddon, GpuDevice } from '../../../../gpu-node/gpu/addon.d.ts'
import type { LlamaConfig } from '../../../../gpu-node/src/model/config/llama-config.ts'
import { loadGpu } from '../../../../gpu-node/src/platform/gpu-addon.ts'
import {
  backendResources,
  type BackendResourcesOptions,
} from '../../../../gpu-node/src/serving/backends/backend-resources.ts'
import { createCallWatch } from '../../../../gpu-node/src/serving/backends/gpu/call-watch.ts'
import { memoryLog } from '../../../support/doubles/memory-log.ts'

const CARD: GpuDevice = {
  name: 'NVIDIA L4',
  api: 'vulkan',
  kind: 'discrete',
  driver: '550',
  maxBindingBytes: 2 ** 31,
  memoryBytes: 24e9,
}
const CONFIG: LlamaConfig = {
  vocabSize: 100,
  hiddenSize: 32,
  intermediateSize: 64,
  layers: 1,
  heads: 2,
  kvHeads: 1,
  headDim: 16,
  ropeTheta: 10_000,
  ropeScaling: null,
  rmsNormEps: 1e-5,
  contextLength: 64,
  tiedEmbedding: true,
  bosTokenId: 1,
  eosTokenIds: [2],
}
const LAPTOP: GpuDevice = { ...CARD, name: 'Intel Arc', kind: 'integrated', memoryBytes: 1e15 }

const log = memoryLog()
const MODEL: Pick<BackendResourcesOptions, 'precision' | 'headPrecision' | 'config' | 'log' | 'gpuCalls'> = {
  precision: 'bf16',
  headPrecision: 'int8',
  config: CONFIG,
  log,
  gpuCalls: createCallWatch(() => {}),
}

/** An addon with devices of which some do not open; no test machine has these. */
function withDevices(devices: readonly GpuDevice[], broken: readonly GpuDevice[] = []) {
  const titleOf = ({ api, name }: GpuDevice) => `${api} ${name}`.toLowerCase()
  const addon: Pick<GpuAddon, 'devices' | 'selectDevice'> = {
    devices: () => Promise.resolve([...devices]),
    async selectDevice({ device, precision, headPrecision, model }) {
      expect([precision, headPrecision, model.hidden]).toEqual(['bf16', 'int8', CONFIG.hiddenSize])
      const named = devices.filter((each) => titleOf(each).includes((device ?? '').toLowerCase()))
      const first = named.find((each) => !broken.includes(each))
      const passedOver = named
        .slice(0, first ? named.indexOf(first) : undefined)
        .map((each) => ({ device: each, reason: `${each.api} does not open` }))
      if (first) return { device: first, passedOver }
      const reason = passedOver.map((each) => each.reason).join('; ')
      throw Object.assign(new Error(reason), { code: 'DeviceUnavailable' })
    },
  }
  return () => addon
}
const resources = (gpu: string | null, ...devices: GpuDevice[]) =>
  backendResources({ ...MODEL, backend: 'gpu', gpu, loadGpu: withDevices(devices) })
const free = async (gpu: string | null, ...devices: GpuDevice[]) =>
  (await resources(gpu, ...devices)).freeBytes

test('a card has its own memory, and a device without one that of the machine', async () => {
  expect(await free(null, CARD, LAPTOP)).toBe(24e9)
  const machine = await free('arc', CARD, LAPTOP)
  expect(machine).toBeGreaterThan(0)
  expect(machine).toBeLessThan(1e15)
  expect(await free(null, { ...CARD, memoryBytes: null })).toBeLessThan(1e15)
  const { freeBytes, maxBufferBytes } = await backendResources({
    ...MODEL,
    backend: 'sparse',
    gpu: null,
  })
  expect(freeBytes).toBeGreaterThan(0)
  expect(maxBufferBytes).toBe(Infinity)
  expect((await resources(null, CARD)).maxBufferBytes).toBe(2 ** 31)
})

test('a missing addon, driver or device is an error that says what to do', async () => {
  const built = backendResources({
    ...MODEL,
    backend: 'gpu',
    gpu: null,
    loadGpu: () => loadGpu('/nowhere.node'),
  })
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

test('where the best driver of a card cannot be used, the next one is, or the next card, and one line says why', async () => {
  const cuda: GpuDevice = { ...CARD, api: 'cuda', maxBindingBytes: 24e9 }
  const loadGpuAddon = withDevices([cuda, CARD], [cuda])
  const found = (gpu: string | null) =>
    backendResources({ ...MODEL, backend: 'gpu', gpu, loadGpu: loadGpuAddon })
  log.lines.length = 0
  // What the node takes of it is by the limits of the driver that serves.
  expect(await found(null)).toMatchObject({
    gpu: 'vulkan NVIDIA L4',
    maxBufferBytes: 2 ** 31,
    updateGpu: { device: 'vulkan NVIDIA L4' },
  })
  expect(log.lines).toEqual([
    expect.stringMatching(
      / warn the GPU is used by another driver, .* driver="cuda NVIDIA L4" reason="cuda does not open" instead="vulkan NVIDIA L4"$/,
    ),
  ])
  log.lines.length = 0
  const other = withDevices([cuda, { ...CARD, name: 'NVIDIA T4' }], [cuda])
  await backendResources({ ...MODEL, backend: 'gpu', gpu: null, loadGpu: other })
  expect(log.lines).toEqual([
    expect.stringMatching(
      / warn another GPU serves, .* driver="cuda NVIDIA L4" reason="cuda does not open" instead="vulkan NVIDIA T4"$/,
    ),
  ])
  await expect(found('cuda')).rejects.toMatchObject({
    code: 'invalid_request',
    message: "COPAL_BACKEND is 'gpu', but no device can be used: cuda does not open.",
  })
})
