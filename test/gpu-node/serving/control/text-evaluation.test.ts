import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import { evaluateCall, type EvaluateEvent } from '@copal/shared/wire/node-calls.ts'
import { createTextEvaluator } from '../../../../gpu-node/src/serving/control/text-evaluation.ts'
import type { MaskEvaluator } from '../../../../gpu-node/src/serving/control/mask-evaluator.ts'
import { WAIT } from '../../../support/harness/wait.ts'

const SHA256 = 'a'.repeat(64)
const RESULT = {
  windows: 3,
  tokens: 45,
  nllMean: 1.5,
  perplexity: Math.exp(1.5),
  windowNll: [1, 1.5, 2],
  windowTokens: [15, 15, 15],
}

function callOf(fields: object) {
  return evaluateCall.parse({ model: 'tiny', maskVersion: 1, text: 'some text', ...fields })
}

/** Fakes an evaluation of three windows; the real one has tests of its own. */
function setup(result: Partial<typeof RESULT> = {}) {
  const masks: (string | null)[] = []
  let aborted: unknown
  const evaluator: MaskEvaluator = {
    async evaluate(maskSha256, _sources, { onProgress, signal }) {
      masks.push(maskSha256)
      signal?.addEventListener('abort', () => (aborted = signal.reason))
      for (let done = 0; done <= 3; done++) {
        signal?.throwIfAborted()
        onProgress?.(done, 3)
        await sleep(1)
      }
      return { sources: [{ ...RESULT, ...result }] }
    },
  }
  const evaluateText = createTextEvaluator({
    evaluator,
    maskOf: (version) => (version === 1 ? SHA256 : undefined),
  })
  const events = async (fields: object): Promise<EvaluateEvent[]> => {
    const all: EvaluateEvent[] = []
    for await (const event of evaluateText(callOf(fields), new AbortController().signal)) all.push(event)
    return all
  }
  return { masks, evaluateText, events, aborted: () => aborted }
}

test('progress is yielded as windows are done, and the result last', async () => {
  const { events, masks } = setup()
  const all = await events({})
  expect(masks).toEqual([SHA256])
  expect(all[0]).toEqual({ type: 'progress', windowsDone: 0, windowsTotal: 3 })
  expect(all.at(-1)).toEqual({ type: 'result', ...RESULT, maskVersion: 1 })
  expect(all.slice(0, -1).every(({ type }) => type === 'progress')).toBe(true)
})

test('version 0 is dense, and a version unknown to this node is evaluated by the given hash', async () => {
  const { events, masks } = setup()
  await events({ maskVersion: 0 })
  await events({ maskVersion: 9, mask: { version: 9, sha256: 'b'.repeat(64) } })
  expect(masks).toEqual([null, 'b'.repeat(64)])
})

test('an unknown version without a hash is not found', async () => {
  const { events } = setup()
  await expect(events({ maskVersion: 9 })).rejects.toMatchObject({ code: 'not_found', param: 'maskVersion' })
  await expect(events({ maskVersion: 9, mask: { version: 8, sha256: SHA256 } })).rejects.toThrow(AppError)
})

test('a perplexity that is not finite is an error, because JSON cannot represent it', async () => {
  const { events } = setup({ nllMean: Number.NaN, perplexity: Number.NaN })
  await expect(events({})).rejects.toThrow(/no finite perplexity/)
})

test('a waiting evaluation keeps its connection alive', async () => {
  const waiting = Promise.withResolvers<void>()
  const evaluator: MaskEvaluator = { evaluate: async () => (await waiting.promise, { sources: [RESULT] }) }
  const evaluateText = createTextEvaluator({ evaluator, maskOf: () => null, keepAliveMs: 1 })
  const types: string[] = []
  for await (const event of evaluateText(callOf({ maskVersion: 0 }), new AbortController().signal)) {
    types.push(event.type)
    if (types.length === 3) waiting.resolve()
  }
  expect(types.slice(0, 3)).toEqual(['progress', 'progress', 'progress'])
  expect(types.at(-1)).toBe('result')
})

test('a consumer that stops reading aborts the evaluation', async () => {
  const { evaluateText, aborted } = setup()
  for await (const event of evaluateText(callOf({}), new AbortController().signal)) {
    expect(event.type).toBe('progress')
    break
  }
  await vi.waitFor(() => expect(aborted()).toBeInstanceOf(AppError), WAIT)
})

test('few evaluations wait, further ones are rejected, and those whose client left make room', async () => {
  const evaluator: MaskEvaluator = {
    evaluate: (_mask, _sources, { signal }) =>
      new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error))),
  }
  const evaluateText = createTextEvaluator({ evaluator, maskOf: () => null, keepAliveMs: 1 })
  const start = () => {
    const client = new AbortController()
    const iterator = evaluateText(callOf({ maskVersion: 0 }), client.signal)
    return { client, first: iterator.next() }
  }
  const waiting = Array.from({ length: 8 }, start)
  await Promise.all(waiting.map(({ first }) => first))
  await expect(start().first).rejects.toMatchObject({ code: 'overloaded', retryAfterS: 30 })
  // Nobody reads the events of a client that left.
  for (const { client } of waiting) client.abort()
  await vi.waitFor(async () => {
    const { value } = await start().first
    expect(value).toMatchObject({ type: 'progress' })
  }, WAIT)
})
