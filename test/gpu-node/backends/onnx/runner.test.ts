import { AppError } from '@copal/shared/errors.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { SamplerSpec, SequenceOutput, SequenceWork } from '../../../../gpu-node/src/backends/backend.ts'
import { createDecoderSession } from '../../../../gpu-node/src/backends/onnx/load-runner.ts'
import { createRunner, type Runner } from '../../../../gpu-node/src/backends/onnx/runner.ts'
import type { InferenceSession } from '../../../../gpu-node/src/graph/runtime.ts'
import { createRandom } from '../../../support/random.ts'
import { logSoftmax, referenceLogits } from '../../../support/reference-model.ts'
import type { TinyLlamaOptions } from '../../../support/tiny-llama.ts'
import { openTinyModel, type TinyModel } from '../../../support/tiny-model.ts'
import { GREEDY } from '../../../support/greedy.ts'

let tiny: TinyModel
let session: InferenceSession

beforeAll(async () => {
  tiny = await openTinyModel({ contextLength: 1024 })
  session = await sessionOf(tiny)
})
afterAll(() => tiny.remove())

function sessionOf({ model: { config, master } }: TinyModel): Promise<InferenceSession> {
  const common = { maskPath: null, workDir: '', threads: 1, provider: 'cpu', background: false } as const
  return createDecoderSession({ config, master, ...common })
}

const TOLD: SamplerSpec = { ...GREEDY, seed: 1, topLogprobs: 5, promptTokens: 1 }

function tokensOf(seed: number, count: number): Int32Array {
  const random = createRandom(seed)
  return Int32Array.from({ length: count }, () => Math.floor(random() * tiny.model.config.vocabSize))
}

function generating(sequence: number, tokens: Int32Array, sampler: Partial<SamplerSpec> = {}): SequenceWork {
  const spec = { ...TOLD, promptTokens: tokens.length, ...sampler }
  return { sequence, tokens, position: 0, sampler: spec, output: 'token' }
}

function scoring(sequence: number, tokens: Int32Array, targets: Int32Array): SequenceWork {
  return { sequence, tokens, position: 0, output: 'nll', targets }
}

type Token = Extract<SequenceOutput, { kind: 'token' }>

async function runOne(runner: Runner, work: SequenceWork): Promise<SequenceOutput> {
  const [output] = await runner.step([work], [])
  return output as SequenceOutput
}

async function nllOf(runner: Runner, work: SequenceWork): Promise<Float32Array> {
  const output = await runOne(runner, work)
  if (output.kind !== 'nll') throw new Error(`expected nll, got ${output.kind}`)
  return output.nll
}

/** Prefills `prompt` and decodes `count` tokens, one step each. */
async function generate(
  runner: Runner,
  sequence: number,
  prompt: Int32Array,
  count: number,
  sampler: Partial<SamplerSpec> = {},
): Promise<Token[]> {
  const outputs = [(await runOne(runner, generating(sequence, prompt, sampler))) as Token]
  while (outputs.length < count) {
    const tokens = Int32Array.of(outputs.at(-1)!.token)
    const position = prompt.length + outputs.length - 1
    outputs.push((await runOne(runner, { sequence, tokens, position, output: 'token' })) as Token)
  }
  return outputs
}

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-4): void {
  expect(actual.length).toBe(expected.length)
  for (let i = 0; i < expected.length; i++) {
    expect(Math.abs(actual[i]! - expected[i]!), `at ${i}`).toBeLessThan(tolerance)
  }
}

describe('the graph agrees with f64 arithmetic', () => {
  const variants: TinyLlamaOptions[] = [
    {},
    { tied: false, seed: 2 },
    { ropeScaling: { type: 'linear', factor: 4 } },
    {
      ropeScaling: {
        type: 'llama3',
        factor: 8,
        lowFreqFactor: 1,
        highFreqFactor: 4,
        originalContextLength: 32,
      },
    },
    { heads: 6, kvHeads: 2, headDim: 32, layers: 1 },
  ]
  test.each(variants)('%j', async (options) => {
    const model = await openTinyModel(options)
    try {
      const tokens = tokensOf(3, 24)
      const targets = tokensOf(4, 24)
      const logprobs = referenceLogits(model.model.config, model.tensors, [...tokens]).map(logSoftmax)
      const runner = createRunner(await sessionOf(model), model.model.config)
      const nll = await nllOf(runner, scoring(1, tokens, targets))
      expectClose(
        nll,
        [...targets].map((target, i) => -logprobs[i]![target]!),
        1e-4,
      )
      const { token, top } = (await runOne(runner, generating(2, tokens))) as Token
      const order = [...logprobs[23]!.keys()].sort((a, b) => logprobs[23]![b]! - logprobs[23]![a]!)
      expect(token).toBe(order[0])
      expect(top.map((alternative) => alternative.token)).toEqual(order.slice(0, 5))
      expectClose(
        top.map(({ logprob }) => logprob),
        order.slice(0, 5).map((id) => logprobs[23]![id]!),
      )
    } finally {
      await model.remove()
    }
  })
})

