import { expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import type { WeightSet } from '../../../../../gpu-node/src/serving/contract/backend.ts'
import type { GenerationOutcome } from '../../../../../gpu-node/src/serving/engine/generation-request.ts'
import { createShadowScorer } from '../../../../../gpu-node/src/serving/server/receipts/shadow-scoring.ts'
import { memoryLog } from '../../../../support/doubles/memory-log.ts'

const setOf = (version: number): WeightSet => ({ version }) as WeightSet
const answering = setOf(3)
const tried = setOf(5)

function outcomeOf(promptTokens: number, answerTokens: number): GenerationOutcome {
  return {
    finishReason: 'stop',
    weights: answering,
    promptTokens,
    cachedTokens: 0,
    completionTokens: answerTokens,
    text: { tokens: Array.from({ length: promptTokens + answerTokens }, (_, token) => token), promptTokens },
    times: { arrivedMs: 0, startedMs: 0, firstTokenMs: 0, endedMs: 0 },
    error: null,
  }
}
const callOf = (requestId: string) => ({ requestId, model: 'tiny', domain: 'legal', shadowVersion: 5 })

/** Creates a scorer whose engine gives every token a score of 1, and the score `worth` under the trial mask. */
function deskWith(
  worth: (turn: number) => number | Promise<number>,
  isServing: (weights: WeightSet, scored: number) => boolean = () => true,
) {
  const scored: number[][] = []
  const log = memoryLog()
  let turn = 0
  const desk = createShadowScorer({
    engine: {
      async score({ weights, tokens }) {
        if (weights === answering) scored.push([...tokens])
        const value = weights === tried ? await worth((turn += 1)) : 1
        return new Float32Array(tokens.length - 1).fill(value)
      },
    },
    weights: (version) => (version === 5 ? tried : null),
    isServing: (weights) => isServing(weights, scored.length),
    log,
    scoreTimeoutMs: 600_000,
  })
  return { desk, scored, log }
}

test('the end of a long prompt and the start of a long output are scored separately', async () => {
  const { desk, scored } = deskWith(() => 2)
  desk.score({ ...callOf('request-long'), account: 'key_1', attestation: 'f' }, outcomeOf(1_000, 400))
  desk.score(callOf('request-short'), outcomeOf(10, 8))
  await expect.poll(() => desk.pendingScores()).toHaveLength(2)
  expect([scored[0]?.[0], scored[0]?.at(-1), scored[0]?.length]).toEqual([744, 1_255, 512])
  expect(desk.pendingScores()).toEqual([
    {
      requestId: 'request-long',
      account: 'key_1',
      attestation: 'f',
      model: 'tiny',
      domain: 'legal',
      maskVersion: 3,
      shadowVersion: 5,
      prompt: { tokens: 255, nll: 255, nllShadow: 510 },
      answer: { tokens: 256, nll: 256, nllShadow: 512 },
    },
    expect.objectContaining({
      requestId: 'request-short',
      prompt: { tokens: 9, nll: 9, nllShadow: 18 },
      answer: { tokens: 8, nll: 8, nllShadow: 16 },
    }),
  ])
})

test('few calls wait at a time, further ones are skipped, and the next is accepted once there is room', async () => {
  const gate = Promise.withResolvers<number>()
  const { desk, scored } = deskWith(() => gate.promise)
  for (let index = 0; index < 20; index += 1) desk.score(callOf(`request-${index}`), outcomeOf(20, 20))
  gate.resolve(2)
  await expect.poll(() => desk.pendingScores()).toHaveLength(4)
  expect(scored).toHaveLength(4)
  desk.score(callOf('request-later'), outcomeOf(20, 20))
  await expect.poll(() => desk.pendingScores().at(-1)?.requestId).toBe('request-later')
})

test('unreported scores are bounded to a few heartbeats, and the oldest are dropped', async () => {
  const { desk } = deskWith(() => 2)
  for (let index = 0; index < 260; index += 1) {
    desk.score(callOf(`request-${index}`), outcomeOf(20, 20))
    await expect.poll(() => desk.pendingScores().at(-1)?.requestId, { interval: 1 }).toBe(`request-${index}`)
  }
  expect(desk.pendingScores()).toHaveLength(256)
  expect(desk.pendingScores()[0]?.requestId).toBe('request-4')
})

test('failed, infinite, short or incomplete texts give no score, and unexpected failures are logged', async () => {
  const outcomes: (number | AppError)[] = [
    new AppError('overloaded', 'full'),
    new AppError('node_failed', 'the process ended'),
    Number.NaN,
    2,
  ]
  const { desk, log, scored } = deskWith((turn) => {
    const outcome = outcomes[turn - 1]
    if (outcome instanceof Error) throw outcome
    return outcome ?? 0
  })
  desk.score(callOf('request-short'), outcomeOf(10, 6))
  desk.score(callOf('request-cut'), { ...outcomeOf(20, 20), finishReason: 'cancelled' })
  desk.score(callOf('request-lost'), { ...outcomeOf(20, 20), weights: null })
  for (const name of ['full', 'failed', 'nan', 'fine'])
    desk.score(callOf(`request-${name}`), outcomeOf(20, 20))
  await expect.poll(() => desk.pendingScores()).toHaveLength(1)
  expect(desk.pendingScores()[0]?.requestId).toBe('request-fine')
  expect(scored).toHaveLength(4)
  expect(log.lines).toEqual([
    expect.stringContaining('the process ended'),
    expect.stringContaining('not finite'),
  ])
})

test('what is to be scored when its weights or those of the trial are released gives no score, and is no failure', async () => {
  const trialEnds = deskWith(
    () => {
      throw new Error('the weights were released')
    },
    (weights, scored) => weights !== tried || scored < 1,
  )
  const replaced = deskWith(
    () => 2,
    (weights) => weights !== answering,
  )
  for (const { desk } of [trialEnds, replaced]) desk.score(callOf('request'), outcomeOf(20, 20))
  await expect.poll(() => trialEnds.scored).toHaveLength(1)
  await new Promise((resolve) => setImmediate(resolve))
  for (const { desk, log } of [trialEnds, replaced]) {
    expect(desk.pendingScores()).toEqual([])
    expect(log.lines).toEqual([])
  }
  expect(replaced.scored).toEqual([])
})

test('calls that wait or are being scored when the node stops give no score, and are no failures', async () => {
  const gate = Promise.withResolvers<number>()
  const { desk, log, scored } = deskWith(() => gate.promise)
  for (const name of ['first', 'second']) desk.score(callOf(`request-${name}`), outcomeOf(20, 20))
  await expect.poll(() => scored).toHaveLength(1)
  desk.close()
  gate.reject(new AppError('node_failed', 'This node is shutting down.'))
  await new Promise((resolve) => setImmediate(resolve))
  expect(scored).toHaveLength(1)
  expect(desk.pendingScores()).toEqual([])
  expect(log.lines).toEqual([])
})
