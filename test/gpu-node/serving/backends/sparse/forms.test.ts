/** Measures and loads the forms of pruned weights with the real addon on a tiny model. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { Addon, Engine as NativeEngine } from '../../../../../gpu-node/native/addon.d.ts'
import type { WeightSet } from '../../../../../gpu-node/src/serving/contract/backend.ts'
import { createFormMeter } from '../../../../../gpu-node/src/serving/backends/sparse/form-figures.ts'
import {
  createSparseBackend,
  type SparseBackendOptions,
} from '../../../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'
import { addon } from '../../../../support/engine/backends.ts'
import { skipWithoutAddon } from '../../../../support/harness/skip-without-addon.ts'
import { temporaryDir } from '../../../../support/harness/temporary.ts'
import { randomHalfMask } from '../../../../support/models/random-masks.ts'
import { openTinyModel } from '../../../../support/models/tiny-model.ts'

if (addon) testForms(addon)
else skipWithoutAddon('the forms of pruned weights')

function testForms(built: Addon): void {
  async function openMasked() {
    const tiny = await openTinyModel()
    onTestFinished(() => tiny.remove())
    const maskPath = join(temporaryDir(), 'mask.safetensors')
    await writeFile(maskPath, randomHalfMask(tiny.model, 3).bytes)
    return { model: tiny.model, version: 1, maskPath, priority: 'serving' } as const
  }

  const newBackend = (options: Partial<SparseBackendOptions> = {}) =>
    createSparseBackend({ addon: built, threads: 2, ownTokens: 64, ...options })

  test.each([
    ['bf16', 0],
    ['int8', 0],
    ['int4', 0.05],
  ] as const)('in %s the losses of the forms differ by %d nats at most', async (precision, limit) => {
    const source = await openMasked()
    const losses: number[][] = []
    const bytes: number[] = []
    for (const form of ['packed', 'dense'] as const) {
      const backend = newBackend({ precision, form })
      const weights = await backend.load(source)
      const tokens = Int32Array.from({ length: 20 }, (_, index) => (index * 7) % 50)
      const { outputs } = await backend.step({
        weights,
        work: [{ sequence: 1, tokens, position: 0, output: 'nll', targets: tokens }],
        drop: [],
      })
      const [output] = outputs
      losses.push(output?.kind === 'nll' ? [...output.nll] : [])
      bytes.push(weights.bytes ?? 0)
      expect(weights.form?.name).toBe(form)
      await backend.release(weights)
    }
    const [packed = [], dense = []] = losses
    expect(packed).toHaveLength(20)
    expect(Math.max(...packed.map((loss, index) => Math.abs(loss - dense[index]!)))).toBeLessThanOrEqual(
      limit,
    )
    // On a model this small, the bits of int8 take as much as the values that they save.
    expect((bytes[0] ?? 0) < (bytes[1] ?? 0) || precision === 'int8').toBe(true)
  })

  test('auto measures a kind of mask once, keeps the figures in the cache folder and says what it found', async () => {
    const source = await openMasked()
    const cacheDir = temporaryDir()
    let samples = 0
    const counting = {
      sourceHash: () => built.sourceHash(),
      createFormSample(options: Parameters<Addon['createFormSample']>[0]) {
        samples += 1
        return built.createFormSample(options)
      },
    }
    const load = async (): Promise<WeightSet> => {
      const backend = newBackend({
        form: 'auto',
        formMeter: createFormMeter({ addon: counting, cacheDir }),
      })
      const weights = await backend.load(source)
      await backend.release(weights)
      return weights
    }
    const first = await load()
    expect(first.form?.why).toMatch(
      /^measured: packed runs \d+\.\d\d × \(\d+\.\d\d–\d+\.\d\d\) as fast as dense at one stream, .* at 8, .* in prefill$/,
    )
    expect((await load()).form).toEqual(first.form)
    expect(samples).toBe(1)

    const [file = ''] = await readdir(join(cacheDir, 'forms'))
    const stored = JSON.parse(await readFile(join(cacheDir, 'forms', file), 'utf8')) as object
    expect(stored).toMatchObject({ subject: { precision: 'bf16', threads: 2, kernels: built.sourceHash() } })
    await writeFile(join(cacheDir, 'forms', file), 'damaged')
    await load()
    expect(samples, 'a damaged file is measured again').toBe(2)
  })

  test('a load that is cancelled while auto measures ends before the next piece, and leaves nothing', async () => {
    const cancelled = new AbortController()
    let pieces = 0
    const watched = {
      sourceHash: () => built.sourceHash(),
      async createFormSample(options: Parameters<Addon['createFormSample']>[0]) {
        const sample = await built.createFormSample(options)
        return {
          bytes: (...of: Parameters<typeof sample.bytes>) => sample.bytes(...of),
          free: () => sample.free(),
          time(...piece: Parameters<typeof sample.time>) {
            pieces += 1
            cancelled.abort(new Error('no longer wanted'))
            return sample.time(...piece)
          },
        }
      },
    }
    const formMeter = createFormMeter({ addon: watched, cacheDir: temporaryDir() })
    const backend = newBackend({ form: 'auto', formMeter })
    const source = await openMasked()
    await expect(backend.load({ ...source, signal: cancelled.signal })).rejects.toThrow('no longer wanted')
    expect(pieces).toBe(1)
    expect(() => backend.provokePanic(), 'the engine is closed').not.toThrow()
    expect(backend.usage()).toEqual({ sequences: 0, pages: 0, ownPages: 0 })
  })

  test('a load that is cancelled while it packs ends before the next linear, and leaves nothing', async () => {
    const cancelled = new AbortController()
    let loads = 0
    class WatchedEngine extends built.Engine {
      override load(...given: Parameters<NativeEngine['load']>): ReturnType<NativeEngine['load']> {
        loads += 1
        cancelled.abort(new Error('no longer wanted'))
        return super.load(...given).finally(() => (loads -= 1))
      }
    }
    const backend = newBackend({ addon: { ...built, Engine: WatchedEngine } })
    const source = await openMasked()
    await expect(backend.load({ ...source, signal: cancelled.signal })).rejects.toThrow('no longer wanted')
    expect(loads, 'the addon no longer packs').toBe(0)
    expect(backend.usage()).toEqual({ sequences: 0, pages: 0, ownPages: 0 })
    await backend.release(await backend.load(source))
  })

  test('auto measures nothing in int4, where the kernel decides', async () => {
    const backend = newBackend({
      form: 'auto',
      precision: 'int4',
      formMeter: { figures: () => Promise.reject(new Error('measured')) },
    })
    const weights = await backend.load(await openMasked())
    expect(weights.form?.why).toMatch(/int4/)
    await backend.release(weights)
  })

  test('a sample that cannot be measured leaves the packed form', async () => {
    const source = await openMasked()
    const broken = {
      sourceHash: () => '',
      createFormSample: () => Promise.reject(new Error('no memory')),
    }
    const reasons: unknown[] = []
    const log = { info: (message: string, fields?: object) => void reasons.push([message, fields]) }
    const formMeter = createFormMeter({ addon: broken, cacheDir: temporaryDir(), log })
    const backend = newBackend({ form: 'auto', formMeter })
    const weights = await backend.load(source)
    expect(weights.form).toEqual({ name: 'packed', why: 'not measured on this machine' })
    expect(reasons).toContainEqual(['the form of pruned weights cannot be measured', { reason: 'no memory' }])
    await backend.release(weights)
  })

  test.runIf(process.platform === 'linux')(
    'the last set of a model ends the threads of its engine, and the model can be loaded again',
    async () => {
      const source = await openMasked()
      const before = await engineThreads()
      const ownThreads = async () => (await engineThreads()).filter((id) => !before.includes(id))
      const backend = newBackend()
      const [one, two] = [await backend.load(source), await backend.load({ ...source, version: 2 })]
      // A thread gets its name when it first runs.
      await expect.poll(ownThreads).toHaveLength(2)
      await backend.release(one)
      expect(await ownThreads()).toHaveLength(2)
      await backend.release(two)
      // The system lists a thread for a moment after its end.
      await expect.poll(ownThreads).toEqual([])
      expect(backend.usage()).toEqual({ sequences: 0, pages: 0, ownPages: 0 })
      await backend.release(await backend.load(source))
      await expect.poll(ownThreads).toEqual([])
    },
  )
}

/** Returns the ids of the threads of engines in this process. */
async function engineThreads(): Promise<string[]> {
  const threads = await readdir('/proc/self/task')
  const names = await Promise.all(
    threads.map((id) => readFile(`/proc/self/task/${id}/comm`, 'utf8').catch(() => '')),
  )
  return threads.filter((_, index) => names[index]?.startsWith('copal-'))
}
