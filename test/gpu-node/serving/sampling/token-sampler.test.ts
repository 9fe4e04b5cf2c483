import { AppError } from '@copal/shared/errors.ts'
import { describe, expect, test } from 'vitest'
import type { SamplerSpec } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { createScriptLogitKernels } from '../../../../gpu-node/src/serving/sampling/logit-kernels.ts'
import { randomDraw } from '../../../../gpu-node/src/serving/sampling/random-draw.ts'
import { createSampler } from '../../../../gpu-node/src/serving/sampling/token-sampler.ts'
import { createRandom, normals } from '../../../support/harness/random.ts'
import { maskOf } from '../../../support/engine/token-masks.ts'

const NEUTRAL: SamplerSpec = {
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  seed: 1,
  topLogprobs: -1,
  promptTokens: 0,
}

/** Computes by definition, with sorting and in f64, the probability of every token after penalties and cuts. */
function oracleDistribution(
  input: Float32Array,
  spec: SamplerSpec,
  history: readonly number[],
): Float64Array {
  const logits = Float64Array.from(input)
  const output = history.slice(spec.promptTokens)
  for (const token of new Set(history)) {
    const logit = logits[token] as number
    const count = output.filter((other) => other === token).length
    const repeated = logit > 0 ? logit / spec.repetitionPenalty : logit * spec.repetitionPenalty
    // Rounding to f32 keeps the logits equal to those of the sampler.
    logits[token] = Math.fround(
      repeated - (count * spec.frequencyPenalty + (count > 0 ? spec.presencePenalty : 0)),
    )
  }
  const maximum = logits.reduce((a, b) => Math.max(a, b))
  const weights = logits.map((logit) => Math.exp((logit - maximum) / spec.temperature))
  let order = [...weights.keys()].sort((a, b) => weights[b]! - weights[a]! || a - b)
  order = order.filter((token) => weights[token]! >= spec.minP)
  if (spec.topK > 0) order = order.slice(0, spec.topK)
  const total = order.reduce((sum, token) => sum + weights[token]!, 0)
  let mass = 0
  const kept =
    spec.topP >= 1
      ? order
      : order.filter((token, i) => {
          const stays = i === 0 || mass < spec.topP * total
          mass += weights[token]!
          return stays
        })
  const sum = kept.reduce((all, token) => all + weights[token]!, 0)
  const probabilities = new Float64Array(logits.length)
  for (const token of kept) probabilities[token] = weights[token]! / sum
  return probabilities
}

/** Creates a sampler for logits of any length. */
function samplerWith(spec: Partial<SamplerSpec>, history: readonly number[] = []) {
  const sampler = createSampler(
    { ...NEUTRAL, ...spec },
    {
      draw: (logits, ...rest) => createScriptLogitKernels(logits.length).draw(logits, ...rest),
      logSumExp: (logits) => createScriptLogitKernels(logits.length).logSumExp(logits),
    },
  )
  sampler.observe(Int32Array.from(history), 0)
  return sampler
}

describe('cuts', () => {
  const random = createRandom(11)
  const cases: Partial<SamplerSpec>[] = [
    {},
    { temperature: 0.3 },
    { temperature: 3 },
    { topK: 1 },
    { topK: 40 },
    { topP: 0.9 },
    { topP: 0.05 },
    { topP: 0 },
    { minP: 0.1 },
    { minP: 1 },
    { topK: 20, topP: 0.8, minP: 0.02, temperature: 0.7 },
    { topK: 5, topP: 0.999 },
  ]
  test.each(cases)('%j keep exactly the tokens of the sorting definition', (partial) => {
    for (const [vocab, deviation] of [
      [50, 1],
      [1000, 3],
      [1000, 0.01],
    ] as const) {
      const logits = normals(random, vocab, 0, deviation)
      // Ties, also at the cut.
      for (let i = 0; i < vocab; i += 7) logits[i] = logits[(i * 3) % vocab] as number
      const spec = { ...NEUTRAL, ...partial }
      const probabilities = oracleDistribution(logits, spec, [])
      // Covers the whole distribution with equidistant draws, dense enough to show each boundary.
      for (let n = 0; n < 200; n++) {
        const { token } = samplerWith({ ...spec, seed: 99 }).sample(logits.slice(), n)
        let remaining = randomDraw(99, n)
        let expected = 0
        for (const [id, probability] of probabilities.entries()) {
          if (probability === 0) continue
          expected = id
          if (remaining < probability) break
          remaining -= probability
        }
        expect(token).toBe(expected)
      }
    }
  })

  test('a flat distribution over a large vocabulary keeps the lower ids', () => {
    const logits = new Float32Array(4096).fill(2)
    const seen = new Set<number>()
    for (let n = 0; n < 3000; n++) seen.add(samplerWith({ topK: 16 }).sample(logits.slice(), n).token)
    expect([...seen].sort((a, b) => a - b)).toEqual(Array.from({ length: 16 }, (_, i) => i))
    const nucleus = new Set<number>()
    for (let n = 0; n < 3000; n++) nucleus.add(samplerWith({ topP: 0.004 }).sample(logits.slice(), n).token)
    expect([...nucleus].sort((a, b) => a - b)).toEqual(Array.from({ length: 17 }, (_, i) => i))
  })
})

