import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { renameSync, writeFileSync } from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import { getPriority } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { AppError } from '@copal/shared/errors.ts'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { WeightSet, WeightSetSource } from '../../../../../gpu-node/src/serving/contract/backend.ts'
import { BACKGROUND_NICENESS } from '../../../../../gpu-node/src/platform/background-priority.ts'
import { isAlive } from '../../../../../gpu-node/src/platform/process-identity.ts'
import { createOnnxBackend } from '../../../../../gpu-node/src/serving/backends/onnx/onnx-backend.ts'
import type { ProcessBackend } from '../../../../../gpu-node/src/serving/backends/weight-set-process/process-backend.ts'
import {
  expectedScores,
  halfMaskFile,
  INVALID_MASKS,
  appErrorOf,
  TARGETS,
  TOKENS,
} from '../../../../support/models/masked-scores.ts'
import { memoryLog } from '../../../../support/doubles/memory-log.ts'
import { randomHalfMask } from '../../../../support/models/random-masks.ts'
import { temporaryDir } from '../../../../support/harness/temporary.ts'
import { openTinyModel, type TinyModel } from '../../../../support/models/tiny-model.ts'

let tiny: TinyModel

beforeAll(async () => {
  // 20 columns, so that rows of a mask end inside a byte.
  tiny = await openTinyModel({ intermediateSize: 20 })
})
afterAll(() => tiny.remove())

function newBackend(workDir = temporaryDir()): ProcessBackend {
  return createOnnxBackend({ workDir, threads: 1 })
}

function source(overrides: Partial<WeightSetSource> = {}): WeightSetSource {
  return { model: tiny.model, version: 0, maskPath: null, priority: 'serving', ...overrides }
}

/** Loads a set and releases it at the end of the test. */
async function load(backend: ProcessBackend, overrides: Partial<WeightSetSource> = {}): Promise<WeightSet> {
  const weights = await backend.load(source(overrides))
  onTestFinished(() => backend.release(weights))
  return weights
}

async function score(backend: ProcessBackend, weights: WeightSet, sequence = 1): Promise<Float32Array> {
  const work = { sequence, tokens: TOKENS, position: 0, output: 'nll', targets: TARGETS } as const
  const { outputs } = await backend.step({ weights, work: [work], drop: [sequence] })
  if (outputs[0]?.kind !== 'nll') throw new Error(`expected nll, got ${outputs[0]?.kind}`)
  return outputs[0].nll
}

function expectScores(actual: Float32Array, expected: readonly number[]): void {
  expect(actual.length).toBe(expected.length)
  for (const [i, nll] of expected.entries()) expect(actual[i]).toBeCloseTo(nll, 3)
}

async function gone(pid: number): Promise<void> {
  while (isAlive(pid)) await sleep(10)
}

test('dense and two masked sets run side by side, each with its own weights', async () => {
  const workDir = temporaryDir()
  const backend = newBackend(workDir)
  const dense = await load(backend)
  const masked: WeightSet[] = []
  for (const seed of [1, 2]) {
    masked.push(await load(backend, { version: seed, maskPath: await halfMaskFile(tiny.model, seed) }))
  }
  const [ofDense, ofFirst, ofSecond] = await Promise.all(
    [dense, ...masked].map((weights) => score(backend, weights)),
  )
  expectScores(ofDense!, expectedScores(tiny))
  expectScores(ofFirst!, expectedScores(tiny, randomHalfMask(tiny.model, 1).linears))
  expectScores(ofSecond!, expectedScores(tiny, randomHalfMask(tiny.model, 2).linears))
  expect(new Set([dense, ...masked].map((weights) => backend.pidOf(weights))).size).toBe(3)
  // Once a set is loaded, its pruned weights are removed from disk.
  expect(await readdir(join(workDir, 'tmp'))).toEqual([])
})

