/** Scores the probe texts on every backend and kernel of this machine, with sound and with damaged weights. */
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import { PROBE_TEXTS } from '@copal/shared/probe-texts.ts'
import { heartbeat } from '@copal/shared/wire/heartbeat.ts'
import type { WeightSet } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { createProbeScorer } from '../../../../gpu-node/src/serving/control/probe-scorer.ts'
import type { Engine } from '../../../../gpu-node/src/serving/engine/engine-api.ts'
import { createEngine } from '../../../../gpu-node/src/serving/engine/engine.ts'
import { createPolicy } from '../../../../gpu-node/src/serving/engine/engine-policy.ts'
import { readTensorEntries } from '../../../../gpu-node/src/model/formats/safetensors.ts'
import { unlessAborted } from '../../../../gpu-node/src/platform/unless-aborted.ts'
import { memoryLog } from '../../../support/doubles/memory-log.ts'
import { addon, BACKENDS, type TestedBackend } from '../../../support/engine/backends.ts'
import { checkInvariants } from '../../../support/engine/engine-invariants.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { randomHalfMask } from '../../../support/models/random-masks.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

const DOWN = 'model.layers.1.mlp.down_proj.weight'

let tiny: TinyModel
beforeAll(async () => {
  tiny = await openTinyModel({ contextLength: 512 })
})
afterAll(() => tiny.remove())

/** Returns the mean loss of the probe texts under a file of weights, as a node reports it. */
async function probe({ create }: TestedBackend, maskPath: string) {
  const backend = create(temporaryDir())
  const weights = await backend.load({ model: tiny.model, version: 1, maskPath, priority: 'serving' })
  const { config, codec } = tiny.model
  const engine = createEngine({ backend, config, codec, inspect: checkInvariants })
  const log = memoryLog()
  const scorer = createProbeScorer({ engine, codec, weightSets: () => [weights], log, intervalMs: 60_000 })
  onTestFinished(async () => {
    scorer.close()
    engine.close()
    await backend.release(weights)
  })
  scorer.check()
  await vi.waitFor(() => expect(scorer.scores()).toHaveLength(1), 60_000)
  const [score] = heartbeat.shape.probes.unwrap().parse(scorer.scores())
  return { mean: score!.nll / score!.tokens, tokens: score!.tokens, lines: log.lines }
}

/** Writes a weights file, with the bits of one value flipped if asked. */
async function weightsFile(flip?: { bits: number }): Promise<string> {
  const path = join(temporaryDir(), 'weights.safetensors')
  await writeFile(path, randomHalfMask(tiny.model, 1, undefined, { values: true }).bytes)
  if (flip) {
    const file = await open(path, 'r+')
    const entry = [...(await readTensorEntries(file, path))].find(
      ([name, { dtype }]) => name.startsWith(DOWN) && dtype === 'BF16',
    )![1]
    const value = Buffer.alloc(2)
    await file.read(value, 0, 2, entry.offset)
    value.writeUInt16LE(value.readUInt16LE() ^ flip.bits)
    await file.write(value, 0, 2, entry.offset)
    await file.close()
  }
  return path
}

if (!addon) skipWithoutAddon('the sparse engine')
test('nodes with the same mask agree within 0.001 nats a token on every backend and kernel; a flipped bit of one weight stands out', async () => {
  const sound = await weightsFile()
  // The highest bit of the exponent: the weight becomes astronomically large.
  const damaged = await weightsFile({ bits: 0x4000 })
  const reference = await probe(BACKENDS[0]!, sound)
  expect(reference.tokens).toBeGreaterThan(400)
  for (const tested of BACKENDS) {
    const { mean, tokens } = await probe(tested, sound)
    expect(tokens).toBe(reference.tokens)
    expect(Math.abs(mean - reference.mean)).toBeLessThan(1e-3)
    expect(Math.abs((await probe(tested, damaged)).mean - reference.mean)).toBeGreaterThan(0.1)
  }
})

test.runIf(addon)(
  'on the sparse engine the score repeats to the last bit, so that any change shows',
  async () => {
    const tested = BACKENDS[1]!
    const path = await weightsFile()
    const { mean } = await probe(tested, path)
    expect((await probe(tested, path)).mean).toBe(mean)
    // The lowest bit of the mantissa: the weight changes by less than a percent.
    expect((await probe(tested, await weightsFile({ bits: 1 }))).mean).not.toBe(mean)
  },
)

