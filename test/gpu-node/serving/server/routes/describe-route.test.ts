/** Describes texts by a node of each backend, and compares with f64 arithmetic, embeddings and scores. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { describeResult } from '@copal/shared/wire/node-calls.ts'
import type { StepPlan } from '../../../../../gpu-node/src/serving/contract/backend.ts'
import { HIDDEN_SIZE } from '../../../../support/doubles/arithmetic-backend.ts'
import { arithmeticNodes, type ArithmeticNodeOptions } from '../../../../support/doubles/arithmetic-node.ts'
import { addon, BACKENDS } from '../../../../support/engine/backends.ts'
import { skipWithoutAddon } from '../../../../support/harness/skip-without-addon.ts'
import { temporaryDir } from '../../../../support/harness/temporary.ts'
import { randomHalfMask } from '../../../../support/models/random-masks.ts'
import { logSoftmax, referenceHidden, referenceLogits } from '../../../../support/models/reference-model.ts'
import { openTinyModel, type TinyModel } from '../../../../support/models/tiny-model.ts'
import { call, startTestNode, type TestNode } from '../../../../support/processes/in-process-node.ts'
import { cosine } from '../../../../support/harness/cosine.ts'
import { WAIT } from '../../../../support/harness/wait.ts'

const SHORT = 'The court finds that the contract was void.'
const TEXTS = [SHORT, 'for (let i = 0; i < n; i++) total += values[i]; // over several chunks. '.repeat(6)]

let tiny: TinyModel
beforeAll(async () => {
  tiny = await openTinyModel({ contextLength: 512 })
})
afterAll(() => tiny.remove())

async function describeBy(node: TestNode, fields: object = {}) {
  const response = await node.post('/rpc/describe', { model: 'tiny', texts: TEXTS, ...fields })
  expect(response.status).toBe(200)
  return describeResult.parse(await response.json()).texts
}

if (!addon) skipWithoutAddon('the sparse engine')
describe.each(BACKENDS.slice(0, 2))('$name', ({ create, exactTolerance, selfTolerance }) => {
  /** Starts a node that serves the dense weights; `swap` makes a random mask active. */
  async function start() {
    const backend = create(join(temporaryDir(), 'work'))
    const dense = await backend.load({ model: tiny.model, version: 0, maskPath: null, priority: 'serving' })
    const node = await startTestNode({ backend, model: tiny.model, dense: () => dense })
    node.engine.setActive(dense)
    const swap = async () => {
      const maskPath = join(temporaryDir(), 'mask.safetensors')
      await writeFile(maskPath, randomHalfMask(tiny.model, 5).bytes)
      const masked = await backend.load({ model: tiny.model, version: 1, maskPath, priority: 'serving' })
      node.engine.setActive(masked)
      onTestFinished(() => backend.release(masked))
    }
    onTestFinished(async () => {
      await node.close()
      await backend.release(dense)
    })
    return { node, dense, swap }
  }

  test('the mean hidden state and the mean loss equal those of f64 arithmetic under the dense weights', async () => {
    const { node } = await start()
    const [described] = await describeBy(node, { texts: [SHORT] })
    const tokens = tiny.model.codec.encodeDocument(SHORT)
    expect(described!.tokens).toBe(tokens.length)
    const states = referenceHidden(tiny.model.config, tiny.tensors, tokens)
    const mean = states[0]!.map(
      (_, i) => states.reduce((total, state) => total + state[i]!, 0) / tokens.length,
    )
    expect(cosine(described!.embedding, mean)).toBeGreaterThan(0.999)
    const logits = referenceLogits(tiny.model.config, tiny.tensors, tokens)
    const nll = tokens.slice(1).map((token, i) => -logSoftmax(logits[i]!)[token]!)
    const nllMean = nll.reduce((total, value) => total + value, 0) / nll.length
    expect(Math.abs(described!.nllMean! - nllMean)).toBeLessThan(exactTolerance)
  })

  test('descriptions equal the embeddings and scores of mask 0, and a swap changes nothing', async () => {
    const { node, dense, swap } = await start()
    const before = await describeBy(node, { maxTokens: 512 })
    const request = { model: 'tiny', input: TEXTS }
    const embedded = (await (
      await node.post('/rpc/embeddings', call(request, { maskVersion: 0 }))
    ).json()) as {
      data: { embedding: number[] }[]
    }
    for (const [index, { embedding, tokens, nllMean }] of before.entries()) {
      const ids = tiny.model.codec.encodeDocument(TEXTS[index]!)
      expect(tokens).toBe(ids.length)
      const nll = await node.engine.score({ weights: dense, lane: 'drift', tokens: ids })
      const expected = nll.reduce((total, value) => total + value, 0) / nll.length
      expect(Math.abs(nllMean! - expected)).toBeLessThan(Math.max(selfTolerance, 1e-5))
      expect(cosine(embedding, embedded.data[index]!.embedding)).toBeGreaterThan(0.9999)
    }
    await swap()
    const after = await describeBy(node, { maxTokens: 512 })
    for (const [index, { embedding, nllMean }] of after.entries()) {
      expect(cosine(embedding, before[index]!.embedding)).toBeGreaterThan(1 - 1e-6)
      expect(Math.abs(nllMean! - before[index]!.nllMean!)).toBeLessThan(Math.max(selfTolerance, 1e-6))
    }
    const masked = (await (await node.post('/rpc/embeddings', call(request))).json()) as typeof embedded
    expect(cosine(masked.data[0]!.embedding, before[0]!.embedding)).toBeLessThan(0.999)
  })
})

