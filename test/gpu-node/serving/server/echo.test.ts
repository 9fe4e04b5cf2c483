import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Completion } from '@copal/shared/wire/completions.ts'
import type { Backend, WeightSet } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { expectClose } from '../../../support/harness/expect-close.ts'
import { BACKENDS } from '../../../support/engine/backends.ts'
import type { EnginePolicy } from '../../../../gpu-node/src/serving/engine/engine-policy.ts'
import type { EngineState } from '../../../../gpu-node/src/serving/engine/engine-state.ts'
import { checkInvariants } from '../../../support/engine/engine-invariants.ts'
import { call, readEvents, startTestNode, type TestNode } from '../../../support/processes/in-process-node.ts'
import { GREEDY } from '../../../../gpu-node/src/serving/contract/greedy.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

const TEXT = 'the cat sat on the mat and the hé 🙂 was there. '.repeat(4)
const END = 2

// The real backends: what clients compute from the numbers must be the model's.
describe.each(BACKENDS)('$name', ({ create, selfTolerance }) => {
  let tiny: TinyModel
  let backend: Backend
  let weights: WeightSet
  let node: TestNode
  let preemptions = 0

  beforeAll(async () => {
    tiny = await openTinyModel({ contextLength: 256, tied: false })
    backend = create(join(tiny.dir, 'work'))
    weights = await backend.load({ model: tiny.model, version: 0, maskPath: null, priority: 'serving' })
    node = await startTestNode({
      backend,
      model: tiny.model,
      engine: { policy: { kvTokens: 512, prefillChunk: 32 }, inspect },
    })
    node.engine.setActive(weights)
  })
  afterAll(async () => {
    await node.close()
    await backend.release(weights)
    await tiny.remove()
  })

  function inspect(state: EngineState, policy: EnginePolicy): void {
    checkInvariants(state, policy)
    preemptions += state.requests.filter(
      ({ status, tokens, promptTokens }) => status.kind === 'waiting' && tokens.length > promptTokens,
    ).length
  }

  const request = (fields: object) =>
    call({ model: 'tiny', prompt: TEXT, temperature: 0, echo: true, max_tokens: 0, ...fields })
  async function complete(fields: object): Promise<Completion> {
    const response = await node.post('/rpc/completions', request(fields))
    if (!response.ok) throw new Error(await response.text())
    return (await response.json()) as Completion
  }
  const tokensOf = (text: string) => tiny.model.codec.encodeDocument(text)
  /** Log-probabilities of a text's tokens after the first, as drift and evaluation compute them. */
  const scored = async (tokens: number[]) =>
    [...(await node.engine.score({ weights, tokens, lane: 'drift' }))].map((nll) => -nll)
  test('a prompt comes back with the log-probabilities that the service itself computes, and nothing generated', async () => {
    const { choices, usage } = await complete({ logprobs: 2 })
    const [{ text, logprobs, finish_reason: reason }] = choices as [Completion['choices'][0]]
    const tokens = tokensOf(TEXT)
    expect({ text, reason }).toEqual({ text: TEXT, reason: 'length' })
    expect(usage).toMatchObject({ prompt_tokens: tokens.length, completion_tokens: 0 })
    expect(logprobs!.token_logprobs[0]).toBeNull()
    expect(logprobs!.top_logprobs[0]).toBeNull()
    expectClose(logprobs!.token_logprobs.slice(1), await scored(tokens), selfTolerance)
    // A token's text begins where its offset says; the parts of a character share one place.
    const characters = Array.from(TEXT)
    for (const [i, token] of logprobs!.tokens.entries())
      expect(
        token.startsWith('bytes:') || characters.slice(logprobs!.text_offset[i]).join('').startsWith(token),
      ).toBe(true)
    for (const [i, top] of logprobs!.top_logprobs.entries()) {
      if (top === null) continue
      const own = logprobs!.token_logprobs[i]!
      expect(top[logprobs!.tokens[i]!]).toBe(own)
      expect(Math.max(...Object.values(top))).toBeGreaterThanOrEqual(own)
    }
    const [receipt] = await node.untilReceipts(1)
    expect(receipt).toMatchObject({
      finishReason: 'length',
      promptTokens: tokens.length,
      completionTokens: 0,
    })
  })

  test('a token that is the most probable one equals the best alternative, so that clients see that it is greedy', async () => {
    const prompt = tokensOf(TEXT)
    const sampling = { ...GREEDY, topLogprobs: 0 }
    const spec = { id: 'greedy', prompt, maxTokens: 12, sampling, stops: [], restartable: false }
    const { events } = node.engine.generate(spec)
    const generated: number[] = []
    for await (const event of events)
      if (event.type === 'text') generated.push(...event.tokens.map(({ token }) => token))
    const greedyOf = async (tokens: number[]) => {
      const { choices } = await complete({ prompt: [...prompt, ...tokens], logprobs: 1 })
      const { token_logprobs: own, top_logprobs: top } = choices[0]!.logprobs!
      return tokens.map(
        (_, i) => own[prompt.length + i] === Math.max(...Object.values(top[prompt.length + i]!)),
      )
    }
    expect(generated).toHaveLength(12)
    expect(new Set(await greedyOf(generated))).toEqual(new Set([true]))
    expect(await greedyOf([(generated[0]! + 1) % 300])).toEqual([false])
  })

  test('several prompts, texts or token ids, each come back alone, and as if they had been sent alone', async () => {
    const prompts = ['the cat', 'a', TEXT].map(tokensOf)
    const together = await complete({ prompt: prompts, logprobs: 1 })
    expect(together.choices.map(({ text }) => text)).toEqual(['the cat', 'a', TEXT])
    for (const [index, prompt] of prompts.entries()) {
      const { token_logprobs: found } = together.choices[index]!.logprobs!
      expect(found[0]).toBeNull()
      expectClose(found.slice(1), prompt.length > 1 ? await scored(prompt) : [], selfTolerance)
    }
    expect(together.usage.prompt_tokens).toBe(prompts.flat().length)
  })

  test('one more token than the prompt has is described with max_tokens 1, even if it ends the output', async () => {
    for (const bias of [{}, { logit_bias: { [END]: 100 } }]) {
      const { choices } = await complete({ logprobs: 1, max_tokens: 1, ...bias })
      const { tokens, token_logprobs: logprobs, text_offset: offsets } = choices[0]!.logprobs!
      expect(tokens).toHaveLength(tokensOf(TEXT).length + 1)
      expectClose(logprobs.slice(1, -1), await scored(tokensOf(TEXT)), selfTolerance)
      expect(offsets.at(-1)).toBe(Array.from(TEXT).length)
    }
  })

  test('without log-probabilities the prompt comes before the output', async () => {
    const plain = await complete({ echo: false, max_tokens: 8 })
    const { choices } = await complete({ max_tokens: 8, n: 2 })
    expect(choices.map(({ logprobs }) => logprobs)).toEqual([null, null])
    expect(choices[0]!.text).toBe(TEXT + plain.choices[0]!.text)
    expect((await complete({})).choices[0]).toMatchObject({ text: TEXT, logprobs: null })
  })

  test('a stream has the same text and log-probabilities as a response in one piece', async () => {
    for (const fields of [
      { prompt: ['the cat', TEXT], max_tokens: 6, logprobs: 2 },
      { logprobs: 1 },
      { prompt: ['the cat', TEXT] },
    ]) {
      const whole = await complete(fields)
      const events = await readEvents(
        await node.post('/rpc/completions', request({ ...fields, stream: true })),
      )
      expect(events.at(-1)).toBe('[DONE]')
      const chunks = (events.slice(0, -1) as Completion[]).flatMap(({ choices }) => choices)
      for (const { index, text, logprobs, finish_reason: reason } of whole.choices) {
        const own = chunks.filter((chunk) => chunk.index === index)
        expect(own.map((chunk) => chunk.text).join('')).toBe(text)
        expect(own.flatMap((chunk) => chunk.logprobs?.token_logprobs ?? [])).toEqual(
          logprobs?.token_logprobs ?? [],
        )
        expect(own.flatMap((chunk) => chunk.logprobs?.text_offset ?? [])).toEqual(logprobs?.text_offset ?? [])
        expect(own.at(-1)!.finish_reason).toBe(reason)
      }
    }
  })

  test('scores are those of the prompt alone while others generate, wait and are preempted', async () => {
    const { choices } = await complete({ logprobs: 0 })
    const expected = choices[0]!.logprobs!.token_logprobs.slice(1) as number[]
    const crowd = Array.from({ length: 6 }, (_, index) =>
      complete({ echo: false, prompt: `${index} ${TEXT}`, max_tokens: 40, tenant: 't' }),
    )
    const asked = Array.from({ length: 4 }, () => complete({ logprobs: 0, max_tokens: 20 }))
    const answers = await Promise.all(asked)
    for (const { choices: found } of answers)
      expectClose(found[0]!.logprobs!.token_logprobs.slice(1, expected.length + 1), expected, selfTolerance)
    expect(await Promise.all(crowd)).toHaveLength(6)
    expect(preemptions).toBeGreaterThan(0)
  })

  test('a prompt may fill the context if nothing is generated', async () => {
    const full = Array.from({ length: 256 }, (_, i) => 10 + (i % 200))
    const { choices } = await complete({ prompt: full, logprobs: 0 })
    expect(choices[0]!.logprobs!.token_logprobs).toHaveLength(256)
    await expect(complete({ prompt: full, max_tokens: 1 })).rejects.toThrow('context_length_exceeded')
    await expect(complete({ prompt: [...full, 9] })).rejects.toThrow('the text has 257')
  })
})
