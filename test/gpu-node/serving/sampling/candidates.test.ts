/** Tests that tokens drawn from the candidates of a device are those drawn from all logits. */
import { expect, test } from 'vitest'
import type { SamplerSpec } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { GREEDY } from '../../../../gpu-node/src/serving/contract/greedy.ts'
import type { Candidates } from '../../../../gpu-node/src/serving/sampling/candidates.ts'
import { createScriptLogitKernels } from '../../../../gpu-node/src/serving/sampling/logit-kernels.ts'
import { createSampler } from '../../../../gpu-node/src/serving/sampling/token-sampler.ts'
import { maskOf } from '../../../support/engine/token-masks.ts'
import { createRandom, normals } from '../../../support/harness/random.ts'

const COUNT = 64
const SPEC: SamplerSpec = { ...GREEDY, temperature: 1, seed: 7, promptTokens: 0 }

/** Computes what a device returns for some logits. `error` is the relative error of its sums. */
function candidatesOf(logits: Float32Array, temperature: number, chance = 0, error = 0): Candidates {
  const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b)
  const best = logits[order[0]!]!
  const sumAt = (t: number) =>
    logits.reduce((sum, logit) => sum + Math.exp((logit - best) / t), 0) * (1 + error)
  const [size, total] = [Math.ceil(logits.length / 256), sumAt(temperature)]
  const weightOf = (tokens: Float32Array) =>
    tokens.reduce((sum, logit) => sum + Math.exp((logit - best) / temperature), 0)
  let start = 0
  let before = 0
  while (start + size < logits.length) {
    const next = before + weightOf(logits.subarray(start, start + size))
    if (chance * total < next) break
    before = next
    start += size
  }
  const part = new Float32Array(size).fill(-Infinity)
  part.set(logits.subarray(start, start + size))
  return {
    part: { start, before: before - error * total, logits: part },
    pairs: Float32Array.from(order.slice(0, COUNT).flatMap((token) => [token, logits[token]!])),
    vocabSize: logits.length,
    sum: sumAt(1),
    sumAtTemperature: total,
  }
}

function samplerOf(spec: Partial<SamplerSpec>, vocab: number) {
  return createSampler({ ...SPEC, ...spec }, createScriptLogitKernels(vocab))
}

/** Logits that are flat, peaked, and rounded so that many are equal. */
const SHAPES: [string, (random: () => number, vocab: number) => Float32Array][] = [
  ['flat', (random, vocab) => normals(random, vocab, 0, 0.01)],
  ['usual', (random, vocab) => normals(random, vocab, 0, 3)],
  ['peaked', (random, vocab) => normals(random, vocab, 0, 12)],
  ['tied', (random, vocab) => normals(random, vocab, 0, 2).map((logit) => Math.round(logit))],
  ['equal', (_, vocab) => new Float32Array(vocab).fill(-1.5)],
]

test.each<[string, Partial<SamplerSpec>, 'always' | 'often' | 'sometimes']>([
  ['greedy', { temperature: 0 }, 'always'],
  ['greedy whatever the cuts', { temperature: 0, topP: 0.3, topK: 5, minP: 0.1 }, 'always'],
  ['top-k 1', { topK: 1 }, 'always'],
  ['top-k', { topK: 40 }, 'often'],
  ['top-k of all candidates, hot', { topK: COUNT, temperature: 2 }, 'often'],
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
    const request = sampler.candidateRequest(COUNT, 0)
    expect(request?.temperature).toBe(spec.temperature === 0 ? 1 : (spec.temperature ?? 1))
    for (const [shape, logitsOf] of SHAPES) {
      for (let position = 0; position < 6; position++) {
        const logits = logitsOf(random, vocab)
        // The sign of the error changes: a device may be off by as much.
        const error = (position % 3) * 2 ** -17 - 2 ** -17
        const { temperature, chances } = sampler.candidateRequest(COUNT, position)!
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
  ['top-k', { topK: 5 }, 0.4],
  ['top-k and top-p', { topK: 5, topP: 0.8 }, 0.5],
  ['min-p', { minP: 0.3 }, 0.5],
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
          const { temperature, chances } = sampler.candidateRequest(COUNT, position, 0, true)!
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

test('a token that the mask alone leaves is certain without a cut, and one of many is not looked for', () => {
  const logits = normals(createRandom(8), 900, 0, 3)
  const sampler = samplerOf({}, 900)
  const candidates = candidatesOf(logits, 1, 0.5)
  const third = candidates.pairs[4]!
  expect(sampler.sampleFrom(candidates, 2, maskOf(900, [third]))?.token).toBe(third)
  expect(sampler.candidateRequest(COUNT, 2, 0, true)).toBeUndefined()
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

test('drafts take the random numbers of their positions', () => {
  const sampler = samplerOf({ topK: 3 }, 900)
  const chancesAt = (position: number) => sampler.candidateRequest(COUNT, position)!.chances
  expect(sampler.candidateRequest(COUNT, 4, 2)).toEqual({
    temperature: 1,
    chances: [4, 5, 6].flatMap(chancesAt),
  })
})

test.each<[string, Partial<SamplerSpec>]>([
  ['top-k above the candidates', { topK: COUNT + 1 }],
  ['a logit bias', { temperature: 0, logitBias: [{ token: 1, bias: 1 }] }],
  ['a presence penalty', { temperature: 0, presencePenalty: 0.1 }],
  ['a frequency penalty', { temperature: 0, frequencyPenalty: -0.1 }],
  ['a repetition penalty', { temperature: 0, repetitionPenalty: 1.1 }],
  ['more alternatives than candidates', { temperature: 0, topLogprobs: COUNT + 1 }],
  ['a temperature near 0', { temperature: 0.001, topK: 5 }],
])('%s needs the whole logits', (_, spec) => {
  expect(samplerOf(spec, 900).candidateRequest(COUNT, 3)).toBeUndefined()
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
