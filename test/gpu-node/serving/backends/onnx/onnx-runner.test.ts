import { afterAll, beforeAll, expect, test } from 'vitest'
import type {
  SamplerSpec,
  SequenceOutput,
  SequenceWork,
} from '../../../../../gpu-node/src/serving/contract/backend.ts'
import { createDecoderSession } from '../../../../../gpu-node/src/pruning/graph/decoder-session.ts'
import { createRunner, type Runner } from '../../../../../gpu-node/src/serving/backends/onnx/onnx-runner.ts'
import type { InferenceSession } from '../../../../../gpu-node/src/pruning/graph/onnx-runtime.ts'
import { createRandom } from '../../../../support/harness/random.ts'
import { openTinyModel, type TinyModel } from '../../../../support/models/tiny-model.ts'
import { GREEDY } from '../../../../../gpu-node/src/serving/contract/greedy.ts'

let tiny: TinyModel
let session: InferenceSession

beforeAll(async () => {
  tiny = await openTinyModel({ contextLength: 1024 })
  session = await sessionOf(tiny)
})
afterAll(() => tiny.remove())

function sessionOf({ model: { config, master } }: TinyModel): Promise<InferenceSession> {
  const common = { maskPath: null, workDir: '', threads: 1, background: false }
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

/** Prefills `prompt` and decodes `count` tokens in one step each. */
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

test('decode stays correct while a sequence outgrows several capacities', async () => {
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

test('dropped sequences free their slots, and the next sequence finds them clean', async () => {
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