test('a set whose scratch cannot be removed serves all the same, and the fault is logged', async () => {
  const workDir = temporaryDir()
  const scratch = join(workDir, 'tmp')
  const log = memoryLog()
  const backend = createOnnxBackend({ workDir, threads: 1, log })
  const loading = backend.load(source())
  while ((await readdir(scratch).catch(() => [])).length === 0) await sleep(1)
  // Removing a folder below a file fails.
  renameSync(scratch, join(workDir, 'moved'))
  writeFileSync(scratch, '')
  const weights = await loading
  onTestFinished(() => backend.release(weights))
  expectScores(await score(backend, weights), expectedScores(tiny))
  expect(log.lines).toContainEqual(
    expect.stringMatching(/scratch of a weight set cannot be removed.*ENOTDIR/),
  )
})

describe('masks that do not fit are rejected and leave no process', () => {
  test.each(INVALID_MASKS)('%s', async (_, code, message, makeFile) => {
    const workDir = temporaryDir()
    const failure = await appErrorOf(
      newBackend(workDir).load(source({ version: 3, maskPath: await makeFile(tiny.model) })),
    )
    expect(failure.code).toBe(code)
    expect(failure.message).toContain(message)
    expect(await readdir(join(workDir, 'tmp'))).toEqual([])
  })
})

test.skipIf(process.platform === 'win32')(
  'signals that stop a whole process group are left to the node: its set goes on',
  async () => {
    const backend = newBackend()
    const weights = await load(backend)
    const before = await score(backend, weights)
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.kill(backend.pidOf(weights)!, signal)
    expect(await score(backend, weights)).toEqual(before)
    expect(backend.pidOf(weights)).toBeDefined()
  },
)

test.skipIf(process.platform === 'win32')(
  'a killed process rejects the work in flight and later work, and ends its set alone',
  async () => {
    const backend = newBackend()
    const other = await load(backend)
    const weights = await load(backend)
    const pid = backend.pidOf(weights)!
    // A stopped process cannot reply before it is killed.
    process.kill(pid, 'SIGSTOP')
    const inFlight = Promise.all([
      appErrorOf(score(backend, weights)),
      appErrorOf(score(backend, weights, 2)),
    ])
    process.kill(pid, 'SIGKILL')
    for (const failure of await inFlight) {
      expect(failure.code).toBe('node_failed')
      expect(failure.message).toContain('SIGKILL')
    }
    expect(await weights.ended).toBeInstanceOf(AppError)
    expect(isAlive(pid)).toBe(false)
    expect((await appErrorOf(score(backend, weights))).code).toBe('node_failed')
    await backend.release(weights)
    expectScores(await score(backend, other), expectedScores(tiny))
  },
)

test('a released set ends without a cause, after its steps in flight, and leaves no process', async () => {
  const backend = newBackend()
  const weights = await backend.load(source())
  const pid = backend.pidOf(weights)!
  const inFlight = score(backend, weights)
  await Promise.all([backend.release(weights), backend.release(weights)])
  expectScores(await inFlight, expectedScores(tiny))
  expect(await weights.ended).toBeUndefined()
  expect(isAlive(pid)).toBe(false)
  expect((await appErrorOf(score(backend, weights))).code).toBe('node_failed')
})

test('the process of a set ends when its node is killed', async () => {
  const directory = temporaryDir()
  const { config, master } = tiny.model
  await writeFile(
    join(directory, 'model.json'),
    JSON.stringify({ config, master: { ...master, tensors: [...master.tensors] } }),
  )
  const script = fileURLToPath(new URL('../../../../support/faults/hold-weight-set.ts', import.meta.url))
  const node = spawn(process.execPath, [script, join(directory, 'model.json'), join(directory, 'work')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = (await once(node.stdout, 'data')) as [Buffer]
  const pid = Number(line.toString())
  expect(isAlive(pid)).toBe(true)
  node.kill('SIGKILL')
  await gone(pid)
})

test.skipIf(process.platform === 'win32')(
  'a background set yields the processor, a serving one does not',
  async () => {
    const backend = newBackend()
    const background = await load(backend, { priority: 'background' })
    const serving = await load(backend)
    expect(getPriority(backend.pidOf(background))).toBe(Math.max(getPriority(), BACKGROUND_NICENESS))
    expect(getPriority(backend.pidOf(serving))).toBe(getPriority())
    expectScores(await score(backend, background), expectedScores(tiny))
  },
)
