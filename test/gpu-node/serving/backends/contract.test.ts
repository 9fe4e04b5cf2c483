/** Tests the contract of every backend with the scheduler, on the tiny model. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type {
  Backend,
  SamplerSpec,
  SequenceOutput,
  SequenceWork,
  WeightSetSource,
} from '../../../../gpu-node/src/serving/contract/backend.ts'
import { addon, BACKENDS, INT8_KEYS } from '../../../support/engine/backends.ts'
import { GPU_BACKENDS, skipWithoutGpu } from '../../../support/engine/gpu.ts'
import { expectClose } from '../../../support/harness/expect-close.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import {
  expectedScores,
  halfMaskFile,
  INVALID_MASKS,
  appErrorOf,
  TARGETS,
  TOKENS,
} from '../../../support/models/masked-scores.ts'
import { randomHalfMask } from '../../../support/models/random-masks.ts'
import { logSoftmax, referenceLogits } from '../../../support/models/reference-model.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { TINY_VARIANTS } from '../../../support/models/tiny-variants.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import {
  generateWork,
  logprobs,
  Steps,
  tokenIds,
  randomTokens,
  WITH_LOGPROBS,
  type Token,
} from '../../../support/engine/backend-steps.ts'
import { INVALID_WORK } from '../../../support/engine/invalid-work.ts'
import { maskOf } from '../../../support/engine/token-masks.ts'

if (!addon) skipWithoutAddon('the sparse engine')
skipWithoutGpu('the contract of backends')
const TESTED = [...BACKENDS, ...INT8_KEYS, ...GPU_BACKENDS]
describe.each(TESTED)('$name', ({ create, exactTolerance, selfTolerance }) => {
  let tiny: TinyModel
  let backend: Backend
  let opened: Promise<Steps> | undefined
  /** The result of a prefill at once, which several tests compare with. */
  let prefilled: Promise<Token> | undefined

  beforeAll(async () => {
    // 20 columns, so that rows of a mask end inside a byte.
    tiny = await openTinyModel({ contextLength: 1024, intermediateSize: 20 })
    backend = create(join(tiny.dir, 'work'))
  })
  afterAll(async () => {
    const steps = await opened
    if (steps) await backend.release(steps.weights)
    await tiny.remove()
  })

  /** The dense weights, which all tests share. */
  function serving(): Promise<Steps> {
    opened ??= backend.load(source()).then((weights) => new Steps(backend, weights))
    return opened
  }

  function source(overrides: Partial<WeightSetSource> = {}): WeightSetSource {
    return { model: tiny.model, version: 0, maskPath: null, priority: 'serving', ...overrides }
  }

  /** Loads another weight set on the same backend, until the end of the test. */
  async function load(overrides: Partial<WeightSetSource> = {}): Promise<Steps> {
    const weights = await backend.load(source(overrides))
    onTestFinished(() => backend.release(weights))
    return new Steps(backend, weights)
  }

  describe('agrees with f64 arithmetic', () => {
    test.each(TINY_VARIANTS)('%j', async (options) => {
      const other = await openTinyModel(options)
      onTestFinished(() => other.remove())
      const { model, tensors } = other
      const variant = await load({ model })
      const tokens = randomTokens(3, 24)
      const targets = randomTokens(4, 24)
      const expected = referenceLogits(model.config, tensors, [...tokens]).map(logSoftmax)
      const nll = await variant.nll(1, tokens, targets)
      expectClose(
        nll,
        [...targets].map((target, i) => -expected[i]![target]!),
        exactTolerance,
      )
      const { token, top } = (await variant.one(generateWork(2, tokens))) as Token
      const last = expected[23]!
      const order = [...last.keys()].sort((a, b) => last[b]! - last[a]!)
      expect(last[order[0]!]! - last[token]!).toBeLessThanOrEqual(2 * exactTolerance)
      expectClose(
        top.map(({ logprob }) => logprob),
        top.map((alternative) => last[alternative.token]!),
        exactTolerance,
      )
    })
  })

  test('dense and two masked sets run side by side, each with its own weights', async () => {
    const steps = await serving()
    const masked = await Promise.all(
      [1, 2].map(async (seed) => load({ version: seed, maskPath: await halfMaskFile(tiny.model, seed) })),
    )
    const [ofDense, ofFirst, ofSecond] = await Promise.all(
      [steps, ...masked].map((set) => set.nll(1, TOKENS, TARGETS)),
    )
    expect(ofFirst).not.toEqual(ofSecond)
    expectClose(ofDense!, expectedScores(tiny), exactTolerance)
    expectClose(ofFirst!, expectedScores(tiny, randomHalfMask(tiny.model, 1).linears), exactTolerance)
    expectClose(ofSecond!, expectedScores(tiny, randomHalfMask(tiny.model, 2).linears), exactTolerance)
  })

  describe('masks that do not fit are rejected', () => {
    test.each(INVALID_MASKS)('%s', async (_, code, message, makeFile) => {
      const steps = await serving()
      const failure = await appErrorOf(
        backend.load(source({ version: 3, maskPath: await makeFile(tiny.model) })),
      )
      expect(failure).toMatchObject({ code, message: expect.stringContaining(message) as string })
      expectClose(await steps.nll(1, TOKENS, TARGETS), expectedScores(tiny), exactTolerance)
    })
  })

  test('weights that are not numbers are rejected', async () => {
    const { master } = tiny.model
    const tensors = new Map(master.tensors)
    const path = join(temporaryDir(), 'broken.f32')
    const broken = { ...tiny.model, master: { path, baseSha256: master.baseSha256, tensors } }
    for (const [name, tensor] of tensors) tensors.set(name, { ...tensor, offset: 0 })
    // All bits set is a NaN.
    await writeFile(path, Buffer.alloc(Math.max(...[...tensors.values()].map(({ bytes }) => bytes)), 0xff))
    const failure = await appErrorOf(backend.load(source({ model: broken })))
    expect(failure.code).toBe('node_failed')
    expect(failure.message).toContain('NaN')
  })

  test('a released set ends without a cause, after its steps in flight', async () => {
    const weights = await backend.load(source())
    const released = new Steps(backend, weights)
    const inFlight = released.nll(1, TOKENS, TARGETS)
    await Promise.all([backend.release(weights), backend.release(weights)])
    expectClose(await inFlight, expectedScores(tiny), exactTolerance)
    expect(await weights.ended).toBeUndefined()
    expect((await appErrorOf(released.nll(1, TOKENS, TARGETS))).code).toBe('node_failed')
  })

  test('cached decode equals a full forward pass over the same tokens', async () => {
    const steps = await serving()
    const prompt = randomTokens(5, 9)
    const outputs = await steps.generate(1, prompt, 30)
    const all = Int32Array.of(...prompt, ...tokenIds(outputs))
    const nll = await steps.nll(2, all.subarray(0, -1), all.slice(1))
    expect(outputs.length).toBe(30)
    expectClose(
      logprobs(outputs).map((logprob) => -logprob),
      nll.subarray(prompt.length - 1),
      Math.max(selfTolerance, 1e-5),
    )
  })

  test('decode stays correct while a sequence grows', async () => {
    const steps = await serving()
    const prompt = randomTokens(6, 250)
    const outputs = await steps.generate(1, prompt, 100)
    const all = Int32Array.of(...prompt, ...tokenIds(outputs))
    expect(outputs.length).toBe(100)
    const nll = await steps.nll(2, all.subarray(0, -1), all.slice(1))
    expectClose(
      logprobs(outputs).map((logprob) => -logprob),
      nll.subarray(prompt.length - 1),
      5 * Math.max(selfTolerance, 1e-5),
    )
  })

  // 256 tokens go through the blocks together, so that a chunk of 299 is split.
  test.each([[[1, 299]], [[256, 44]], [[37, 150, 113]]])(
    'prefill in chunks of %j equals prefill at once',
    async (chunks) => {
      const steps = await serving()
      const tokens = randomTokens(7, 300)
      const whole = await (prefilled ??= steps.one(generateWork(1, tokens)) as Promise<Token>)
      let position = 0
      let last: SequenceOutput | undefined
      for (const [index, length] of chunks.entries()) {
        const chunk = tokens.subarray(position, position + length)
        const output = index === chunks.length - 1 ? 'token' : 'none'
        const sampler = index === 0 ? { sampler: { ...WITH_LOGPROBS, promptTokens: 300 } } : {}
        last = await steps.one({ sequence: 2, tokens: chunk, position, output, ...sampler })
        position += length
      }
      const token = last as Token
      expect(token.token).toBe(whole.token)
      expectClose(
        token.top.map(({ logprob }) => logprob),
        whole.top.map(({ logprob }) => logprob),
        selfTolerance,
      )
    },
  )

  test('scores of one chunk equal those of several chunks, and a target of -1 is skipped', async () => {
    const steps = await serving()
    const tokens = randomTokens(8, 300)
    const targets = Int32Array.from(randomTokens(9, 300), (target, i) => (i % 3 === 0 ? -1 : target))
    const whole = await steps.nll(1, tokens, targets)
    expect(whole.length).toBe(200)
    const first = await steps.nll(2, tokens.subarray(0, 123), targets.subarray(0, 123))
    const rest = await steps.nll(2, tokens.subarray(123), targets.subarray(123), 123)
    expectClose([...first, ...rest], whole, selfTolerance)
    const none = await steps.nll(3, tokens.subarray(0, 4), new Int32Array(4).fill(-1))
    expect(none.length).toBe(0)
  })

  test('sequences of different lengths decoded together equal each decoded alone', async () => {
    const steps = await serving()
    const settings: Partial<SamplerSpec>[] = [
      {},
      { temperature: 0.9, seed: 4 },
      { temperature: 1.3, topP: 0.8, seed: 5, frequencyPenalty: 0.5 },
      { repetitionPenalty: 1.4 },
    ]
    // More in one step, and in one of the prompts, than the 256 tokens that go through the blocks together.
    const lengths = Array.from({ length: 20 }, (_, i) => (i === 7 ? 260 : 1 + ((i * 37) % 90)))
    const prompts = lengths.map((length, i) => randomTokens(100 + i, length))
    const alone: Token[][] = []
    for (const [i, prompt] of prompts.entries())
      alone.push(await steps.generate(1, prompt, 8, settings[i % 4]))
    const together: Token[][] = prompts.map(() => [])
    const starts = await steps.run(prompts.map((prompt, i) => generateWork(i, prompt, settings[i % 4])))
    for (const [i, output] of starts.entries()) together[i]!.push(output as Token)
    for (let n = 1; n < 8; n++) {
      const work = prompts.map((prompt, i): SequenceWork => ({
        sequence: i,
        tokens: Int32Array.of(together[i]!.at(-1)!.token),
        position: prompt.length + n - 1,
        output: 'token',
      }))
      // Some sequences pause for a step and catch up later, so that batches have gaps.
      const paused = work.filter((_, i) => (i + n) % 5 === 0)
      const others = work.filter((_, i) => (i + n) % 5 !== 0)
      const outputs = new Map<number, SequenceOutput>()
      for (const part of [others, paused]) {
        const results = await steps.run(part)
        for (const [i, { sequence }] of part.entries()) outputs.set(sequence, results[i]!)
      }
      for (const i of prompts.keys()) together[i]!.push(outputs.get(i) as Token)
    }
    for (const i of prompts.keys()) {
      expect(tokenIds(together[i]!)).toEqual(tokenIds(alone[i]!))
      expectClose(logprobs(together[i]!), logprobs(alone[i]!), selfTolerance)
    }
  })

  test('prefill beside running sequences changes neither', async () => {
    const steps = await serving()
    const prompt = randomTokens(40, 77)
    const alone = await steps.generate(1, randomTokens(41, 20), 6)
    const fed = (await steps.one(generateWork(2, prompt))) as Token
    const mixed = [(await steps.one(generateWork(3, randomTokens(41, 20)))) as Token]
    let last: SequenceOutput | undefined
    for (let n = 0; n < 5; n++) {
      const from = n * 16
      const chunk = prompt.subarray(from, n === 4 ? 77 : from + 16)
      const sampler = n === 0 ? { sampler: { ...WITH_LOGPROBS, promptTokens: 77 } } : {}
      const outputs = await steps.run([
        { sequence: 3, tokens: Int32Array.of(mixed.at(-1)!.token), position: 20 + n, output: 'token' },
        { sequence: 4, tokens: chunk, position: from, output: n === 4 ? 'token' : 'none', ...sampler },
      ])
      mixed.push(outputs[0] as Token)
      last = outputs[1]
    }
    expect(tokenIds(mixed)).toEqual(tokenIds(alone))
    expect((last as Token).token).toBe(fed.token)
    expectClose(
      [...logprobs(mixed), (last as Token).logprob],
      [...logprobs(alone), fed.logprob],
      selfTolerance,
    )
  })

  test('a sequence that restarts with its generated tokens continues with the same text', async () => {
    const steps = await serving()
    const sampler = { temperature: 1, seed: 12, frequencyPenalty: 0.3, promptTokens: 10 }
    const prompt = randomTokens(15, 10)
    const expected = await steps.generate(1, prompt, 12, sampler)
    const before = await steps.generate(2, prompt, 6, sampler)
    const again = Int32Array.of(...prompt, ...tokenIds(before))
    const after = await steps.generate(2, again, 6, sampler)
    expect(tokenIds([...before, ...after])).toEqual(tokenIds(expected))
  })

  test('each sequence samples only tokens that its own mask allows, also when the mask arrives late', async () => {
    const steps = await serving()
    const vocab = tiny.model.config.vocabSize
    const prompts = [randomTokens(41, 5), randomTokens(42, 300), randomTokens(43, 1)]
    const allowed = [[7], [250, 299], undefined]
    const masks = allowed.map((tokens, index) =>
      tokens === undefined
        ? undefined
        : new Promise<Uint32Array | null>((resolve) =>
            setTimeout(() => resolve(maskOf(vocab, tokens)), 40 * index),
          ),
    )
    const free = await steps.generate(1400, prompts[2]!, 2)
    const first = await steps.run(
      prompts.map((prompt, index) => {
        const work = generateWork(1401 + index, prompt)
        return masks[index] ? { ...work, allowed: masks[index] } : work
      }),
    )
    const second = await steps.run(
      prompts.map((prompt, index) => {
        const tokens = Int32Array.of((first[index] as Token).token)
        const work: SequenceWork = {
          sequence: 1401 + index,
          tokens,
          position: prompt.length,
          output: 'token',
        }
        return masks[index] ? { ...work, allowed: masks[index] } : work
      }),
      [1400],
    )
    for (const outputs of [first, second] as Token[][]) {
      expect(outputs[0]!.token).toBe(7)
      expect(allowed[1]).toContain(outputs[1]!.token)
    }
    expect([first[2], second[2]].map((output) => (output as Token).token)).toEqual(tokenIds(free))
    await steps.run([], [1401, 1402, 1403])
  })

  test('a sequence that may sample no token fails alone: the others of its step get theirs', async () => {
    const steps = await serving()
    const prompts = [randomTokens(46, 5), randomTokens(47, 300), randomTokens(48, 4)]
    const nothing = Promise.resolve(maskOf(tiny.model.config.vocabSize, []))
    const expected = [await steps.generate(1420, prompts[0]!, 2), await steps.generate(1421, prompts[2]!, 2)]
    const work = prompts.map((prompt, index) => generateWork(1422 + index, prompt))
    const first = await steps.run(
      work.map((item, index) => (index === 1 ? { ...item, allowed: nothing } : item)),
    )
    expect(first[1]).toEqual({
      kind: 'failed',
      message: expect.stringMatching(/logit/) as string,
    })
    const tokens = [first[0], first[2]].map((output) => (output as Token).token)
    const second = await steps.run(
      [0, 2].map((index, at) => ({
        sequence: 1422 + index,
        tokens: Int32Array.of(tokens[at]!),
        position: prompts[index]!.length,
        output: 'token' as const,
      })),
      [1423],
    )
    expect(second.map((output, at) => [tokens[at], (output as Token).token])).toEqual(expected.map(tokenIds))
    await steps.run([], [1420, 1421, 1422, 1424])
  })

  test('a null mask forbids nothing', async () => {
    const steps = await serving()
    const prompt = randomTokens(44, 6)
    const [free] = await steps.generate(1410, prompt, 1)
    const output = await steps.one({ ...generateWork(1411, prompt), allowed: Promise.resolve(null) })
    expect((output as Token).token).toBe(free!.token)
    await steps.run([], [1410, 1411])
  })

  test('a prompt is scored beside its work, with the most probable tokens in place of each', async () => {
    const steps = await serving()
    const tokens = randomTokens(45, 70)
    const targets = Int32Array.of(...tokens.subarray(1), -1)
    const expected = referenceLogits(tiny.model.config, tiny.tensors, [...tokens]).map(logSoftmax)
    const { sampler } = generateWork(1500, tokens)
    const [begin, end] = [0, 60, 70].flatMap((from, index, cuts) => {
      const to = cuts[index + 1]
      if (to === undefined) return []
      const promptScores = { targets: targets.slice(from, to), alternatives: 3 }
      const work = { sequence: 1500, tokens: tokens.slice(from, to), position: from, promptScores }
      return [
        { ...work, ...(from === 0 ? { sampler, output: 'none' } : { output: 'token' }) } as SequenceWork,
      ]
    })
    // Beside another sequence, whose results lie between.
    const other: SequenceWork = { sequence: 1501, tokens, position: 0, output: 'nll', targets }
    const [first] = await steps.run([begin!, other])
    const [last] = await steps.run([end!])
    const parts = [first, last].map((output) => (output as Token).promptScores!)
    expect(parts.map(({ logprobs: found }) => found.length)).toEqual([60, 9])
    const scores = parts.flatMap((part) => [...part.logprobs])
    expectClose(
      scores,
      [...tokens.subarray(1)].map((target, i) => expected[i]![target]!),
      exactTolerance,
    )
    const [whole] = await steps.generate(1502, tokens, 1)
    expect((last as Token).token).toBe(whole!.token)
    const top = parts.flatMap(({ topTokens, topLogprobs }) =>
      [...topTokens].map((token, i) => ({ token, logprob: topLogprobs[i]! })),
    )
    top.forEach(({ token, logprob }, index) => {
      const row = expected[Math.floor(index / 3)]!
      expect(Math.abs(logprob - row[token]!)).toBeLessThanOrEqual(2 * exactTolerance)
      const ranked = row.toSorted((a, b) => b - a)
      expect(Math.abs(logprob - ranked[index % 3]!)).toBeLessThanOrEqual(2 * exactTolerance)
      // The same bits, so that a client can tell whether a token was the most probable one.
      const at = Math.floor(index / 3)
      expect(token !== tokens[at + 1] || logprob === scores[at]).toBe(true)
    })
    await steps.run([], [1500, 1501, 1502])
  })

  describe('invalid work is rejected, and the set continues', () => {
    test.each(INVALID_WORK)('%s', async (_, work, code, message) => {
      const steps = await serving()
      const failure = await appErrorOf(steps.run(work))
      expect(failure).toMatchObject({ code, message: expect.stringContaining(message) as string })
      expectClose(await steps.nll(1, TOKENS, TARGETS), expectedScores(tiny), exactTolerance)
    })
  })
})
