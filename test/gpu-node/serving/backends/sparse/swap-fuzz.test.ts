/**
 * Runs random swaps under random load, with freed memory poisoned: every output equals that of one mask alone. Takes a few seconds, or
 * `COPAL_FUZZ_SECONDS`.
 */
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { AppError } from '@copal/shared/errors.ts'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { Addon } from '../../../../../gpu-node/native/addon.d.ts'
import type { WeightSet } from '../../../../../gpu-node/src/serving/contract/backend.ts'
import { createSparseBackend } from '../../../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'
import type { Engine } from '../../../../../gpu-node/src/serving/engine/engine-api.ts'
import { createEngine } from '../../../../../gpu-node/src/serving/engine/engine.ts'
import type { GenerateRequest } from '../../../../../gpu-node/src/serving/engine/generation-request.ts'
import { checkInvariants } from '../../../../support/engine/engine-invariants.ts'
import { addon } from '../../../../support/engine/backends.ts'
import { collectGarbage } from '../../../../support/harness/collect-garbage.ts'
import { fuzzSeconds } from '../../../../support/harness/fuzz-seconds.ts'
import { GREEDY } from '../../../../../gpu-node/src/serving/contract/greedy.ts'
import { skipWithoutAddon } from '../../../../support/harness/skip-without-addon.ts'
import { randomHalfMask } from '../../../../support/models/random-masks.ts'
import { createRandom } from '../../../../support/harness/random.ts'
import { temporaryDir } from '../../../../support/harness/temporary.ts'
import { openTinyModel, type TinyModel } from '../../../../support/models/tiny-model.ts'

// Set this variable to run the test longer.
vi.setConfig({ testTimeout: 180_000 + 1000 * fuzzSeconds(2) })
if (addon) testSwaps(addon)
else skipWithoutAddon('swaps under load')

const MASKS = 3
const PROMPTS = 12
const CLIENTS = 5
/** Pages for only a few of the requests, so that some are always preempted. */
const KV_TOKENS = 384

function requireEqual(what: string, found: unknown, expected: unknown): void {
  expect({ what, found }).toEqual({ what, found: expected })
}

