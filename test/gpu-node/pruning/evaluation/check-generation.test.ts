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
  let start = 0
  const backend: GeneratingBackend<string> = {
    async step(plan) {
      plans.push(plan)
      const [work] = plan.work
      if (work!.position === 0) start = work!.tokens.length
      const token = tokenAt(work!.position + work!.tokens.length - start)
      const top = [
        { token, logprob },
        { token: 1, logprob },
      ]
      return { outputs: [{ kind: 'token', token, logprob, top }] }
    },
  }
  return { backend, plans }
}

test('each prompt is continued greedily, one sequence after another', async () => {
  const { backend, plans } = backendOf((index) => 100 + index)
  const check = await checkGeneration(backend, 'weights', model)
  expect(check).toMatchObject({ finite: true, tokens: 4 * GENERATION_TOKENS, repetition: 0 })
  expect(check.entropy).toBeCloseTo(Math.log(2), 12)
  expect(plans).toHaveLength(4 * GENERATION_TOKENS)
  const first = plans[0]!.work[0]!
  expect(first).toMatchObject({ position: 0, output: 'token' })
  expect(String.fromCharCode(...first.tokens)).toBe(GENERATION_PROMPTS[0])
  const { length } = first.tokens
  expect(plans[2]!.work[0]).toMatchObject({ position: length + 1, tokens: Int32Array.of(101) })
  // A sequence is dropped when the next one starts.
  expect(plans[GENERATION_TOKENS]!.drop).toEqual([first.sequence])
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
    async step({ work }) {
      if (work[0]!.output === 'token')
        throw new AppError('node_failed', "The model's logits are not numbers.")
      return { outputs: [{ kind: 'nll', nll: Float32Array.of(NaN) }] }
    },
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
