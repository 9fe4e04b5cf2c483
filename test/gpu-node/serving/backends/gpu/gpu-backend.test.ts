/** Tests what is specific to the GPU backend: a lost device and too little memory. contract.test.ts tests the contract. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { AppError } from '@copal/shared/errors.ts'
import type { GpuAddon } from '../../../../../gpu-node/gpu/addon.d.ts'
import {
  createGpuBackend,
  type GpuBackend,
} from '../../../../../gpu-node/src/serving/backends/gpu/gpu-backend.ts'
import { createEngine } from '../../../../../gpu-node/src/serving/engine/engine.ts'
import { createMaskSwap } from '../../../../../gpu-node/src/serving/masks/mask-swap.ts'
import { memoryLog } from '../../../../support/doubles/memory-log.ts'
import { randomTokens, Steps } from '../../../../support/engine/backend-steps.ts'
import { gpu, skipWithoutGpu } from '../../../../support/engine/gpu.ts'
import { temporaryDir } from '../../../../support/harness/temporary.ts'
import { WAIT } from '../../../../support/harness/wait.ts'
import { randomHalfMask } from '../../../../support/models/random-masks.ts'
import { openTinyModel, type TinyModel } from '../../../../support/models/tiny-model.ts'

if ('addon' in gpu) testGpu(gpu.addon)
else skipWithoutGpu('the GPU backend')

function testGpu(addon: GpuAddon): void {
  async function open(): Promise<TinyModel> {
    const tiny = await openTinyModel()
    onTestFinished(() => tiny.remove())
    return tiny
  }

  const load = (backend: GpuBackend, { model }: TinyModel) =>
    backend.load({ model, version: 0, maskPath: null, priority: 'serving' })

  test('a lost device ends its sets, and the next load opens it again with the same results', async () => {
    const tiny = await open()
    const backend = createGpuBackend({ addon, kvTokens: 256, ownTokens: 256 })
    const weights = await load(backend, tiny)
    const prompt = randomTokens(1, 12)
    const before = await new Steps(backend, weights).generate(1, prompt, 4)
    backend.provokeDeviceLoss()
    const failed = new Steps(backend, weights).generate(2, prompt, 4)
    await expect(failed).rejects.toMatchObject({ code: 'node_failed' })
    expect(await weights.ended).toMatchObject({ code: 'node_failed' })
    await backend.release(weights)
    const reloaded = await load(backend, tiny)
    onTestFinished(() => backend.release(reloaded))
    expect(await new Steps(backend, reloaded).generate(1, prompt, 4)).toEqual(before)
  })

  test('a node whose device is lost loads its masks again by itself and serves on', async () => {
    const { model } = await open()
    const maskPath = join(temporaryDir(), 'mask.safetensors')
    await writeFile(maskPath, randomHalfMask(model, 1).bytes)
    const backend = createGpuBackend({ addon, kvTokens: 1024 })
    const engine = createEngine({
      backend,
      config: model.config,
      codec: model.codec,
      policy: { kvTokens: 512 },
    })
    const log = memoryLog()
    const masks = { ensure: () => Promise.resolve(maskPath) }
    const swap = createMaskSwap({ model, backend, engine, masks, log, onChange: () => undefined })
    onTestFinished(() => swap.close())
    onTestFinished(() => engine.close())
    await swap.start({ active: { version: 1, sha256: '1'.repeat(64) }, previous: null })
    await swap.settled()
    const tokens = [...randomTokens(2, 16)]
    const score = (version: number) =>
      engine.score({ weights: swap.weights(version)!, tokens, lane: 'drift' })
    const before = [await score(0), await score(1)]
    backend.provokeDeviceLoss()
    await expect(score(1)).rejects.toMatchObject({ code: 'node_failed' })
    const states = () => swap.weightSets().map(({ version, state }) => [version, state])
    await vi.waitFor(
      () =>
        expect(states()).toEqual([
          [0, 'ready'],
          [1, 'ready'],
        ]),
      WAIT,
    )
    expect([await score(0), await score(1)]).toEqual(before)
    expect(swap.activeVersion()).toBe(1)
  })

  test('pages that do not fit the device are an error that names the setting', async () => {
    const tiny = await open()
    const backend = createGpuBackend({ addon, kvTokens: 1e9 })
    const failure = await load(backend, tiny).then(
      () => undefined,
      (error: AppError) => error,
    )
    expect(failure).toMatchObject({
      code: 'node_failed',
      message: expect.stringContaining('COPAL_KV_TOKENS'),
    })
  })

  test('a device that is not there is an error, and the device in use is described', async () => {
    const tiny = await open()
    const absent = createGpuBackend({ addon, device: 'no such card' })
    await expect(load(absent, tiny)).rejects.toMatchObject({ code: 'node_failed' })
    const backend = createGpuBackend({ addon, kvTokens: 256 })
    expect(backend.device?.()).toBeUndefined()
    await backend.release(await load(backend, tiny))
    expect(backend.device?.()).toMatch(/vulkan|metal|dx12/)
  })
}
