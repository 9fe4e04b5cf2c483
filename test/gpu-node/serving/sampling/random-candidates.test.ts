/** Compares tokens that are sampled from the candidates of a GPU with those from whole logits, for settings at random. */
import { expect, test } from 'vitest'
import type { SamplerSpec } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { createScriptLogitKernels } from '../../../../gpu-node/src/serving/sampling/logit-kernels.ts'
import { createSampler } from '../../../../gpu-node/src/serving/sampling/token-sampler.ts'
import { CANDIDATES, candidatesOf, SHAPES } from '../../../support/engine/device-candidates.ts'
import { maskOf } from '../../../support/engine/token-masks.ts'
import { createRandom } from '../../../support/harness/random.ts'

const LIMITS = { count: CANDIDATES, maxAdjusted: 150 }
const CASES = 600
/** Just within what the GPU addon promises of its sums. */
const MAX_ERROR = 0.99 * 2 ** -16

type Random = () => number

function oneOf<T>(random: Random, values: readonly T[]): T {
  return values[Math.floor(random() * values.length)] as T
}

function someTokens(random: Random, vocab: number, count: number): Int32Array {
  return Int32Array.from({ length: count }, () => Math.floor(random() * vocab))
}

function randomSpec(random: Random, vocab: number, promptTokens: number): SamplerSpec {
  const biased = oneOf(random, [0, 0, 1, 4, Math.min(vocab, 30)])
  return {
    temperature: oneOf(random, [0, 0.05, 0.7, 1, 1, 1.8]),
    topK: oneOf(random, [0, 0, 0, 1, 5, CANDIDATES - 1, CANDIDATES, CANDIDATES + 9]),
    topP: oneOf(random, [1, 1, 1, 0.95, 0.5, 0.02, 0]),
    minP: oneOf(random, [0, 0, 0, 0.001, 0.3, 1]),
    repetitionPenalty: oneOf(random, [1, 1, 1.2, 0.5, 10]),
    frequencyPenalty: oneOf(random, [0, 0, 0.6, -0.4, 2]),
    presencePenalty: oneOf(random, [0, 0, 1.1, -2]),
    logitBias: Array.from({ length: biased }, () => ({
      token: Math.floor(random() * vocab),
      bias: oneOf(random, [-100, 100, -3.3, 4, 0.1, 0]),
    })),
    seed: Math.floor(random() * 2 ** 32),
    topLogprobs: oneOf(random, [-1, 0, Math.min(vocab, 3)]),
    promptTokens,
  }
}

/** A grammar that allows everything, most, few or one of the tokens; at least one. */
function randomMask(random: Random, vocab: number) {
  const share = oneOf(random, [undefined, undefined, 0.9, 0.3, 0.02, 0])
  if (share === undefined) return null
  const some = Math.floor(random() * vocab)
  return maskOf(
    vocab,
    [...Array(vocab).keys()].filter((token) => token === some || random() < share),
  )
}

test('biases, penalties, grammars, cuts and drafts at random: the token of all logits, or none', () => {
  const random = createRandom(20)
  const counts = { asked: 0, decided: 0, adjusted: 0, guided: 0, both: 0 }
  for (let index = 0; index < CASES; index++) {
    const vocab = oneOf(random, [2, 33, CANDIDATES, CANDIDATES + 1, 200, 700])
    const text = someTokens(random, vocab, 1 + Math.floor(random() * 60))
    const spec = randomSpec(random, vocab, Math.floor(random() * (text.length + 1)))
    const drafts = someTokens(random, vocab, Math.floor(random() * 3))
    const kernels = createScriptLogitKernels(vocab)
    const fast = createSampler(spec, kernels)
    const [whole, resumed] = [createSampler(spec, kernels), createSampler(spec, kernels)]
    // In pieces, as when they were generated; at once, as after a preemption.
    for (const [position, token] of text.entries()) fast.observe(Int32Array.of(token), position)
    for (const sampler of [whole, resumed]) sampler.observe(text, 0)
    const request = fast.candidateRequest(LIMITS, text.length, drafts)
    expect(resumed.candidateRequest(LIMITS, text.length, drafts)).toEqual(request)
    if (!request) continue
    for (let place = 0; place <= drafts.length; place++) {
      const position = text.length + place
      const draft = drafts.subarray(place - 1, place)
      if (place > 0) for (const sampler of [fast, whole]) sampler.observe(draft, position - 1)
      const allowed = randomMask(random, vocab)
      const [shape, logitsOf] = oneOf(random, SHAPES)
      const logits = logitsOf(random, vocab)
      const error = (2 * random() - 1) * MAX_ERROR
      const adjusted = request.adjusted?.[place]
      const chance = request.chances[place]
      const candidates = candidatesOf(logits, request.temperature, chance, error, adjusted)
      const found = fast.sampleFrom(candidates, position, allowed)
      counts.asked += 1
      if (!found) continue
      counts.decided += 1
      if (adjusted?.tokens.length) counts.adjusted += 1
      if (allowed) counts.guided += 1
      if (allowed && adjusted?.tokens.length) counts.both += 1
      const expected = whole.sample(logits, position, allowed)
      const where = { index, place, shape, vocab, spec }
      const tokensOf = ({ token, top }: typeof expected) => [token, ...top.map((each) => each.token)]
      expect({ ...where, tokens: tokensOf(found) }).toEqual({ ...where, tokens: tokensOf(expected) })
      const difference = spec.topLogprobs < 0 ? 0 : found.logprob - expected.logprob
      expect(difference).toBeCloseTo(0, 4)
    }
  }
  // Most tokens are compared, of each kind.
  expect(counts.decided / counts.asked).toBeGreaterThan(0.6)
  expect(Math.min(counts.adjusted, counts.guided, counts.both)).toBeGreaterThan(CASES / 4)
})