test('draws follow the distribution: chi-square below its 99.9 % quantile', () => {
  const logits = Float32Array.from([2, 1, 0.5, 0, -1, -1, -2, 3])
  const draws = 20_000
  for (const [spec, quantile] of [
    [{ temperature: 1 }, 24.3],
    [{ temperature: 0.8, topK: 5 }, 18.5],
    [{ temperature: 1.5, topP: 0.9 }, 20.5],
  ] as const) {
    const probabilities = oracleDistribution(logits, { ...NEUTRAL, ...spec }, [])
    const counts = new Float64Array(logits.length)
    for (let n = 0; n < draws; n++)
      counts[samplerWith({ ...spec, seed: 5 }).sample(logits.slice(), n).token]! += 1
    let statistic = 0
    for (const [token, probability] of probabilities.entries()) {
      // A token that was cut must never be drawn: one draw of it is infinitely unlikely.
      if (counts[token] !== 0 || probability > 0) {
        statistic += (counts[token]! - probability * draws) ** 2 / (probability * draws)
      }
    }
    expect(statistic).toBeLessThan(quantile)
  }
})

describe('penalties', () => {
  test('count generated tokens for presence and frequency, and the prompt too for repetition', () => {
    const random = createRandom(3)
    const logits = normals(random, 64, 0, 4)
    // 5 and 6 are only in the prompt, 7 in both, 8 and 9 only generated.
    const history = [5, 6, 7, 7, 8, 8, 8, 9]
    const promptTokens = 3
    for (const spec of [
      { repetitionPenalty: 1.3 },
      { presencePenalty: 1.5 },
      { frequencyPenalty: 0.7 },
      { repetitionPenalty: 0.8, presencePenalty: -0.5, frequencyPenalty: 0.4 },
    ]) {
      const full = { ...NEUTRAL, ...spec, promptTokens, seed: 8 }
      const probabilities = oracleDistribution(logits, full, history)
      const counts = new Float64Array(64)
      for (let n = 0; n < 4000; n++) {
        counts[samplerWith(full, history).sample(logits.slice(), promptTokens + n).token]! += 1
      }
      for (const [token, probability] of probabilities.entries()) {
        const deviation = Math.sqrt(probability * (1 - probability) * 4000)
        expect(Math.abs(counts[token]! - probability * 4000)).toBeLessThanOrEqual(5 * deviation + 1)
      }
    }
  })

  test('tokens observed twice count once', () => {
    const logits = Float32Array.from([0, 1])
    const sampler = samplerWith({ temperature: 0, frequencyPenalty: 0.6 }, [1])
    sampler.observe(Int32Array.of(1), 0)
    expect(sampler.sample(logits.slice(), 1).token).toBe(1)
    sampler.observe(Int32Array.of(1), 1)
    expect(sampler.sample(logits.slice(), 2).token).toBe(0)
  })

  test('greedy takes the largest penalised logit', () => {
    const logits = Float32Array.from([0, 4, 3.9, -1])
    expect(samplerWith({ temperature: 0 }, [1]).sample(logits.slice(), 1).token).toBe(1)
    expect(samplerWith({ temperature: 0, repetitionPenalty: 1.1 }, [1]).sample(logits.slice(), 1).token).toBe(
      2,
    )
  })
})

describe('a mask', () => {
  const vocab = 100
  const logits = normals(createRandom(9), vocab, 0, 3)
  const allowed = [0, 31, 32, 50, 63, 64, 99]
  const mask = maskOf(vocab, allowed)

  test('keeps the relative probabilities of the tokens that it allows', () => {
    for (const spec of [{}, { temperature: 0.7, topK: 3 }, { topP: 0.8 }, { minP: 0.1, topK: 50 }]) {
      const among = Float32Array.from(logits, (logit, token) => (allowed.includes(token) ? logit : -Infinity))
      const probabilities = oracleDistribution(among, { ...NEUTRAL, ...spec }, [])
      const counts = new Float64Array(vocab)
      for (let n = 0; n < 4000; n++)
        counts[samplerWith({ ...spec, seed: 4 }).sample(logits.slice(), n, mask).token]! += 1
      for (const [token, probability] of probabilities.entries()) {
        const deviation = Math.sqrt(probability * (1 - probability) * 4000)
        expect(Math.abs(counts[token]! - probability * 4000)).toBeLessThanOrEqual(5 * deviation + 1)
      }
    }
  })

  test('applies after penalties and with greedy sampling', () => {
    const spec = { temperature: 0, frequencyPenalty: -2, repetitionPenalty: 0.5 }
    const sampler = samplerWith(spec, [1, 2, 3])
    expect(allowed).toContain(sampler.sample(logits.slice(), 3, mask).token)
    expect(samplerWith({ temperature: 0 }).sample(logits.slice(), 0, maskOf(vocab, [77])).token).toBe(77)
  })

  test('changes no log-probability, not even those of forbidden tokens', () => {
    const spec = { temperature: 0, topLogprobs: 20 }
    const free = samplerWith(spec).sample(logits.slice(), 0)
    const masked = samplerWith(spec).sample(logits.slice(), 0, mask)
    expect(masked.top).toEqual(free.top)
    const logSumExp = (logits[free.token] as number) - free.logprob
    expect(masked.logprob).toBeCloseTo((logits[masked.token] as number) - logSumExp, 5)
  })
})

