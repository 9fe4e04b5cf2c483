/** Tests that tokens drawn from the candidates of a device are those drawn from all logits. */
import { expect, test } from 'vitest'
import type { SamplerSpec } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { GREEDY } from '../../../../gpu-node/src/serving/contract/greedy.ts'
import { createScriptLogitKernels } from '../../../../gpu-node/src/serving/sampling/logit-kernels.ts'
import { createSampler } from '../../../../gpu-node/src/serving/sampling/token-sampler.ts'
import { CANDIDATES, candidatesOf, SHAPES } from '../../../support/engine/device-candidates.ts'
import { maskOf } from '../../../support/engine/token-masks.ts'
import { createRandom, normals } from '../../../support/harness/random.ts'

const LIMITS = { count: CANDIDATES, maxAdjusted: 200 }
const SPEC: SamplerSpec = { ...GREEDY, temperature: 1, seed: 7, promptTokens: 0 }

function samplerOf(spec: Partial<SamplerSpec>, vocab: number) {
  return createSampler({ ...SPEC, ...spec }, createScriptLogitKernels(vocab))
}

test.each<[string, Partial<SamplerSpec>, 'always' | 'often' | 'sometimes']>([
  ['greedy', { temperature: 0 }, 'always'],
  ['greedy whatever the cuts', { temperature: 0, topP: 0.3, topK: 5, minP: 0.1 }, 'always'],
  ['top-k 1', { topK: 1 }, 'always'],
  ['top-k', { topK: 40 }, 'often'],
  ['top-k of all candidates, hot', { topK: CANDIDATES, temperature: 2 }, 'often'],
  ['top-k and top-p', { topK: 40, topP: 0.9, temperature: 0.7 }, 'sometimes'],
  ['top-k and top-p 0', { topK: 40, topP: 0 }, 'often'],
  ['top-p', { topP: 0.9 }, 'sometimes'],
  ['top-p 0', { topP: 0 }, 'often'],
  ['small top-p', { topP: 0.02 }, 'sometimes'],
  ['top-p, cold', { topP: 0.95, temperature: 0.2 }, 'sometimes'],
  ['min-p', { minP: 0.2 }, 'sometimes'],
  ['min-p 1', { minP: 1 }, 'sometimes'],
  ['min-p and top-p', { minP: 0.05, topP: 0.8, temperature: 0.6 }, 'sometimes'],
  ['more than the candidates', { topK: 70, topP: 0.5, minP: 1e-6 }, 'sometimes'],
  ['no cut', {}, 'sometimes'],
  ['no cut, hot', { temperature: 1.7 }, 'sometimes'],
  ['no cut, cold', { temperature: 0.1 }, 'sometimes'],
])('%s: the token of all logits, or none', (_, spec, decided) => {
  const random = createRandom(5)
  let [draws, none] = [0, 0]
  for (const vocab of [1, 64, 65, 900]) {
    const sampler = samplerOf(spec, vocab)
    const request = sampler.candidateRequest(LIMITS, 0)
    expect(request?.temperature).toBe(spec.temperature === 0 ? 1 : (spec.temperature ?? 1))
    for (const [shape, logitsOf] of SHAPES) {
      for (let position = 0; position < 6; position++) {
        const logits = logitsOf(random, vocab)
        // The sign of the error changes: a device may be off by as much.
        const error = (position % 3) * 2 ** -17 - 2 ** -17
        const { temperature, chances } = sampler.candidateRequest(LIMITS, position)!
        const found = sampler.sampleFrom(candidatesOf(logits, temperature, chances[0], error), position)
        draws += 1
        if (found === undefined) none += 1
        const token = found?.token
        const expected = found && sampler.sample(logits.slice(), position).token
        expect({ shape, vocab, position, token }).toEqual({ shape, vocab, position, token: expected })
      }
    }
  }
  expect(none / draws).toBeLessThanOrEqual({ always: 0, often: 0.01, sometimes: 0.7 }[decided])
})

test.each<[string, Partial<SamplerSpec>, number]>([
  ['greedy', { temperature: 0 }, 0.2],
  ['top-k', { topK: 5 }, 0.2],
  ['top-k and top-p', { topK: 5, topP: 0.8 }, 0.35],
  ['min-p', { minP: 0.3 }, 0.5],
  ['top-p', { topP: 0.7 }, 0.7],
  ['no cut', {}, 0.6],
])('%s under a mask: the token of all logits, or none', (_, spec, most) => {
  const random = createRandom(6)
  let [draws, none] = [0, 0]
  for (const vocab of [3, 64, 900]) {
    const sampler = samplerOf({ ...spec, topLogprobs: 2 }, vocab)
    // Of all tokens, half, every 30th, one.
    for (const share of [1, 2, 30, vocab].filter((each) => each <= vocab)) {
      const allowed = maskOf(
        vocab,
        Array.from({ length: vocab }, (__, token) => token).filter((token) => token % share === share >> 1),
      )
      for (const [shape, logitsOf] of SHAPES) {
        for (let position = 0; position < 4; position++) {
          const logits = logitsOf(random, vocab)
          const { temperature, chances } = sampler.candidateRequest(LIMITS, position)!
          const found = sampler.sampleFrom(candidatesOf(logits, temperature, chances[0]), position, allowed)
          draws += 1
          if (found === undefined) none += 1
          const expected = found && sampler.sample(logits.slice(), position, allowed)
          const tokensOf = (sampled: typeof found) =>
            [sampled, ...(sampled?.top ?? [])].map((each) => each?.token)
          const where = { shape, vocab, share, position }
          expect({ ...where, tokens: tokensOf(found) }).toEqual({ ...where, tokens: tokensOf(expected) })
        }
      }
    }
  }
  expect(none / draws).toBeLessThan(most)
})

