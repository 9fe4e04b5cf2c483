/** Compares the embeddings of each backend with f64 arithmetic and with each other. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Backend, SequenceWork, WeightSet } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { createEngine } from '../../../../gpu-node/src/serving/engine/engine.ts'
import { addon, BACKENDS } from '../../../support/engine/backends.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { referenceHidden } from '../../../support/models/reference-model.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { cosine } from '../../../support/harness/cosine.ts'

const random = createRandom(21)
/** Longer than a prefill chunk, and than one run of a backend. */
const TEXT = Array.from({ length: 300 }, () => Math.floor(random() * 300))
/** Short enough for f64 arithmetic to be fast. */
const SHORT = TEXT.slice(0, 40)

/** The embedding of the text by each backend, through the engine. */
const embeddings = new Map<string, Float32Array>()

let tiny: TinyModel
beforeAll(async () => {
  tiny = await openTinyModel({ contextLength: 512 })
})
afterAll(() => tiny.remove())

if (!addon) skipWithoutAddon('the sparse engine')
describe.each(BACKENDS)('$name', ({ name, create, selfTolerance }) => {
  let opened: Promise<{ backend: Backend; weights: WeightSet }> | undefined
  afterAll(async () => {
    const set = await opened
    if (set) await set.backend.release(set.weights)
  })

  /** The dense weights, which all tests share. */
  function serving(): Promise<{ backend: Backend; weights: WeightSet }> {
    opened ??= open()
    return opened
  }

  async function open() {
    const backend = create(join(tiny.dir, 'work'))
    const source = { model: tiny.model, version: 0, maskPath: null, priority: 'serving' } as const
    return { backend, weights: await backend.load(source) }
  }

  async function sumOf(sequence: number, text: readonly number[], chunks: readonly number[]) {
    const { backend, weights } = await serving()
    const sums: number[] = []
    let position = 0
    for (const length of chunks) {
      const tokens = Int32Array.from(text.slice(position, position + length))
      const work: SequenceWork = { sequence, tokens, position, output: 'hidden_sum' }
      const { outputs } = await backend.step({
        weights,
        work: [work],
        drop: position === 0 ? [sequence] : [],
      })
      const [output] = outputs
      if (output?.kind !== 'hidden_sum') throw new Error(`expected a sum, got ${output?.kind}`)
      output.sum.forEach((value, i) => (sums[i] = (sums[i] ?? 0) + value))
      position += length
    }
    return sums
  }

  test('the mean of the last hidden states equals that of f64 arithmetic', async () => {
    const states = referenceHidden(tiny.model.config, tiny.tensors, SHORT)
    const expected = states[0]!.map((_, i) => states.reduce((sum, state) => sum + state[i]!, 0))
    const sum = await sumOf(1, SHORT, [SHORT.length])
    expect(cosine(sum, expected)).toBeGreaterThan(0.999)
    const length = Math.hypot(...expected)
    expect(Math.abs(Math.hypot(...sum) / length - 1)).toBeLessThan(0.01)
  })

  test.each([[[1, 299]], [[64, 64, 64, 64, 44]], [[256, 44]]])(
    'pieces of %j add up to the whole',
    async (chunks) => {
      const whole = await sumOf(1, TEXT, [TEXT.length])
      const pieces = await sumOf(2, TEXT, chunks)
      const largest = Math.max(...whole.map(Math.abs))
      for (const [i, value] of pieces.entries())
        expect(Math.abs(value - whole[i]!)).toBeLessThan(largest * Math.max(selfTolerance, 1e-6))
    },
  )

  test('the engine feeds a long text in chunks and returns the mean', async () => {
    const { backend, weights } = await serving()
    const engine = createEngine({ backend, config: tiny.model.config, codec: tiny.model.codec })
    engine.setActive(weights)
    const { embedding } = await engine.embed({ id: 'embedding-1', tokens: TEXT }).embedding
    engine.close()
    const sum = await sumOf(1, TEXT, [TEXT.length])
    for (const [i, value] of embedding.entries())
      expect(Math.abs(value - sum[i]! / TEXT.length)).toBeLessThan(Math.max(selfTolerance, 1e-6))
    embeddings.set(name, embedding)
  })

  test('one pass sums hidden states and scores targets, as two do', async () => {
    const { backend, weights } = await serving()
    const tokens = Int32Array.from(TEXT)
    const targets = Int32Array.from(TEXT, (_, i) => (i === 2 ? -1 : (TEXT[i + 1] ?? -1)))
    const sum = await sumOf(1, TEXT, [TEXT.length])
    const scored = { sequence: 2, tokens, position: 0, output: 'nll', targets } as const
    const both = { sequence: 3, tokens, position: 0, output: 'hidden_sum', targets } as const
    const [alone] = (await backend.step({ weights, work: [scored], drop: [2] })).outputs
    // Beside other work whose scores come before and after.
    const beside = { sequence: 4, tokens, position: 0, output: 'nll', targets } as const
    const last = { sequence: 5, tokens, position: 0, output: 'hidden_sum' } as const
    const step = { weights, work: [beside, both, last], drop: [2, 3, 4, 5] }
    const [, joint, sumAlone] = (await backend.step(step)).outputs
    await backend.step({ weights, work: [], drop: [3, 4, 5] })
    if (alone?.kind !== 'nll' || joint?.kind !== 'hidden_sum' || sumAlone?.kind !== 'hidden_sum')
      throw new Error('other outputs')
    expect(joint.nll).toHaveLength(TEXT.length - 2)
    expect(sumAlone.nll).toHaveLength(0)
    const tolerance = Math.max(selfTolerance, 1e-5)
    for (const [i, value] of joint.nll.entries())
      expect(Math.abs(value - alone.nll[i]!)).toBeLessThan(tolerance)
    expect(cosine(joint.sum, sum)).toBeGreaterThan(1 - tolerance)
    expect(cosine(sumAlone.sum, sum)).toBeGreaterThan(1 - tolerance)
  })

  test('generation and scoring in the same step change nothing', async () => {
    const { backend, weights } = await serving()
    const alone = await sumOf(1, SHORT, [SHORT.length])
    const tokens = Int32Array.from(SHORT)
    const work: SequenceWork[] = [
      { sequence: 3, tokens, position: 0, output: 'nll', targets: new Int32Array(tokens.length).fill(5) },
      { sequence: 4, tokens, position: 0, output: 'hidden_sum' },
      { sequence: 5, tokens, position: 0, output: 'none' },
      { sequence: 6, tokens: tokens.subarray(0, 1), position: 0, output: 'hidden_sum' },
    ]
    const { outputs } = await backend.step({ weights, work, drop: [] })
    expect(outputs.map(({ kind }) => kind)).toEqual(['nll', 'hidden_sum', 'none', 'hidden_sum'])
    const [, beside] = outputs
    if (beside?.kind !== 'hidden_sum') throw new Error('expected a sum')
    expect(cosine(beside.sum, alone)).toBeGreaterThan(1 - Math.max(selfTolerance, 1e-7))
  })
})

test('the embeddings of all backends have the same direction', () => {
  expect([...embeddings.keys()]).toEqual(BACKENDS.map(({ name }) => name))
  for (const other of embeddings.values())
    for (const another of embeddings.values()) expect(cosine(other, another)).toBeGreaterThan(0.999)
})
