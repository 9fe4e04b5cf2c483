/** The default model against values computed by another implementation in float32. */
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { SequenceOutput, SequenceWork, WeightSet } from '../../gpu-node/src/serving/contract/backend.ts'
import { createOnnxBackend } from '../../gpu-node/src/serving/backends/onnx/onnx-backend.ts'
import type { ProcessBackend } from '../../gpu-node/src/serving/backends/weight-set-process/process-backend.ts'
import type { DenseModel } from '../../gpu-node/src/model/master/dense-model.ts'
import { GREEDY } from '../../gpu-node/src/serving/contract/greedy.ts'
import { openDefaultModel } from '../support/models/default-model.ts'

interface Golden {
  generate: {
    prompt: number[]
    greedy: number[]
    greedy_text: string
    top_logprobs: [token: number, logprob: number][]
    logits_first8: number[]
  }[]
  perplexity: {
    file: string
    windows: number
    window_tokens: number
    dense: number
    first_window_nll_64: number[]
    ids_first_16: number[]
  }[]
}

const FIXTURES = new URL('../fixtures/', import.meta.url)
const golden = JSON.parse(readFileSync(new URL('smollm2-135m.json', FIXTURES), 'utf8')) as Golden
const TOLERANCE = 2e-3

let model: DenseModel
let backend: ProcessBackend
let weights: WeightSet
let workDir: string

beforeAll(async () => {
  model = await openDefaultModel()
  workDir = await mkdtemp(join(tmpdir(), 'copal-golden-'))
  backend = createOnnxBackend({ workDir, threads: 2 })
  weights = await backend.load({ model, version: 0, maskPath: null, priority: 'serving' })
})
afterAll(async () => {
  await backend.release(weights)
  await rm(workDir, { recursive: true, force: true })
})

async function run(work: SequenceWork, drop: number[] = []): Promise<SequenceOutput> {
  const { outputs } = await backend.step({ weights, work: [work], drop })
  return outputs[0]!
}

async function nllOf(tokens: Int32Array, targets: Int32Array): Promise<Float32Array> {
  const output = await run({ sequence: 1, tokens, position: 0, output: 'nll', targets }, [1])
  if (output.kind !== 'nll') throw new Error(`expected nll, got ${output.kind}`)
  return output.nll
}

function greedyStart(prompt: readonly number[]): SequenceWork {
  const sampler = { ...GREEDY, topLogprobs: 20, promptTokens: prompt.length }
  return { sequence: 1, tokens: Int32Array.from(prompt), position: 0, sampler, output: 'token' }
}

describe.each(golden.generate)('after $prompt.length tokens, $greedy_text', (expected) => {
  test('the greedy text is the same, token by token', async () => {
    const generated: number[] = []
    let work = greedyStart(expected.prompt)
    while (generated.length < expected.greedy.length) {
      const output = await run(work, generated.length === 0 ? [1] : [])
      if (output.kind !== 'token') throw new Error(`expected a token, got ${output.kind}`)
      generated.push(output.token)
      const position = expected.prompt.length + generated.length - 1
      work = { sequence: 1, tokens: Int32Array.of(output.token), position, output: 'token' }
    }
    expect(generated).toEqual(expected.greedy)
    const bytes = Buffer.concat(generated.map((token) => model.codec.tokenBytes(token)))
    expect(bytes.toString('utf8')).toBe(expected.greedy_text)
  })

  test('the most probable next tokens and their log-probabilities are the same', async () => {
    const output = await run(greedyStart(expected.prompt), [1])
    if (output.kind !== 'token') throw new Error(`expected a token, got ${output.kind}`)
    for (const [rank, [token, logprob]] of expected.top_logprobs.entries()) {
      expect(output.top[rank]!.token).toBe(token)
      expect(Math.abs(output.top[rank]!.logprob - logprob)).toBeLessThan(TOLERANCE)
    }
  })

  test('the first eight logits are the same, up to a constant', async () => {
    const tokens = Int32Array.from(expected.prompt)
    const logprobs: number[] = []
    for (const target of expected.logits_first8.keys()) {
      const targets = new Int32Array(tokens.length).fill(-1)
      targets[tokens.length - 1] = target
      logprobs.push(-(await nllOf(tokens, targets))[0]!)
    }
    for (const [i, logit] of expected.logits_first8.entries()) {
      const difference = logprobs[i]! - logprobs[0]! - (logit - expected.logits_first8[0]!)
      expect(Math.abs(difference), `token ${i}`).toBeLessThan(TOLERANCE)
    }
  })
})

const idsOf = (file: string) => model.codec.encode(readFileSync(new URL(file, FIXTURES), 'utf8'))

test.each(golden.perplexity)('the first tokens of $file and their losses are the same', async (expected) => {
  const ids = idsOf(expected.file)
  expect(ids.slice(0, 16)).toEqual(expected.ids_first_16)
  const losses = expected.first_window_nll_64
  const tokens = Int32Array.from(ids.slice(0, losses.length + 1))
  const nll = await nllOf(tokens.subarray(0, -1), tokens.slice(1))
  expect(Math.max(...losses.map((value, i) => Math.abs(nll[i]! - value)))).toBeLessThan(TOLERANCE)
})

// One text is enough: a second one would run the same code, for as long again.
test.each(golden.perplexity.slice(0, 1))('perplexity of $file is $dense', async (expected) => {
  const ids = idsOf(expected.file)
  let sum = 0
  for (let window = 0; window < expected.windows; window++) {
    const begin = window * expected.window_tokens
    const tokens = Int32Array.from(ids.slice(begin, begin + expected.window_tokens))
    const nll = await nllOf(tokens.subarray(0, -1), tokens.slice(1))
    sum += nll.reduce((total, value) => total + value, 0) / nll.length
  }
  const perplexity = Math.exp(sum / expected.windows)
  expect(Math.abs(perplexity / expected.dense - 1)).toBeLessThan(1e-3)
})