test('a token that the mask alone leaves is certain without a cut', () => {
  const logits = normals(createRandom(8), 900, 0, 3)
  const sampler = samplerOf({}, 900)
  const candidates = candidatesOf(logits, 1, 0.5)
  const third = candidates.pairs[4]!
  expect(sampler.sampleFrom(candidates, 2, maskOf(900, [third]))?.token).toBe(third)
})

test('a cut whose border is within the error of the sum decides nothing', () => {
  // Weights 1/2, 1/4, 1/8 …: top-p 0.75 ends exactly after the second token.
  const logits = Float32Array.from({ length: 900 }, (_, token) =>
    token < 40 ? -(token + 1) * Math.LN2 : -1000,
  )
  const drawn = (topP: number, position = 3) =>
    samplerOf({ topP }, 900).sampleFrom(candidatesOf(logits, 1), position)?.token
  expect(drawn(0.75)).toBeUndefined()
  expect(drawn(0.75 + 2 ** -18)).toBeUndefined()
  expect(drawn(0.74)).toBeLessThan(2)
  expect(drawn(0.76)).toBeLessThan(3)
})

test('top-p takes its share of what min-p keeps, also where that is more than the candidates', () => {
  // Weights 1, 100 × 1/100, and 799 × 0.0009, which min-p leaves out.
  const logits = Float32Array.from({ length: 900 }, (_, token) =>
    token === 0 ? 0 : Math.log(token <= 100 ? 0.01 : 0.0009),
  )
  const sampler = samplerOf({ minP: 0.001, topP: 0.55 }, 900)
  for (let position = 0; position < 40; position++) {
    const found = sampler.sampleFrom(candidatesOf(logits, 1), position)?.token
    expect(found ?? 'undecided').toBeOneOf(['undecided', sampler.sample(logits.slice(), position).token])
  }
})

/** Settings that adjust logits. */
const ADJUSTED: [string, Partial<SamplerSpec>][] = [
  ['repetition', { repetitionPenalty: 1.3 }],
  ['repetition that favours', { repetitionPenalty: 0.7 }],
  ['frequency and presence', { frequencyPenalty: 0.7, presencePenalty: -0.9 }],
  ['a forced token', { logitBias: [{ token: 2, bias: 100 }] }],
  [
    'everything',
    {
      repetitionPenalty: 1.7,
      frequencyPenalty: 0.3,
      presencePenalty: 0.4,
      logitBias: [
        { token: 0, bias: -100 },
        { token: 1, bias: 3.3 },
        { token: 1, bias: 0.1 },
        { token: 2, bias: 5 },
      ],
    },
  ],
]
const CUTS: Partial<SamplerSpec>[] = [
  { temperature: 0 },
  { topK: 40 },
  { topP: 0.9, temperature: 0.7 },
  {},
  { minP: 0.1, temperature: 1.5 },
]

test.each(ADJUSTED.flatMap(([name, spec]) => [false, true].map((isMasked) => ({ name, spec, isMasked }))))(
  'adjusted by $name (under a mask: $isMasked): the token of all logits, or none',
  ({ spec, isMasked }) => {
    const random = createRandom(11)
    let [draws, none] = [0, 0]
    for (const vocab of [3, 65, 100, 900]) {
      const prompt = Int32Array.from({ length: Math.min(vocab >> 1, 80) }, () => Math.floor(random() * vocab))
      const output = prompt.subarray(prompt.length >> 1)
      const allowed = isMasked
        ? maskOf(
            vocab,
            Array.from({ length: vocab }, (_, token) => token).filter((token) => token % 2 === 0),
          )
        : null
      for (const cuts of CUTS) {
        const own = {
          ...spec,
          ...cuts,
          topLogprobs: Math.min(vocab, 5),
          promptTokens: prompt.length - output.length,
        }
        const sampler = samplerOf(own, vocab)
        sampler.observe(prompt, 0)
        for (const [shape, logitsOf] of SHAPES) {
          for (let position = prompt.length; position < prompt.length + 4; position++) {
            const request = sampler.candidateRequest(LIMITS, position)
            if (!request) continue
            const logits = logitsOf(random, vocab)
            const error = (position % 3) * 2 ** -17 - 2 ** -17
            const { temperature, chances, adjusted } = request
            const candidates = candidatesOf(logits, temperature, chances[0], error, adjusted?.[0])
            const found = sampler.sampleFrom(candidates, position, allowed)
            draws += 1
            if (found === undefined) none += 1
            const expected = found && sampler.sample(logits.slice(), position, allowed)
            const where = { cuts, shape, vocab, position }
            const tokensOf = (sampled: typeof found) =>
              [sampled, ...(sampled?.top ?? [])].map((each) => each?.token)
            expect({ ...where, tokens: tokensOf(found) }).toEqual({ ...where, tokens: tokensOf(expected) })
            expect(found?.logprob ?? 0).toBeCloseTo(expected?.logprob ?? 0, 4)
          }
        }
      }
    }
    expect(none / draws).toBeLessThan(0.4)
  },
)

