import { expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import type { WeightSet } from '../../../../../gpu-node/src/serving/contract/backend.ts'
import type { Engine } from '../../../../../gpu-node/src/serving/engine/engine-api.ts'
import { createPolicy } from '../../../../../gpu-node/src/serving/engine/engine-policy.ts'
import { unlessAborted } from '../../../../../gpu-node/src/platform/unless-aborted.ts'
import { wholePrompt } from '../../../../../gpu-node/src/serving/server/prompts/client-text.ts'
import { createDriftScorer } from '../../../../../gpu-node/src/serving/server/receipts/drift-scoring.ts'
import { memoryLog } from '../../../../support/doubles/memory-log.ts'

const setOf = (version: number): WeightSet => ({ version }) as WeightSet
const dense = setOf(0)
const masked = setOf(3)
const text = async (length = 20) => wholePrompt(Array.from({ length }, (_, token) => token))

/** A scorer whose engine gives every token this score, and 1 under dense: no test model gives such scores. */
function scorerWith(
  options: {
    value?: number
    before?: (request: Parameters<Engine['score']>[0]) => Promise<void>
    dense?: WeightSet | null
    isServing?: () => boolean
    scoreTimeoutMs?: number
  } = {},
) {
  const log = memoryLog()
  const requests: Parameters<Engine['score']>[0][] = []
  const scorer = createDriftScorer({
    engine: {
      policy: createPolicy(4096),
      async score(request) {
        requests.push(request)
        await options.before?.(request)
        const { weights, tokens, first = 1 } = request
        return new Float32Array(tokens.length - first).fill(weights === dense ? 1 : (options.value ?? 2))
      },
    },
    codec: { encodeDocument: () => [] },
    denseWeights: () => (options.dense === undefined ? dense : options.dense),
    isServing: options.isServing ?? (() => true),
    log,
    scoreTimeoutMs: options.scoreTimeoutMs ?? 600_000,
  })
  return { scorer, log, requests }
}

test('both sums cover the same tokens, all but the first', async () => {
  const { scorer, log, requests } = scorerWith()
  expect(await scorer.score('request-1', masked, () => text())).toEqual({
    drift: { tokens: 19, nllMasked: 38, nllDense: 19 },
    scoring: 'scored',
  })
  expect(requests.map(({ weights }) => weights)).toEqual([masked, dense])
  expect(requests[1]).toMatchObject({ tokens: requests[0]?.tokens, first: requests[0]?.first, lane: 'drift' })
  expect(log.lines).toEqual([])
})

test('at most 256 tokens of a long text are scored, with as many before them as context', async () => {
  const { scorer, requests } = scorerWith()
  const { drift } = await scorer.score('request-1', masked, () => text(10_000))
  expect(drift?.tokens).toBe(250)
  expect(requests[0]?.tokens.length).toBeLessThanOrEqual(512)
})

test.each([Number.NaN, Number.POSITIVE_INFINITY])(
  'a score of %s leaves drift empty and is logged, since the gateway would reject the receipt and lose its usage',
  async (value) => {
    const { scorer, log } = scorerWith({ value })
    expect(await scorer.score('request-1', masked, () => text())).toEqual({ drift: null, scoring: 'failed' })
    expect(log.lines).toEqual([expect.stringContaining('was not scored')])
  },
)

test.each([
  ['too_short', {}, 15],
  ['failed', { dense: null }, 20],
  ['evicted', { isServing: () => false }, 20],
  ['budget', { before: () => Promise.reject(new AppError('overloaded', 'full')) }, 20],
  ['evicted', { before: () => Promise.reject(new AppError('deadline_exceeded', 'drained')) }, 20],
  ['failed', { before: () => Promise.reject(new AppError('node_failed', 'dead')) }, 20],
])('a text that is not scored says that it is %s', async (scoring, options, length) => {
  const { scorer, log } = scorerWith(options)
  expect(await scorer.score('request-1', masked, () => text(length))).toEqual({ drift: null, scoring })
  expect(log.lines).toHaveLength(scoring === 'failed' ? 1 : 0)
})

test('a text whose dense weights are released while it is scored under its mask is no failure', async () => {
  const scored: WeightSet[] = []
  const { scorer, log } = scorerWith({
    before: async ({ weights }) => void scored.push(weights),
    isServing: () => scored.length === 0,
  })
  expect(await scorer.score('request-1', masked, () => text())).toEqual({ drift: null, scoring: 'evicted' })
  expect(scored).toEqual([masked])
  expect(log.lines).toEqual([])
})

test('the loss of the dense weights is logged once, and again only after they were loaded', async () => {
  const options: { dense: WeightSet | null } = { dense: null }
  const { scorer, log } = scorerWith(options)
  for (const loaded of [null, null, dense, null]) {
    options.dense = loaded
    await scorer.score('request-1', masked, () => text())
  }
  const line = expect.stringContaining('the dense weights are not loaded')
  expect(log.lines).toEqual([line, line])
})

test('a text that cannot be read fails alone', async () => {
  const { scorer, log } = scorerWith()
  const failed = scorer.score('request-1', masked, () => Promise.reject(new Error('no text')))
  expect(await failed).toEqual({ drift: null, scoring: 'failed' })
  expect(log.lines).toEqual([expect.stringContaining('no text')])
  expect(await scorer.score('request-2', masked, () => text())).toMatchObject({ scoring: 'scored' })
})

test.each(['overloaded', 'rate_limit_exceeded'] as const)(
  'a text for whose tokens too many others wait (%s) is left out for want of time, which is no failure',
  async (code) => {
    const { scorer, log } = scorerWith()
    const full = () => Promise.reject(new AppError(code, 'full'))
    expect(await scorer.score('request-1', masked, full)).toEqual({ drift: null, scoring: 'budget' })
    expect(log.lines).toEqual([])
  },
)

test('one text at a time is scored, few wait, and the newest replace the oldest', async () => {
  const gate = Promise.withResolvers<void>()
  const { scorer, requests } = scorerWith({ before: () => gate.promise })
  const scored = Array.from({ length: 20 }, (_, index) =>
    scorer.score(`request-${index}`, masked, () => text()),
  )
  expect(await scored[1]).toEqual({ drift: null, scoring: 'evicted' })
  expect(requests).toHaveLength(1)
  gate.resolve()
  const outcomes = (await Promise.all(scored)).map(({ scoring }) => scoring)
  expect(outcomes).toEqual([
    'scored',
    ...Array.from({ length: 11 }, () => 'evicted'),
    ...Array.from({ length: 8 }, () => 'scored'),
  ])
})

test('a receipt waits no longer than the timeout, whether its text waits or is being scored', async () => {
  const { scorer } = scorerWith({
    scoreTimeoutMs: 20,
    before: async ({ signal }) => void (await unlessAborted(new Promise(() => undefined), signal)),
  })
  const scored = ['request-1', 'request-2'].map((id) => scorer.score(id, masked, () => text()))
  expect((await Promise.all(scored)).map(({ scoring }) => scoring)).toEqual(['budget', 'budget'])
})

test('a scorer that was closed scores no text, also one that was being read, and takes that for no failure', async () => {
  const { scorer, log, requests } = scorerWith({
    before: async ({ signal }) => void (await unlessAborted(new Promise(() => undefined), signal)),
  })
  const scored = ['request-1', 'request-2'].map((id) => scorer.score(id, masked, () => text()))
  await expect.poll(() => requests).toHaveLength(1)
  const unread = Promise.withResolvers<Awaited<ReturnType<typeof text>>>()
  scored.push(scorer.score('request-3', masked, () => unread.promise))
  scorer.close()
  unread.resolve(await text())
  expect((await Promise.all(scored)).map(({ scoring }) => scoring)).toEqual(['budget', 'budget', 'budget'])
  expect(requests).toHaveLength(1)
  expect(log.lines).toEqual([])
})
