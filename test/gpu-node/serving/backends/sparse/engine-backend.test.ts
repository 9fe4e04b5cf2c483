/** Tests what remains of a weight set that an engine fails to release. contract.test.ts tests the contract with real engines. */
import { AppError } from '@copal/shared/errors.ts'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { EngineWeights } from '../../../../../gpu-node/native/addon.d.ts'
import { createEngineBackend } from '../../../../../gpu-node/src/serving/backends/sparse/engine-backend.ts'
import type { ModelEngine } from '../../../../../gpu-node/src/serving/backends/sparse/model-engine.ts'
import { createScriptLogitKernels } from '../../../../../gpu-node/src/serving/sampling/logit-kernels.ts'
import { openTinyModel } from '../../../../support/models/tiny-model.ts'
import { WAIT } from '../../../../support/harness/wait.ts'

/** A backend whose engine releases no set: it fails. */
async function setup(faults: Partial<ModelEngine> = {}) {
  const tiny = await openTinyModel()
  onTestFinished(() => tiny.remove())
  const { model } = tiny
  const close = vi.fn<() => Promise<void>>(async () => undefined)
  const engine = {
    native: { kernel: 'double' },
    load: async () => ({ bytes: 0, memoryBytes: 0 }) as EngineWeights,
    tryOut: async () => new Float32Array(2 * model.config.vocabSize),
    release: () => Promise.reject(new AppError('node_failed', 'The engine releases nothing.')),
    close,
    ...faults,
  } as unknown as ModelEngine
  const backend = createEngineBackend({
    name: 'double',
    bytesPerWeight: 2,
    createEngine: () => engine,
    numerics: () => 'double',
    createLogitKernels: createScriptLogitKernels,
    packThreads: 1,
  })
  const load = () => backend.load({ model, version: 0, maskPath: null, priority: 'serving' })
  return { backend, load, close }
}

test('the engine of a set that it does not release is closed, and the set has ended', async () => {
  const { backend, load, close } = await setup()
  const weights = await load()
  await expect(backend.release(weights)).rejects.toThrow('releases nothing')
  expect(close).toHaveBeenCalledOnce()
  expect(await weights.ended).toMatchObject({ code: 'node_failed' })
  await backend.release(weights)
})

test('the engine of a set that fails its self-test and is not released is closed', async () => {
  const { load, close } = await setup({
    tryOut: () => Promise.reject(new AppError('node_failed', 'The self-test failed.')),
  })
  await expect(load()).rejects.toThrow('self-test failed')
  expect(close).toHaveBeenCalledOnce()
})

test('an engine that has lost its device, and its sets with it, is closed', async () => {
  const lost = Object.assign(new Error('the device is lost'), { code: 'DeviceLost' })
  const { backend, load, close } = await setup({
    step: () => Promise.reject(new AppError('node_failed', 'The device is lost.', { cause: lost })),
  })
  const weights = await load()
  await expect(backend.step({ weights, work: [], drop: [] })).rejects.toThrow('device is lost')
  expect(await weights.ended).toMatchObject({ code: 'node_failed' })
  await vi.waitFor(() => expect(close).toHaveBeenCalledOnce(), WAIT)
})