/** A scorer over weight sets that come and go; every token scores the version. */
function start(options: { score?: Engine['score'] } = {}) {
  let nowMs = 0
  let sets: WeightSet[] = []
  const scored: number[] = []
  const log = memoryLog()
  const scorer = createProbeScorer({
    engine: {
      policy: createPolicy(64),
      async score(request) {
        scored.push(request.weights.version)
        if (options.score) return options.score(request)
        return new Float32Array(request.tokens.length - 1).fill(request.weights.version)
      },
    },
    codec: { encodeDocument: (text) => Array.from(text, () => 1) },
    weightSets: () => sets,
    log,
    intervalMs: 1_000,
    nowMs: () => nowMs,
  })
  onTestFinished(() => scorer.close())
  return {
    scorer,
    scored,
    log,
    advance: (ms: number) => (nowMs += ms),
    show: async (versions: WeightSet[], atMs = nowMs) => {
      sets = versions
      nowMs = atMs
      scorer.check()
      await new Promise((resolve) => setTimeout(resolve, 0))
    },
  }
}
const setOf = (version: number) => ({ version }) as WeightSet

test('each weight set is scored when it comes and every interval, and is forgotten when it goes', async () => {
  const { scorer, scored, show } = start()
  const [dense, active] = [setOf(0), setOf(7)]
  await show([active, dense])
  expect(new Set(scored)).toEqual(new Set([7, 0]))
  const texts = PROBE_TEXTS.length
  expect(scored).toHaveLength(2 * texts)
  await show([active, dense], 400)
  expect(scored).toHaveLength(2 * texts)
  expect(scorer.scores()).toContainEqual({
    maskVersion: 7,
    tokens: 63 * texts,
    nll: 7 * 63 * texts,
    measuredMsAgo: 400,
  })
  await show([active, dense], 1_100)
  expect(scored).toHaveLength(4 * texts)
  await show([active], 1_200)
  expect(scorer.scores().map(({ maskVersion }) => maskVersion)).toEqual([7])
})

test('a node that takes long to score the probe texts does so less often', async () => {
  const node = start({
    score: async ({ tokens }) => {
      node.advance(500)
      return new Float32Array(tokens.length - 1)
    },
  })
  const weights = setOf(1)
  await node.show([weights])
  const tookMs = 500 * PROBE_TEXTS.length
  expect(node.scored).toHaveLength(PROBE_TEXTS.length)
  await node.show([weights], 20 * tookMs)
  expect(node.scored).toHaveLength(PROBE_TEXTS.length)
  await node.show([weights], 21 * tookMs)
  expect(node.scored).toHaveLength(2 * PROBE_TEXTS.length)
})

test('a loss that is not finite is reported as an absurd one and logged; a failure is repeated', async () => {
  let value = Number.NaN
  const { scorer, show, log, scored } = start({
    score: async ({ tokens }) => {
      if (value === 0) throw new AppError('overloaded', 'full')
      return new Float32Array(tokens.length - 1).fill(value)
    },
  })
  const weights = setOf(3)
  await show([weights])
  expect(scorer.scores()[0]?.nll).toBe(1_000 * scorer.scores()[0]!.tokens)
  expect(log.lines).toEqual([expect.stringContaining('damaged')])
  value = 0
  await show([weights], 1_000)
  expect(log.lines).toHaveLength(2)
  expect(scorer.scores()).toHaveLength(1)
  value = 2
  const before = scored.length
  await show([weights], 2_000)
  expect(scored.length).toBeGreaterThan(before)
  expect(scorer.scores()[0]).toMatchObject({ nll: 2 * scorer.scores()[0]!.tokens, measuredMsAgo: 0 })
})

test('a weight set that is drained does not wait for its probes', async () => {
  const { scored, show, log } = start({
    score: ({ signal }) => unlessAborted(new Promise<never>(() => undefined), signal),
  })
  const leaving = setOf(1)
  await show([leaving])
  expect(scored).toEqual([1])
  await show([setOf(2)])
  expect(scored).toEqual([1, 2])
  expect(log.lines).toEqual([])
})