test('the places after drafts have the adjustments of the drafts before them', () => {
  const sampler = samplerOf({ frequencyPenalty: 1, presencePenalty: 0.5, promptTokens: 2 }, 900)
  sampler.observe(Int32Array.of(8, 9, 5), 0)
  const { adjusted } = sampler.candidateRequest(LIMITS, 3, Int32Array.of(7, 5))!
  expect(adjusted!.map(({ tokens, deductions }) => [[...tokens], [...deductions]])).toEqual([
    [[5], [1.5]],
    [
      [5, 7],
      [1.5, 1.5],
    ],
    [
      [5, 7],
      [2.5, 1.5],
    ],
  ])
  sampler.observe(Int32Array.of(7), 3)
  expect(sampler.candidateRequest(LIMITS, 4)!.adjusted![0]).toEqual(adjusted![1])
})

test('a withheld logit that is no number is an error', () => {
  const logits = normals(createRandom(8), 900, 0, 3)
  logits[4] = NaN
  const sampler = samplerOf({ logitBias: [{ token: 4, bias: 1 }], topLogprobs: 2 }, 900)
  const { adjusted } = sampler.candidateRequest(LIMITS, 0)!
  const action = () => sampler.sampleFrom(candidatesOf(logits, 1, 0.5, 0, adjusted![0]), 0)
  expect(action).toThrow('are not numbers (token 4)')
})

test('drafts take the random numbers of their positions', () => {
  const sampler = samplerOf({ topK: 3 }, 900)
  const chancesAt = (position: number) => sampler.candidateRequest(LIMITS, position)!.chances
  expect(sampler.candidateRequest(LIMITS, 4, Int32Array.of(1, 2))).toEqual({
    temperature: 1,
    chances: [4, 5, 6].flatMap(chancesAt),
  })
})

test.each<[string, Partial<SamplerSpec>]>([
  ['top-k above the candidates', { topK: CANDIDATES + 1 }],
  [
    'more biases than the device takes',
    { temperature: 0, logitBias: Array.from({ length: 201 }, (_, token) => ({ token, bias: 1 })) },
  ],
  ['more alternatives than candidates', { temperature: 0, topLogprobs: CANDIDATES + 1 }],
  ['a temperature near 0', { temperature: 0.001, topK: 5 }],
])('%s needs the whole logits', (_, spec) => {
  expect(samplerOf(spec, 900).candidateRequest(LIMITS, 3)).toBeUndefined()
})

test('log-probabilities are those of all tokens, most probable first', () => {
  const logits = normals(createRandom(9), 900, 0, 3)
  for (const temperature of [0, 0.7]) {
    const sampler = samplerOf({ temperature, topK: 3, topLogprobs: 4 }, 900)
    const found = sampler.sampleFrom(candidatesOf(logits, temperature || 1), 5)!
    const expected = sampler.sample(logits.slice(), 5)
    expect(found.logprob).toBeCloseTo(expected.logprob, 10)
    expect(found.top.map(({ token }) => token)).toEqual(expected.top.map(({ token }) => token))
    found.top.forEach(({ logprob }, rank) => expect(logprob).toBeCloseTo(expected.top[rank]!.logprob, 10))
  }
  expect(samplerOf({ topK: 3 }, 900).sampleFrom(candidatesOf(logits, 1), 5)).toMatchObject({
    logprob: NaN,
    top: [],
  })
})

test.each([
  [NaN, 'are not numbers (token 8)'],
  [Infinity, 'largest logit is Infinity'],
  [-Infinity, 'largest logit is -Infinity'],
])('a largest logit of %d is an error', (best, sentence) => {
  const candidates = {
    pairs: Float32Array.of(8, best, 2, 0),
    vocabSize: 900,
    sum: NaN,
    sumAtTemperature: NaN,
    part: undefined,
  }
  for (const temperature of [0, 1]) {
    const action = () => samplerOf({ temperature, topK: 2 }, 900).sampleFrom(candidates, 0)
    expect(action).toThrow(expect.objectContaining({ name: 'AppError', code: 'invalid_output' }))
    expect(action).toThrow(sentence)
  }
})
