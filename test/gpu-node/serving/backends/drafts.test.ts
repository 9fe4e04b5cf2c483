/** Tests the drafts of every backend that takes some, on the tiny model. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type {
  Backend,
  SampledToken,
  SamplerSpec,
  SequenceWork,
  TokenMask,
} from '../../../../gpu-node/src/serving/contract/backend.ts'
import {
  generateWork,
  logprobs,
  randomTokens,
  Steps,
  tokenIds,
  type Token,
} from '../../../support/engine/backend-steps.ts'
import { addon, BACKENDS, INT8_KEYS } from '../../../support/engine/backends.ts'
import { GPU_BACKENDS, skipWithoutGpu } from '../../../support/engine/gpu.ts'
import { maskOf } from '../../../support/engine/token-masks.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

const SAMPLERS: Record<string, Partial<SamplerSpec>> = {
  'without chance': {},
  'by chance': { temperature: 1.5, seed: 3 },
  'with penalties of all kinds': {
    temperature: 0.9,
    seed: 4,
    presencePenalty: 0.4,
    frequencyPenalty: 0.8,
    repetitionPenalty: 1.3,
  },
  'from the most probable tokens, one of them favoured': {
    temperature: 1,
    topK: 20,
    topP: 0.9,
    seed: 5,
    logitBias: [{ token: 17, bias: 4 }],
  },
  'without log-probabilities': { temperature: 1, seed: 6, topLogprobs: -1 },
  'of a cut tail': { temperature: 1.2, topP: 0.8, minP: 0.01, seed: 7 },
  'of more tokens than there are candidates': { temperature: 40, topP: 0.99, seed: 8 },
}
const WRONG = 299

/** Returns a grammar's part in the sampling of the token at a position: it forbids a third of the tokens, others at each place. */
function maskAt(position: number): TokenMask {
  const tokens = Array.from({ length: WRONG + 1 }, (_, token) => token)
  return maskOf(
    tokens.length,
    tokens.filter((token) => (token + position) % 3 > 0),
  )
}

if (!addon) skipWithoutAddon('the sparse engine')
skipWithoutGpu('the drafts of backends')
// The sets of ONNX sample one token of a sequence in a step.
const DRAFTED = [...BACKENDS.filter(({ name }) => name !== 'onnx'), ...INT8_KEYS, ...GPU_BACKENDS]
describe.each(DRAFTED)('$name', ({ create }) => {
  let tiny: TinyModel
  let backend: Backend
  beforeAll(async () => {
    tiny = await openTinyModel({ contextLength: 1024 })
    backend = create(join(tiny.dir, 'work'))
  })
  afterAll(() => tiny.remove())

  async function load(): Promise<Steps> {
    const weights = await backend.load({ model: tiny.model, version: 0, maskPath: null, priority: 'serving' })
    onTestFinished(() => backend.release(weights))
    return new Steps(backend, weights)
  }

  /** Prefills a prompt and decodes tokens under the masks of their positions, one step each. */
  async function generateMasked(
    steps: Steps,
    sequence: number,
    prompt: Int32Array,
    count: number,
    sampler: Partial<SamplerSpec>,
  ): Promise<Token[]> {
    const outputs: Token[] = []
    for (let position = prompt.length; outputs.length < count; position++) {
      const last = outputs.at(-1)
      const work: SequenceWork = last
        ? { sequence, tokens: Int32Array.of(last.token), position: position - 1, output: 'token' }
        : generateWork(sequence, prompt, sampler)
      outputs.push((await steps.one({ ...work, allowed: Promise.resolve(maskAt(position)) })) as Token)
    }
    return outputs
  }

  const cases = Object.entries(SAMPLERS).flatMap(([name, sampler]) =>
    [false, true].map((masked) => ({ name: masked ? `${name}, under a grammar` : name, sampler, masked })),
  )
  test.for(cases)(
    'drafts change no token $name, however many of them are right',
    async ({ sampler, masked }) => {
      const steps = await load()
      expect(steps.weights.takesDrafts).toBe(true)
      const prompt = randomTokens(70, 21)
      const generate = (count: number) =>
        masked ? generateMasked(steps, 1, prompt, count, sampler) : steps.generate(1, prompt, count, sampler)
      const expected = await generate(40)
      const beside = await steps.generate(2, randomTokens(71, 5), 12, { temperature: 1, seed: 9 })
      const masksFrom = (position: number, drafts: number): Partial<SequenceWork> => {
        if (!masked) return {}
        const [first, ...rest] = Array.from({ length: 1 + drafts }, (_, place) => maskAt(position + place))
        return { allowed: Promise.resolve(first!), allowedAfterDrafts: Promise.resolve(rest) }
      }
      // Another sequence goes on beside the drafts, one token a step.
      const first = (await steps.run([
        { ...generateWork(3, prompt, sampler), ...masksFrom(21, 0) },
        generateWork(4, randomTokens(71, 5), { temperature: 1, seed: 9 }),
      ])) as Token[]
      const found: SampledToken[] = [first[0]!]
      const other: SampledToken[] = [first[1]!]
      for (const [right, wrong] of [
        [3, 0],
        [0, 2],
        [1, 4],
        [0, 0],
        [7, 1],
        [12, 0],
      ] as const) {
        const known = found.length
        const next = tokenIds(expected.slice(known, known + right))
        // What is sampled next is no wrong draft.
        const wrongDraft = expected[known + right]!.token === WRONG ? 0 : WRONG
        const drafts = [...next, ...Array.from({ length: wrong }, () => wrongDraft)]
        const work = (sequence: number, tokens: number[], position: number): SequenceWork => ({
          sequence,
          tokens: Int32Array.from(tokens),
          position,
          output: 'token',
        })
        const [drafted, single] = (await steps.run([
          {
            ...work(3, [found.at(-1)!.token, ...drafts], 20 + known),
            drafts: drafts.length,
            ...masksFrom(21 + known, drafts.length),
          },
          work(4, [other.at(-1)!.token], 4 + other.length),
        ])) as Token[]
        expect(drafted!.more ?? []).toHaveLength(right)
        found.push(drafted!, ...(drafted!.more ?? []))
        other.push(single!)
      }
      expect(tokenIds(found)).toEqual(tokenIds(expected.slice(0, found.length)))
      expect(tokenIds(other)).toEqual(tokenIds(beside.slice(0, other.length)))
      // To the bit: the kernels give a token the same logits whatever is beside it.
      const same = expected.slice(0, found.length)
      expect(logprobs(found)).toEqual(logprobs(same))
      expect(found.map(({ top }) => top)).toEqual(same.map(({ top }) => top))
    },
  )

  test('a place after a draft where nothing can be sampled fails nothing: the output may end before', async () => {
    const steps = await load()
    const prompt = randomTokens(70, 21)
    const [token, next] = tokenIds(await steps.generate(1, prompt, 2, {}))
    await steps.run([generateWork(2, prompt.slice(0, -1))])
    const found = (await steps.run([
      {
        sequence: 2,
        tokens: Int32Array.from([prompt.at(-1)!, token!, next!]),
        position: prompt.length - 1,
        output: 'token',
        drafts: 2,
        allowed: Promise.resolve(null),
        allowedAfterDrafts: Promise.resolve([maskOf(tiny.model.config.vocabSize, [])]),
      },
    ])) as Token[]
    expect(found).toMatchObject([{ kind: 'token', token, more: [] }])
  })
})
