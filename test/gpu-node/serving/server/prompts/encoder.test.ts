import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { createEncoder } from '../../../../../gpu-node/src/serving/server/prompts/encoder.ts'
import { openTinyModel, type TinyModel } from '../../../../support/models/tiny-model.ts'

let tiny: TinyModel
beforeAll(async () => {
  tiny = await openTinyModel()
})
afterAll(() => tiny.remove())

const LONG = 'the cat sat on the mat. '.repeat(1_000)

/** Lengths of the texts that were tokenised on this thread. */
function tokenisedHere(method: 'encode' | 'encodeDocument'): number[] {
  const lengths: number[] = []
  const original = tiny.model.codec[method]
  const spy = vi.spyOn(tiny.model.codec, method).mockImplementation((text) => {
    lengths.push(text.length)
    return original(text)
  })
  onTestFinished(() => spy.mockRestore())
  return lengths
}

test('a long text, and short texts that are long together, are tokenised on another thread to the same tokens', async () => {
  const encoder = createEncoder(tiny.model, 100_000)
  const parts = Array.from({ length: 100 }, (_, index) => `text ${index} `.repeat(20))
  const expected = [
    tiny.model.codec.encode(LONG),
    ...parts.map((part) => tiny.model.codec.encodeDocument(part)),
  ]
  const here = [tokenisedHere('encode'), tokenisedHere('encodeDocument')]
  const [[long], documents] = await Promise.all([
    encoder.encode([LONG], 'prompt'),
    encoder.encode(parts, 'document'),
  ])
  expect([long, ...documents]).toEqual(expected)
  expect(here).toEqual([[], []])
  expect(await encoder.encode(['the cat'], 'prompt')).toEqual([tiny.model.codec.encode('the cat')])
  expect(here[0]).not.toEqual([])
})

test('a text that cannot fit is rejected by its length, or by the tokens of its first part', async () => {
  const encoder = createEncoder(tiny.model, 256)
  const here = tokenisedHere('encode')
  const refusal = (least: RegExp) => ({
    code: 'context_length_exceeded',
    message: expect.stringMatching(least) as string,
  })
  await expect(encoder.encode(['a'.repeat(1_000_000)], 'prompt')).rejects.toMatchObject(
    refusal(/256 tokens and the text has at least \d{4,}/),
  )
  expect(here).toEqual([])
  const beginning = tiny.model.codec.encode(LONG.slice(0, 2048)).length
  here.length = 0
  await expect(encoder.encode([LONG.slice(0, 2100)], 'prompt')).rejects.toMatchObject(
    refusal(new RegExp(`at least ${beginning - 16}\\.`)),
  )
  expect(here).toEqual([2048])
})

test('a client that disconnects leaves the queue', async () => {
  const encoder = createEncoder(tiny.model, 100_000)
  const first = encoder.encode([LONG], 'prompt')
  await expect(encoder.encode([LONG], 'prompt', { signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: 'client_closed_request',
  })
  expect(await first).toHaveLength(1)
})

test('tenants take turns for the thread, and one of them cannot fill its queue', async () => {
  const encoder = createEncoder(tiny.model, 100_000)
  const ended: string[] = []
  const encode = async (tenant: string) => {
    await encoder.encode([LONG], 'prompt', { tenant })
    ended.push(tenant)
  }
  const many = Array.from({ length: 64 }, () => encode('many'))
  await expect(encode('many')).rejects.toMatchObject({ code: 'rate_limit_exceeded' })
  await encode('one')
  // One of them ran, and one was next.
  expect(ended.indexOf('one')).toBeLessThanOrEqual(2)
  await Promise.all(many)
})

test('a failed thread is reported as a node failure, for that call alone', async () => {
  const broken = tiny.model.tokenizer.replace(
    '"pre_tokenizer":{',
    '"pre_tokenizer":{"type":"Telepathy"},"unread":{',
  )
  const encoder = createEncoder({ ...tiny.model, tokenizer: broken }, 100_000)
  for (let time = 0; time < 2; time++)
    await expect(encoder.encode([LONG], 'prompt')).rejects.toMatchObject({ code: 'node_failed' })
  expect(await encoder.encode(['the cat'], 'prompt')).toHaveLength(1)
})
