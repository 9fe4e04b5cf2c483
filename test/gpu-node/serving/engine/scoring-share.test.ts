/** The reserved share of scoring under a backlog that never ends. */
import { expect, test } from 'vitest'
import type { WeightSet } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { createPolicy, type EnginePolicy } from '../../../../gpu-node/src/serving/engine/engine-policy.ts'
import type { Request, ScoreLane } from '../../../../gpu-node/src/serving/engine/engine-request.ts'
import {
  createState,
  endRequest,
  kvTokensUsed,
  runningRequests,
  waitingRequests,
  type EngineState,
} from '../../../../gpu-node/src/serving/engine/engine-state.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { generate, score, step, weightSet } from '../../../support/doubles/scheduled-steps.ts'

/** A node that always has requests waiting, each with a prompt and an output of up to 200 tokens. */
function busyNode(bounds: Partial<EnginePolicy> = {}) {
  const policy = createPolicy(1024, { kvTokens: 4096, ...bounds })
  const state = createState(policy)
  const active = weightSet(1)
  state.active = active
  const random = createRandom(7)
  const limits = new Map<Request, number>()
  const totals = { steps: 0, tokens: 0, scoreTokens: 0 }
  const scored: Request[] = []

  /** Runs one step of each weight set, and ends what is complete. */
  function runRound(sets: readonly WeightSet[] = [active]): void {
    while (waitingRequests(state).length < 16)
      limits.set(generate(state, 1 + Math.floor(200 * random())), 1 + Math.floor(200 * random()))
    for (const weights of sets) {
      const { outcome, tokens, scoreTokens } = step(state, weights, policy)
      totals.steps += 1
      totals.tokens += tokens
      totals.scoreTokens += scoreTokens
      for (const request of outcome.scored) {
        endRequest(state, request)
        scored.push(request)
      }
      for (const request of runningRequests(state))
        if (request.tokens.length - request.promptTokens >= limits.get(request)!) endRequest(state, request)
    }
  }
  return { policy, state, active, totals, scored, runRound }
}

/** Keeps two texts waiting in each lane, of a length for each, on the given weights in turn. */
function keepScoring(
  state: EngineState,
  lanes: readonly ScoreLane[],
  sets: readonly WeightSet[],
  lengths: Partial<Record<ScoreLane, number>> = {},
) {
  const texts: Request[] = []
  return () => {
    for (const lane of lanes) {
      const waiting = state.requests.filter(({ goal }) => goal.kind === 'score' && goal.lane === lane)
      for (let index = waiting.length; index < 2; index++)
        texts.push(score(state, lengths[lane] ?? 256, sets[texts.length % sets.length]!, lane))
    }
  }
}

test.each([
  ['the active weights', 1],
  ['other weights', 2],
])(
  'a text of 256 tokens is scored on %s beside a backlog that never ends, for its share of the work',
  (_, count) => {
    const { state, active, totals, scored, runRound } = busyNode()
    const sets = [active, weightSet(0)].slice(0, count)
    for (let round = 0; round < 50; round++) runRound(sets)
    const text = score(state, 257, sets.at(-1)!)
    const before = { ...totals }
    while (!scored.includes(text)) {
      runRound(sets)
      expect(totals.tokens - before.tokens).toBeLessThan(256 / 0.05)
    }
    expect(totals.scoreTokens - before.scoreTokens).toBe(256)
    expect((totals.steps - before.steps) / count).toBeLessThan(500)
  },
)

test.each([
  ['of one weight set', 1, 0.05],
  ['of two weight sets in turn', 2, 0.05],
  ['of a larger share', 2, 0.2],
])('over a long backlog the tokens %s are the share, give or take a fifth', (_, count, scoringShare) => {
  const { state, active, totals, scored, runRound } = busyNode({ scoringShare })
  const sets = [active, weightSet(0)].slice(0, count)
  const refill = keepScoring(state, ['drift'], sets)
  for (let round = 0; round < 2_000; round++) {
    refill()
    runRound(sets)
  }
  const share = totals.scoreTokens / totals.tokens
  expect(share).toBeGreaterThan(0.8 * scoringShare)
  expect(share).toBeLessThan(1.2 * scoringShare)
  expect(scored.length).toBeGreaterThan(4)
})