test('cached decode gives what a full forward over the same tokens gives', async () => {
  const runner = createRunner(session, tiny.model.config)
  const prompt = tokensOf(5, 9)
  const outputs = await generate(runner, 1, prompt, 30)
  const all = Int32Array.of(...prompt, ...outputs.map(({ token }) => token))
  const targets = all.slice(1)
  expect(outputs.length).toBe(30)
  const nll = await nllOf(runner, scoring(2, all.subarray(0, -1), targets))
  expectClose(
    outputs.map(({ logprob }) => -logprob),
    nll.subarray(prompt.length - 1),
  )
})

test('decode stays right while a sequence outgrows one capacity after another', async () => {
  const runner = createRunner(session, tiny.model.config)
  const prompt = tokensOf(6, 250)
  const outputs = await generate(runner, 1, prompt, 280)
  const all = Int32Array.of(...prompt, ...outputs.map(({ token }) => token))
  const nll = await nllOf(runner, scoring(2, all.subarray(0, -1), all.slice(1)))
  expect(runner.usage().sequences).toBe(2)
  expectClose(
    outputs.map(({ logprob }) => -logprob),
    nll.subarray(prompt.length - 1),
    5e-4,
  )
})

test.each([[[600]], [[1, 599]], [[256, 256, 88]], [[37, 300, 263]]])(
  'prefill in chunks of %j equals prefill at once',
  async (chunks) => {
    const runner = createRunner(session, tiny.model.config)
    const tokens = tokensOf(7, 600)
    const whole = (await runOne(runner, generating(1, tokens))) as Token
    let position = 0
    let last: SequenceOutput | undefined
    for (const [index, length] of chunks.entries()) {
      const chunk = tokens.subarray(position, position + length)
      const output = index === chunks.length - 1 ? 'token' : 'none'
      const sampler = index === 0 ? { sampler: { ...TOLD, promptTokens: 600 } } : {}
      last = await runOne(runner, { sequence: 2, tokens: chunk, position, output, ...sampler })
      position += length
    }
    const token = last as Token
    expect(token.token).toBe(whole.token)
    expectClose(
      token.top.map(({ logprob }) => logprob),
      whole.top.map(({ logprob }) => logprob),
    )
  },
)

test('scores of one chunk equal scores of several, and a target of -1 is skipped', async () => {
  const runner = createRunner(session, tiny.model.config)
  const tokens = tokensOf(8, 500)
  const targets = Int32Array.from(tokensOf(9, 500), (target, i) => (i % 3 === 0 ? -1 : target))
  const whole = await nllOf(runner, scoring(1, tokens, targets))
  expect(whole.length).toBe(333)
  const first = await nllOf(runner, scoring(2, tokens.subarray(0, 123), targets.subarray(0, 123)))
  const rest = await nllOf(runner, {
    ...scoring(2, tokens.subarray(123), targets.subarray(123)),
    position: 123,
  })
  expectClose([...first, ...rest], whole)
  const none = await nllOf(runner, scoring(3, tokens.subarray(0, 4), new Int32Array(4).fill(-1)))
  expect(none.length).toBe(0)
})

