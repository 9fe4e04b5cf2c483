import { expect, test } from 'vitest'
import { PAGE_TOKENS } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { costsOf, draftsOf, findForced } from '../../../../gpu-node/src/serving/engine/drafting.ts'
import { createPolicy, type EnginePolicy } from '../../../../gpu-node/src/serving/engine/engine-policy.ts'
import {
  addRequest,
  createState,
  type EngineState,
} from '../../../../gpu-node/src/serving/engine/engine-state.ts'
import { commitStep, reserveStep } from '../../../../gpu-node/src/serving/engine/step-plan.ts'
import { planStep } from '../../../../gpu-node/src/serving/engine/scheduler.ts'
import { generate, outputOf, score, step, weightSet } from '../../../support/doubles/scheduled-steps.ts'

function start(overrides: Partial<EnginePolicy> = {}) {
  const policy = createPolicy(256, { kvTokens: 1024, prefillChunk: 16, maxRunning: 4, ...overrides })
  const state = createState(policy)
  const weights = weightSet(1)
  state.active = weights
  const decode = (steps: number) => {
    let last = step(state, weights, policy)
    for (let index = 1; index < steps; index++) last = step(state, weights, policy)
    return last.planned.work
  }
  return { policy, state, weights, decode }
}

/** Adds a request whose output repeats one token, as that of {@link step} does. */
const repeat = (state: EngineState, maxNewTokens = 200) => generate(state, 8, null, maxNewTokens)

test('an output that repeats itself is drafted, and its steps sample several tokens', () => {
  const { state, decode } = start()
  const request = repeat(state)
  const work = decode(12)
  expect(draftsOf(work[0]!)).toEqual([7, 7, 7, 7, 7, 7, 7])
  expect(new Set(request.tokens.slice(8))).toEqual(new Set([7]))
  expect(request.tokens.length).toBeGreaterThan(8 + 40)
})

test('all streams share the tokens of a step', () => {
  const { state, decode } = start()
  for (let index = 0; index < 3; index++) repeat(state)
  const work = decode(20)
  expect(work.map((item) => draftsOf(item).length)).toEqual([2, 2, 1])
})

test('a stream among others that repeat nothing has all drafts of a step, wherever it stands', () => {
  for (const place of [0, 1, 2]) {
    const { state, policy, weights } = start()
    const requests = Array.from({ length: 3 }, () => repeat(state))
    let next = 100
    const run = () => {
      const planned = planStep(state, weights, policy)
      const outputs = planned.work.map((work) =>
        outputOf(work, () => (work.request === requests[place] ? 7 : next++)),
      )
      commitStep(state, reserveStep(state, planned), { outputs })
      return planned.work.map((work) => draftsOf(work).length)
    }
    for (let round = 0; round < 20; round++) run()
    expect(run()).toEqual([0, 1, 2].map((index) => (index === place ? 5 : 0)))
  }
})

test.each([
  ['the policy says so', 0, true],
  ['the weights cannot', 8, false],
])('nothing is drafted where %s', (_, draftTokens, takesDrafts) => {
  const { state, decode, weights } = start({ draftTokens })
  Object.assign(weights, { takesDrafts })
  repeat(state)
  expect(decode(20).map(draftsOf)).toEqual([[]])
})

test('a step that also prefills has no drafts', () => {
  const { state, decode } = start()
  repeat(state)
  decode(12)
  generate(state, 100)
  expect(decode(1).map((work) => work.to - work.from)).toEqual([1, 16])
})

test('a step that also scores has no drafts', () => {
  const { state, weights, decode } = start({ scoringShare: 0.5 })
  repeat(state)
  score(state, 60, weights)
  const steps = Array.from({ length: 12 }, () => decode(1))
  const scoring = steps.filter((work) => work.some(({ output }) => output === 'nll'))
  expect(scoring.length).toBeGreaterThan(1)
  expect(scoring.flat().flatMap(draftsOf)).toEqual([])
  expect(steps.flat().flatMap(draftsOf)).not.toEqual([])
})

test('drafts end before the last token that may be generated', () => {
  const { state, decode } = start()
  const request = repeat(state, 50)
  while (request.tokens.length < 8 + 50) decode(1)
  expect(request.tokens.length).toBe(8 + 50)
})

test('drafts take no page that is not free', () => {
  const { state, policy, weights } = start({ contextLength: 64, kvTokens: 64, scoreKvTokens: 0 })
  const first = repeat(state, 40)
  for (let index = 0; index < 6; index++) step(state, weights, policy)
  const second = generate(state, 2 * PAGE_TOKENS - 8, null, 24)
  const requests = [first, second]
  for (let round = 0; round < 30; round++) {
    const { planned } = step(state, weights, policy)
    for (const { request, to } of planned.work) expect(requests.includes(request) && to <= 64).toBe(true)
    for (const request of requests) if (request.tokens.length - request.promptTokens >= 24) return
  }
  throw new Error('nobody finished')
})

test('drafts that are mostly wrong are not fed, and are tried again once they would be right', () => {
  const { state, policy, weights } = start()
  const request = repeat(state)
  let isRepeating = false
  let next = 100
  const fed = (steps: number) => {
    let drafts = 0
    for (let index = 0; index < steps; index++) {
      const planned = planStep(state, weights, policy)
      drafts += planned.work.flatMap(draftsOf).length
      // Pairs of tokens come again, and something else follows.
      const nextToken = () => (isRepeating ? 7 : [7, 8, next++][request.tokens.length % 3]!)
      const outputs = planned.work.map((work) => outputOf(work, nextToken))
      commitStep(state, reserveStep(state, planned), { outputs })
      costsOf(state.drafting, weights).observe(1 + drafts, 10 + 2 * drafts)
    }
    return drafts
  }
  fed(30)
  expect(fed(30)).toBe(0)
  isRepeating = true
  fed(20)
  expect(fed(4)).toBeGreaterThan(8)
})

/** Adds a request under a grammar. */
const constrained = (state: EngineState, forced: (length: number) => number[] | null) =>
  addRequest(
    state,
    {
      kind: 'generate',
      sampler: { seed: 1 } as never,
      constraint: {
        allowedAfter: () => Promise.resolve(null),
        forcedAfter: async (generated) => forced(generated.length),
      },
      maxNewTokens: 100,
      restartable: false,
      partition: null,
      prefixes: [],
    },
    [1, 2, 3],
    null,
  )

test('what a grammar leaves no choice about is drafted before anything else', async () => {
  const { state, policy, weights, decode } = start()
  const request = constrained(state, (length) => (length % 2 === 0 ? [7, 7, 7] : []))
  decode(1)
  await findForced(request)
  expect(planStep(state, weights, policy).work.flatMap(draftsOf)).toEqual([])
  decode(1)
  await findForced(request)
  expect(planStep(state, weights, policy).work.flatMap(draftsOf)).toEqual([7, 7, 7])
  decode(1)
  // Nothing is known of a text that has grown since.
  expect(request.forced?.length).not.toBe(request.tokens.length)
})

test('under a grammar that is too costly to look ahead nothing is drafted, because it would not be sampled', async () => {
  const { state, policy, weights, decode } = start()
  let isCostly = false
  const request = constrained(state, () => (isCostly ? null : []))
  decode(10)
  await findForced(request)
  expect(planStep(state, weights, policy).work.flatMap(draftsOf)).not.toEqual([])
  isCostly = true
  await findForced(request)
  expect(planStep(state, weights, policy).work.flatMap(draftsOf)).toEqual([])
})