describe('a call', () => {
  const { start, model } = arithmeticNodes()
  const startNode = (options: ArithmeticNodeOptions = {}) =>
    start({ engine: { config: { ...model().config, hiddenSize: HIDDEN_SIZE } }, ...options })

  test('reads the first tokens of each text alone, and gives no loss for a single token', async () => {
    const { node } = await startNode()
    const [first, second] = await describeBy(node, { maxTokens: 1 })
    expect(first).toMatchObject({ tokens: 1, nllMean: null })
    expect(second).toMatchObject({ tokens: 1, nllMean: null })
  })

  test('is rejected unsigned, for another model, and by a node without dense weights', async () => {
    const { node } = await startNode()
    const value = { model: 'tiny', texts: [SHORT] }
    const unsigned = await fetch(`${node.url}/rpc/describe`, {
      method: 'POST',
      body: JSON.stringify(value),
    })
    expect(unsigned.status).toBe(401)
    expect((await node.post('/rpc/describe', { ...value, model: 'gpt' })).status).toBe(404)
    const { node: other } = await startNode({ dense: () => null })
    expect((await other.post('/rpc/describe', value)).status).toBe(503)
  })

  test('fails at its deadline, and leaves nothing behind', async () => {
    const { node } = await startNode({
      describeTimeoutMs: 20,
      arithmetic: { onStep: () => new Promise((resolve) => setTimeout(resolve, 50)) },
    })
    const response = await node.post('/rpc/describe', { model: 'tiny', texts: TEXTS })
    expect(response.status).toBe(504)
    expect(node.engine.load().scoring).toBe(0)
  })

  test('that came too late continues where it stopped when it is tried again', async () => {
    let steps = 0
    const gate = Promise.withResolvers<void>()
    // Each text takes one pass; that of the second text is held up.
    const onStep = async ({ work }: StepPlan) => {
      steps += work.length
      if (steps > 1) await gate.promise
    }
    const { node } = await startNode({ arithmetic: { onStep } })
    const texts = [SHORT, `${SHORT} Another one.`]
    const ask = () => node.post('/rpc/describe', { model: 'tiny', texts, maxTokens: 8 })
    // The deadline of the first call passes between the two texts, however fast this machine is.
    const deadline = new AbortController()
    const timeout = vi.spyOn(AbortSignal, 'timeout').mockReturnValueOnce(deadline.signal)
    onTestFinished(() => timeout.mockRestore())
    const late = ask()
    await vi.waitFor(() => expect(steps).toBe(2), WAIT)
    deadline.abort()
    expect((await late).status).toBe(504)
    gate.resolve()
    steps = 0
    const response = await ask()
    expect(response.status).toBe(200)
    const { texts: described } = describeResult.parse(await response.json())
    expect(described.map(({ tokens }) => tokens)).toEqual([8, 8])
    // The second text alone; the first was kept.
    expect(steps).toBe(1)
    steps = 0
    await describeBy(node, { texts, maxTokens: 8 })
    expect(steps).toBe(2)
  })

  test('beyond the calls that may wait is rejected as overloaded', async () => {
    const gate = Promise.withResolvers<void>()
    const { node } = await startNode({ arithmetic: { onStep: () => gate.promise } })
    const calls = Array.from({ length: 9 }, (_, index) =>
      node.post('/rpc/describe', { model: 'tiny', texts: [`${SHORT} ${index}`] }),
    )
    expect((await Promise.race(calls)).status).toBe(429)
    gate.resolve()
    const statuses = (await Promise.all(calls)).map(({ status }) => status)
    expect(statuses.filter((status) => status === 200)).toHaveLength(8)
  })
})