describe('log-probabilities', () => {
  test('are those of the unpenalised distribution at temperature 1, whatever is sampled', () => {
    const logits = normals(createRandom(21), 512, 0, 3)
    const exact = Float64Array.from(logits)
    const logSumExp = Math.log(exact.reduce((sum, logit) => sum + Math.exp(logit), 0))
    const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b)
    const spec = { temperature: 0.5, topK: 9, repetitionPenalty: 1.7, topLogprobs: 20, promptTokens: 2 }
    const { token, logprob, top } = samplerWith(spec, [order[0]!, order[1]!]).sample(logits.slice(), 2)
    expect(logprob).toBeCloseTo(exact[token]! - logSumExp, 5)
    expect(top.map(({ token: id }) => id)).toEqual(order.slice(0, 20))
    for (const alternative of top) {
      expect(alternative.logprob).toBeCloseTo(exact[alternative.token]! - logSumExp, 5)
    }
  })

  test('alternatives of equal probability are ordered by id', () => {
    const logits = Float32Array.from([1, 3, 2, 3, 2, 2])
    const { top } = samplerWith({ temperature: 0, topLogprobs: 4 }).sample(logits, 0)
    expect(top.map(({ token }) => token)).toEqual([1, 3, 2, 4])
  })

  test('are left out unless requested, and 0 requests no alternatives', () => {
    const without = samplerWith({ temperature: 0 }).sample(Float32Array.of(1, 2), 0)
    expect(without).toEqual({ token: 1, logprob: NaN, top: [] })
    const zero = samplerWith({ temperature: 0, topLogprobs: 0 }).sample(Float32Array.of(1, 2), 0)
    expect(zero.logprob).toBeCloseTo(-Math.log(1 + Math.exp(-1)), 6)
    expect(zero.top).toEqual([])
  })

  test('huge logits do not overflow', () => {
    const { logprob } = samplerWith({ temperature: 0, topLogprobs: 0 }).sample(
      Float32Array.of(3e4, 3e4, -3e4),
      0,
    )
    expect(logprob).toBeCloseTo(-Math.log(2), 3)
  })
})

test('ties at temperature 0 go to the lower id', () => {
  expect(samplerWith({ temperature: 0 }).sample(Float32Array.of(0, 5, 5), 0).token).toBe(1)
})

test('the n-th draw of a sequence depends on the seed and n, not on where the prompt ends', () => {
  const logits = normals(createRandom(5), 256, 0, 2)
  const draws = (promptTokens: number) =>
    Array.from(
      { length: 20 },
      (_, n) => samplerWith({ promptTokens, seed: 77 }).sample(logits.slice(), promptTokens + n).token,
    )
  expect(draws(0)).toEqual(draws(31))
  expect(new Set(draws(0)).size).toBeGreaterThan(5)
})

test('logits that are not numbers are an error, not a token', () => {
  for (const logits of [
    Float32Array.of(1, NaN),
    Float32Array.of(-Infinity, -Infinity),
    Float32Array.of(1, Infinity),
  ]) {
    expect(() => samplerWith({ temperature: 0 }).sample(logits, 0)).toThrow(AppError)
  }
})

describe('biases', () => {
  const logits = () => Float32Array.from([2, 1, 0.5, -1])

  test('forbid and force tokens, before temperature and cuts', () => {
    const greedy = samplerWith({ temperature: 0, logitBias: [{ token: 0, bias: -100 }] })
    expect(greedy.sample(logits(), 0).token).toBe(1)
    const forced = samplerWith({ topK: 1, logitBias: [{ token: 3, bias: 100 }] })
    for (let position = 0; position < 20; position++) expect(forced.sample(logits(), position).token).toBe(3)
  })

  test('change no reported log-probability', () => {
    const plain = samplerWith({ temperature: 0, topLogprobs: 4 }).sample(logits(), 0)
    const biased = samplerWith({
      temperature: 0,
      topLogprobs: 4,
      logitBias: [{ token: 3, bias: 100 }],
    }).sample(logits(), 0)
    expect(biased.token).toBe(3)
    expect(biased.top).toEqual(plain.top)
    expect(biased.logprob).toBeCloseTo(plain.top.find(({ token }) => token === 3)!.logprob, 6)
  })

  test('apply before penalties: a logit raised above zero is divided, not multiplied', () => {
    const spec = { temperature: 0, repetitionPenalty: 2, logitBias: [{ token: 3, bias: 4 }] }
    // Token 3: (-1 + 4) / 2 = 1.5, below token 0; the other way round it would be -2 + 4 = 2 and tie above.
    const sampler = samplerWith(spec, [3])
    expect(sampler.sample(Float32Array.from([1.75, 1, 0.5, -1]), 1).token).toBe(0)
  })
})