test('scoring progresses when requests use up the key/value budget, and no request gives way to it', () => {
  // Two contexts for requests, half a context for scoring: decoding requests preempt each other all the time.
  const { state, active, policy, totals, scored, runRound } = busyNode({
    contextLength: 512,
    kvTokens: 1024 + 256,
    scoreKvTokens: 256,
    maxRunning: 16,
  })
  const refill = keepScoring(state, ['drift'], [active])
  let fullRounds = 0
  for (let round = 0; round < 3_000; round++) {
    refill()
    runRound()
    if (kvTokensUsed(state) > policy.kvTokens - 5 * 16) fullRounds += 1
  }
  expect(fullRounds).toBeGreaterThan(500)
  expect(scored.length).toBeGreaterThan(5)
  expect(totals.scoreTokens / totals.tokens).toBeGreaterThan(0.045)
})

const laneOf = ({ goal }: Request) => (goal.kind === 'score' ? goal.lane : undefined)
const tokensOf = (texts: readonly Request[], lane: ScoreLane) =>
  texts.filter((text) => laneOf(text) === lane).reduce((sum, { promptTokens }) => sum + promptTokens, 0)

test('lanes share the tokens equally, so neither a crowd nor long texts in one hold up the others', () => {
  const { state, active, scored, runRound } = busyNode()
  const lanes = ['drift', 'shadow', 'describe'] as const
  const refill = keepScoring(state, lanes, [active], { drift: 256, shadow: 100, describe: 32 })
  for (let round = 0; round < 6_000; round++) {
    refill()
    runRound()
  }
  const total = scored.reduce((sum, { promptTokens }) => sum + promptTokens, 0)
  for (const lane of lanes) expect(tokensOf(scored, lane) / total).toBeCloseTo(1 / 3, 1)
})

test('a lane that was empty saves nothing up: it gets its equal part from then on', () => {
  const { state, active, scored, runRound } = busyNode()
  const refillDrift = keepScoring(state, ['drift'], [active])
  for (let round = 0; round < 2_000; round++) {
    refillDrift()
    runRound()
  }
  const before = scored.length
  const refillDescribe = keepScoring(state, ['describe'], [active], { describe: 64 })
  for (let round = 0; round < 3_000; round++) {
    refillDrift()
    refillDescribe()
    runRound()
  }
  const after = scored.slice(before)
  expect(tokensOf(after, 'drift') / tokensOf(after, 'describe')).toBeGreaterThan(0.7)
})

test('without requests scoring grows from small pieces to whole chunks, which count against no share', () => {
  const policy = createPolicy(1024, { prefillChunk: 64 })
  const state = createState(policy)
  const a = weightSet(1)
  state.active = a
  score(state, 500, a)
  const pieces = Array.from({ length: 6 }, () => step(state, a, policy).scoreTokens)
  expect(pieces).toEqual([8, 16, 32, 64, 64, 64])
  expect(state.scoring.credit).toBe(0)

  // A request that comes after it waits for a small piece again.
  const request = generate(state, 1)
  step(state, a, policy)
  endRequest(state, request)
  expect(step(state, a, policy).scoreTokens).toBe(8)
})

test('a share of 0 scores only without requests, and what nobody wanted scored is not saved up', () => {
  const policy = createPolicy(1024, { scoringShare: 0 })
  const state = createState(policy)
  const a = weightSet(1)
  state.active = a
  const request = generate(state, 10)
  score(state, 256, a)
  for (let round = 0; round < 100; round++) expect(step(state, a, policy).scoreTokens).toBe(0)
  endRequest(state, request)
  expect(step(state, a, policy).scoreTokens).toBeGreaterThan(0)

  const { state: later, active, totals, runRound } = busyNode()
  for (let round = 0; round < 1_000; round++) runRound()
  score(later, 256, active)
  score(later, 256, active)
  for (let round = 0; round < 20; round++) runRound()
  expect(totals.scoreTokens).toBeLessThan(0.3 * 256)
})