function testSwaps(built: Addon): void {
  async function maskOf({ model }: TinyModel, seed: number): Promise<string> {
    const path = join(temporaryDir(), 'mask.safetensors')
    await writeFile(path, randomHalfMask(model, seed).bytes)
    return path
  }

  test('during swaps under random load every output equals that of one mask alone, and nothing is leaked', async () => {
    const tiny = await openTinyModel({ contextLength: 256 })
    onTestFinished(() => tiny.remove())
    built.poisonFreed(true)
    onTestFinished(() => built.poisonFreed(false))
    const backend = createSparseBackend({ addon: built, threads: 2, kvTokens: KV_TOKENS })
    const paths = await Promise.all(Array.from({ length: MASKS }, (_, seed) => maskOf(tiny, seed + 1)))
    const load = (version: number) =>
      backend.load({ model: tiny.model, version, maskPath: paths[version - 1]!, priority: 'serving' })
    const newEngine = () =>
      createEngine({
        backend,
        config: tiny.model.config,
        codec: tiny.model.codec,
        policy: { kvTokens: KV_TOKENS, prefillChunk: 32 },
        inspect: checkInvariants,
      })

    const random = createRandom(5)
    const beginning = Array.from({ length: 64 }, () => Math.floor(random() * 300))
    const prompts = Array.from({ length: PROMPTS }, (_, i) => [
      ...beginning.slice(0, (i * 13) % 65),
      ...Array.from({ length: 1 + ((i * 29) % 40) }, () => Math.floor(random() * 300)),
    ])
    const request = (prompt: number, fields: Partial<GenerateRequest> = {}): GenerateRequest => ({
      id: `request-${prompt}`,
      prompt: prompts[prompt]!,
      maxTokens: 24,
      stops: [],
      sampling: { ...GREEDY, topLogprobs: 0, ...(prompt % 2 ? { temperature: 1, seed: prompt } : {}) },
      restartable: false,
      ...fields,
    })
    const answerOf = async (engine: Engine, prompt: number, fields?: Partial<GenerateRequest>) => {
      let version = -1
      let tokens: object[] = []
      for await (const event of engine.generate(request(prompt, fields)).events) {
        if (event.type === 'pinned') [version, tokens] = [event.maskVersion, []]
        if (event.type === 'text') tokens.push(...event.tokens)
      }
      return { version, tokens }
    }
    const embeddingOf = async (engine: Engine, prompt: number) => {
      const { embedding, maskVersion } = await engine.embed({ id: 'embedding-1', tokens: prompts[prompt]! })
        .embedding
      return { version: maskVersion, embedding }
    }

    const answers = new Map<string, unknown>()
    for (let version = 1; version <= MASKS; version++) {
      const weights = await load(version)
      const engine = newEngine()
      engine.setActive(weights)
      for (let prompt = 0; prompt < PROMPTS; prompt++) {
        answers.set(`${version}/${prompt}`, (await answerOf(engine, prompt)).tokens)
        answers.set(`${version}/${prompt}/embedding`, (await embeddingOf(engine, prompt)).embedding)
      }
      engine.close()
      await backend.release(weights)
    }

    const engine = newEngine()
    let active: WeightSet = await load(1)
    engine.setActive(active)
    let swapping = true
    const versions = new Set<number>()
    let answered = 0
    const client = async (seed: number) => {
      const choose = createRandom(seed)
      while (swapping) {
        const prompt = Math.floor(choose() * PROMPTS)
        const action = choose()
        const name = `prompt ${prompt} of client ${seed}`
        if (action < 0.1) {
          const { version, embedding } = await embeddingOf(engine, prompt)
          requireEqual(name, embedding, answers.get(`${version}/${prompt}/embedding`))
          continue
        }
        if (action < 0.2) {
          const leaves = AbortSignal.timeout(1 + Math.floor(choose() * 20))
          const left = await answerOf(engine, prompt, { signal: leaves }).catch((error: unknown) => error)
          if (left instanceof Error) requireEqual(name, (left as AppError).code, 'client_closed_request')
          continue
        }
        const fields = {
          restartable: choose() < 0.5,
          partition: [undefined, 'a', 'b'][Math.floor(choose() * 3)],
        }
        const { version, tokens } = await answerOf(engine, prompt, fields)
        requireEqual(`${name} on ${version}`, tokens, answers.get(`${version}/${prompt}`))
        versions.add(version)
        answered += 1
      }
    }
    const endMs = performance.now() + fuzzSeconds(2) * 1000
    let swaps = 0
    const swap = async () => {
      try {
        for (; swaps < 2 * MASKS || performance.now() < endMs; swaps++) {
          const next = await load(1 + ((active.version + Math.floor(random() * 2)) % MASKS))
          engine.setActive(next)
          // At a short deadline, requests whose output has not been sent restart.
          await engine.drain(active.version, random() < 0.5 ? 5 : 30_000)
          await backend.release(active)
          active = next
        }
      } finally {
        swapping = false
      }
    }
    await Promise.all([swap(), ...Array.from({ length: CLIENTS }, (_, i) => client(11 + i))])
    expect(versions).toEqual(new Set(Array.from({ length: MASKS }, (_, i) => i + 1)))
    expect(answered).toBeGreaterThan(0)
    engine.close()
    await backend.release(active)
    expect(backend.usage()).toMatchObject({ sequences: 0, ownPages: 0 })
  })

  /** Creates a model whose sets are large enough to measure, and a backend that reports their size. */
  async function openWide() {
    const tiny = await openTinyModel({
      hiddenSize: 128,
      intermediateSize: 512,
      layers: 4,
      heads: 4,
      headDim: 32,
    })
    onTestFinished(() => tiny.remove())
    let last: object | undefined
    const log = { info: (_: string, fields?: object) => void (last = fields), warn: () => undefined }
    const backend = createSparseBackend({ addon: built, threads: 2, ownTokens: 1024, log })
    const load = (version: number, maskPath: string | null) =>
      backend.load({ model: tiny.model, version, maskPath, priority: 'serving' })
    return {
      tiny,
      backend,
      load,
      megabytes: () => (last && 'megabytes' in last ? Number(last.megabytes) : 0),
    }
  }

  test.each([false, true])(
    'resident memory is flat over 200 swaps, freed memory poisoned: %s',
    async (isPoisoned) => {
      const { tiny, backend, load, megabytes } = await openWide()
      built.poisonFreed(isPoisoned)
      onTestFinished(() => built.poisonFreed(false))
      const paths = [await maskOf(tiny, 1), await maskOf(tiny, 2)] as const
      let active = await load(0, paths[0])
      const work = { sequence: 1, tokens: new Int32Array(40).fill(7), position: 0, output: 'none' } as const
      const swap = async (version: number) => {
        const next = await load(version, paths[version % 2 === 0 ? 0 : 1])
        await backend.step({ weights: next, work: [work], drop: [] })
        await backend.step({ weights: next, work: [], drop: [1] })
        await backend.release(active)
        active = next
      }
      for (let i = 1; i <= 40; i++) await swap(i)
      const before = residentBytes()
      for (let i = 1; i <= 200; i++) await swap(i)
      // A set leaked in one of ten swaps would be visible.
      expect(megabytes()).toBeGreaterThan(0.8)
      expect(residentBytes() - before).toBeLessThan(16e6)
      await backend.release(active)
      expect(backend.usage()).toMatchObject({ sequences: 0, ownPages: 0 })
    },
  )

  test.runIf(process.platform === 'linux')(
    'the memory that a released set leaves to the next one is given back with the last set of the model',
    async () => {
      const { tiny, backend, load } = await openWide()
      const path = await maskOf(tiny, 1)
      const before = mappings()
      const first = await load(0, path)
      const second = await load(1, path)
      const both = mappings()
      expect(both).not.toEqual(before)
      await backend.release(first)
      expect(mappings()).toEqual(both)
      await backend.release(second)
      expect(mappings()).toEqual(before)
    },
  )

  test('sets share the weights that a mask does not change', async () => {
    const { backend, load, megabytes } = await openWide()
    const sets = [await load(0, null)]
    const before = residentBytes()
    for (let version = 1; version <= 60; version++) sets.push(await load(version, null))
    const grown = residentBytes() - before
    // Sixty sets without sharing would exceed the bound more than three times.
    expect(megabytes()).toBeGreaterThan(1)
    expect(grown).toBeLessThan(20e6)
    for (const set of sets) await backend.release(set)
  })
}

/** Returns the sizes of the mappings that Linux is asked to keep in huge pages, kB. */
function mappings(): string[] {
  const regions = readFileSync('/proc/self/smaps', 'utf8').split(/^VmFlags:/m)
  return regions.flatMap((region, index) =>
    / hg /.test(regions[index + 1]?.split('\n')[0] ?? '')
      ? (/^Size: +(\d+) kB/m.exec(region)?.slice(1) ?? [])
      : [],
  )
}

/** Returns the memory that this process has, without JavaScript's garbage. */
function residentBytes(): number {
  collectGarbage()
  return process.memoryUsage().rss
}
