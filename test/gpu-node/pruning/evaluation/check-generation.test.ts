import { expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import {
  checkGeneration,
  entropyOf,
  GENERATION_PROMPTS,
  GENERATION_TOKENS,
  repeatedBigrams,
  type GeneratingBackend,
} from '../../../../gpu-node/src/pruning/evaluation/check-generation.ts'

const VOCAB = 1000
const END = 7
const model = {
  config: { contextLength: 256, vocabSize: VOCAB, eosTokenIds: [END] },
  codec: { encodeDocument: (text: string) => Array.from(text, (char) => char.charCodeAt(0)) },
}

type Plan = Parameters<GeneratingBackend<string>['step']>[0]

/** A backend whose tokens are a function of the position after the prompt. */
function backendOf(tokenAt: (index: number) => number, logprob = Math.log(0.5)) {
  const plans: Plan[] = []
  const starts = new Map<number, number>()
  const backend: GeneratingBackend<string> = {
    async step(plan) {
      plans.push(plan)
      const outputs = plan.work.map(({ sequence, position, tokens }) => {
        if (position === 0) starts.set(sequence, tokens.length)
        const token = tokenAt(position + tokens.length - starts.get(sequence)!)
        const top = [
          { token, logprob },
          { token: 1, logprob },
        ]
        return { kind: 'token' as const, token, logprob, top }
      })
      return { outputs }
    },
  }
  return { backend, plans }
}

test('the prompts are continued greedily, all in one step', async () => {
  const { backend, plans } = backendOf((index) => 100 + index)
  const check = await checkGeneration(backend, 'weights', model)
  expect(check).toMatchObject({ finite: true, tokens: 4 * GENERATION_TOKENS, repetition: 0 })
  expect(check.entropy).toBeCloseTo(Math.log(2), 12)
  expect(plans).toHaveLength(GENERATION_TOKENS)
  const [first, , third] = plans
  expect(first!.work.map(({ tokens }) => String.fromCharCode(...tokens))).toEqual(GENERATION_PROMPTS)
  for (const [index, { sequence, tokens, position, output }] of first!.work.entries()) {
    expect({ position, output }).toEqual({ position: 0, output: 'token' })
    expect(third!.work[index]).toEqual({
      sequence,
      position: tokens.length + 1,
      tokens: Int32Array.of(101),
      output: 'token',
    })
  }
})

test('a text that has ended leaves the steps, and the others go on', async () => {
  const { backend, plans } = backendOf((index) => 100 + index)
  const short: GeneratingBackend<string> = {
    async step(plan) {
      const { outputs } = await backend.step(plan)
      const ends = plan.work.findIndex(({ sequence }) => sequence % 10 === 2)
      const end = { kind: 'token' as const, token: END, logprob: 0, top: [{ token: END, logprob: 0 }] }
      return { outputs: outputs.map((output, index) => (index === ends ? end : output)) }
    },
  }
  expect(await checkGeneration(short, 'weights', model)).toMatchObject({
    finite: true,
    tokens: 3 * GENERATION_TOKENS + 1,
  })
  expect(plans.map(({ work }) => work.length)).toEqual([4, ...Array(GENERATION_TOKENS - 1).fill(3)])
})

test('text that repeats itself has a high repetition', async () => {
  const { backend } = backendOf((index) => 100 + (index % 2))
  expect((await checkGeneration(backend, 'weights', model)).repetition).toBeCloseTo(45 / 47, 12)
})

test('a text ends with the end token of the model', async () => {
  const { backend } = backendOf((index) => (index === 9 ? END : 100 + index))
  expect((await checkGeneration(backend, 'weights', model)).tokens).toBe(40)
})

test('logits that are not numbers are reported, whether the sampler rejects them or not', async () => {
  const rejecting: GeneratingBackend<string> = {
    step: async ({ work }) => ({ outputs: work.map(() => ({ kind: 'failed' })) }),
  }
  expect(await checkGeneration(rejecting, 'weights', model)).toEqual({
    finite: false,
    tokens: 0,
    repetition: 0,
    entropy: null,
  })
  const { backend } = backendOf((index) => index + 100, NaN)
  expect(await checkGeneration(backend, 'weights', model)).toMatchObject({ finite: false, entropy: null })
})

test('a weight set that died is an error and no finding', async () => {
  const dead: GeneratingBackend<string> = {
    step: () => Promise.reject(new AppError('node_failed', 'The process of mask version 3 was ended.')),
  }
  await expect(checkGeneration(dead, 'weights', model)).rejects.toThrow('was ended')
})

test('the probability that is not listed is spread over the other tokens', () => {
  expect(entropyOf([{ logprob: Math.log(1 / 8) }], 8)).toBeCloseTo(Math.log(8), 12)
  expect(entropyOf([{ logprob: 0 }], 8)).toBe(0)
  const half = [{ logprob: Math.log(0.5) }]
  expect(entropyOf(half, 5)).toBeCloseTo(0.5 * Math.log(2) + 0.5 * Math.log(8), 12)
})

test('bigrams are compared within one text', () => {
  expect(
    repeatedBigrams([
      [1, 2],
      [1, 2],
    ]),
  ).toBe(0)
  expect(repeatedBigrams([[1, 2, 1, 2]])).toBeCloseTo(1 / 3, 12)
  expect(repeatedBigrams([[5], []])).toBe(0)
})