test('sequences of different lengths decoded together give what each gives alone', async () => {
  const settings: Partial<SamplerSpec>[] = [
    {},
    { temperature: 0.9, seed: 4 },
    { temperature: 1.3, topP: 0.8, seed: 5, frequencyPenalty: 0.5 },
    { repetitionPenalty: 1.4 },
  ]
  const prompts = Array.from({ length: 20 }, (_, i) => tokensOf(100 + i, 1 + ((i * 37) % 270)))
  const alone: Token[][] = []
  for (const [i, prompt] of prompts.entries()) {
    alone.push(await generate(createRunner(session, tiny.model.config), 1, prompt, 8, settings[i % 4]))
  }
  const runner = createRunner(session, tiny.model.config)
  const together: Token[][] = prompts.map(() => [])
  const starts = await runner.step(
    prompts.map((prompt, i) => generating(i, prompt, settings[i % 4])),
    [],
  )
  for (const [i, output] of starts.entries()) together[i]!.push(output as Token)
  for (let n = 1; n < 8; n++) {
    const work = prompts.map((prompt, i): SequenceWork => ({
      sequence: i,
      tokens: Int32Array.of(together[i]!.at(-1)!.token),
      position: prompt.length + n - 1,
      output: 'token',
    }))
    // Some pause a step and are made up for, so that batches have gaps.
    const paused = work.filter((_, i) => (i + n) % 5 === 0)
    const others = work.filter((_, i) => (i + n) % 5 !== 0)
    const outputs = new Map<number, SequenceOutput>()
    for (const part of [others, paused]) {
      const results = await runner.step(part, [])
      for (const [i, { sequence }] of part.entries()) outputs.set(sequence, results[i]!)
    }
    for (const i of prompts.keys()) together[i]!.push(outputs.get(i) as Token)
  }
  for (const i of prompts.keys()) {
    expect(together[i]!.map(({ token }) => token)).toEqual(alone[i]!.map(({ token }) => token))
    expectClose(
      together[i]!.map(({ logprob }) => logprob),
      alone[i]!.map(({ logprob }) => logprob),
    )
  }
})

test('a sequence that starts over with its generated tokens goes on with the same text', async () => {
  const sampler = { temperature: 1, seed: 12, frequencyPenalty: 0.3, promptTokens: 10 }
  const prompt = tokensOf(15, 10)
  const expected = await generate(createRunner(session, tiny.model.config), 1, prompt, 12, sampler)
  const runner = createRunner(session, tiny.model.config)
  const before = await generate(runner, 1, prompt, 6, sampler)
  const again = Int32Array.of(...prompt, ...before.map(({ token }) => token))
  const after = await generate(runner, 1, again, 6, sampler)
  expect([...before, ...after].map(({ token }) => token)).toEqual(expected.map(({ token }) => token))
})

test('dropped sequences free their room, and the next one finds it clean', async () => {
  const runner = createRunner(session, tiny.model.config)
  const fresh = await generate(runner, 1, tokensOf(20, 30), 5)
  await runner.step(
    Array.from({ length: 18 }, (_, i) => generating(10 + i, tokensOf(30 + i, 40))),
    [],
  )
  await runner.step([generating(50, tokensOf(50, 700))], [])
  expect(runner.usage()).toEqual({ slabs: 3, sequences: 20 })
  await runner.step([], [1, 50, 999, ...Array.from({ length: 18 }, (_, i) => 10 + i)])
  expect(runner.usage()).toEqual({ slabs: 1, sequences: 0 })
  const again = await generate(runner, 2, tokensOf(20, 30), 5)
  expect(again.map(({ token }) => token)).toEqual(fresh.map(({ token }) => token))
  await expect(
    runner.step([{ sequence: 1, tokens: Int32Array.of(1), position: 34, output: 'token' }], []),
  ).rejects.toThrow('it starts at position 34, 0 tokens are held')
})

describe('work that does not fit is refused', () => {
  const cases: [string, () => SequenceWork[], string][] = [
    [
      'a gap',
      () => [{ sequence: 1, tokens: Int32Array.of(1), position: 3, output: 'none' }],
      '0 tokens are held',
    ],
    ['no tokens', () => [{ sequence: 1, tokens: Int32Array.of(), position: 0, output: 'none' }], 'no tokens'],
    [
      'no sampler',
      () => [{ sequence: 1, tokens: Int32Array.of(1), position: 0, output: 'token' }],
      'no sampler',
    ],
    ['targets', () => [scoring(1, Int32Array.of(1, 2), Int32Array.of(1))], '1 targets for 2 tokens'],
    ['twice', () => [generating(1, Int32Array.of(1)), generating(1, Int32Array.of(1))], 'two pieces of work'],
    ['too long', () => [scoring(1, new Int32Array(1025), new Int32Array(1025))], 'the model takes 1024'],
  ]
  test.each(cases)('%s', async (_, work, message) => {
    const runner = createRunner(session, tiny.model.config)
    const failure: unknown = await runner.step(work(), []).catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(AppError)
    expect((failure as AppError).message).toContain(message)
    expect((await generate(runner, 1, tokensOf(1, 3), 2)).length).toBe(2)
  })
})
