import { expect, test } from 'vitest'
import type { SequenceOutput, WeightSet } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { checkInvariants } from '../../../support/engine/engine-invariants.ts'
import { createPolicy } from '../../../../gpu-node/src/serving/engine/engine-policy.ts'
import type { Request } from '../../../../gpu-node/src/serving/engine/engine-request.ts'
import { choosePreemptions, isIdle, planStep } from '../../../../gpu-node/src/serving/engine/scheduler.ts'
import {
  createState,
  endRequest,
  forgetWeights,
  kvTokensUsed,
  preemptRequest,
  restartRequest,
  runningRequests,
  waitingRequests,
} from '../../../../gpu-node/src/serving/engine/engine-state.ts'
import { payForStep } from '../../../../gpu-node/src/serving/engine/scoring-share.ts'
import {
  commitStep,
  releaseStep,
  reserveStep,
  tokensByKind,
} from '../../../../gpu-node/src/serving/engine/step-plan.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { generate, outputOf, score, step, weightSet } from '../../../support/doubles/scheduled-steps.ts'

test('a decoding request gets a token in every step while a long prompt is prefilled in chunks', () => {
  const policy = createPolicy(1000, { kvTokens: 2000, prefillChunk: 16, maxRunning: 4 })
  const state = createState(policy)
  const a = weightSet(1)
  state.active = a
  const short = generate(state, 5)
  step(state, a, policy)
  const long = generate(state, 160)
  for (let round = 0; round < 10; round++) {
    const { planned } = step(state, a, policy)
    expect(planned.work.map((work) => [work.request, work.to - work.from])).toEqual([
      [short, 1],
      [long, 16],
    ])
  }
  expect(long.status.kind).toBe('decode')
})

test('a short prompt after a long one is prefilled in the next step, not after the long one', () => {
  const policy = createPolicy(1000, { kvTokens: 2000, prefillChunk: 16, maxRunning: 4 })
  const state = createState(policy)
  const a = weightSet(1)
  state.active = a
  generate(state, 400)
  step(state, a, policy)
  const short = generate(state, 8)
  step(state, a, policy)
  step(state, a, policy)
  expect(short.status.kind).toBe('decode')
})

test('a long prompt progresses although short ones keep arriving', () => {
  const policy = createPolicy(1000, { kvTokens: 2000, prefillChunk: 16, maxRunning: 4 })
  const state = createState(policy)
  const a = weightSet(1)
  state.active = a
  const long = generate(state, 320)
  for (let round = 0; round < 120 && long.status.kind !== 'decode'; round++) {
    for (const request of runningRequests(state))
      if (request.status.kind === 'decode') endRequest(state, request)
    while (waitingRequests(state).length < 3) generate(state, 12)
    step(state, a, policy)
  }
  expect(long.status.kind).toBe('decode')
})

test('chunks of a prompt end at the same positions whatever runs beside it', () => {
  const policy = createPolicy(1000, { kvTokens: 4000, prefillChunk: 16, maxRunning: 8 })
  const boundaries = (others: number[]) => {
    const state = createState(policy)
    const a = weightSet(1)
    state.active = a
    for (const length of others) generate(state, length)
    const request = generate(state, 75)
    const ends: number[] = []
    while (request.status.kind !== 'decode') {
      for (const work of step(state, a, policy).planned.work) if (work.request === request) ends.push(work.to)
    }
    return ends
  }
  expect(boundaries([])).toEqual([16, 32, 48, 64, 75])
  expect(boundaries([3, 100, 40, 7])).toEqual([16, 32, 48, 64, 75])
})

test('a smaller request does not overtake one at the head of the queue that does not fit', () => {
  const policy = createPolicy(100, { kvTokens: 100, prefillChunk: 16, maxRunning: 4 })
  const state = createState(policy)
  const a = weightSet(1)
  state.active = a
  const first = generate(state, 40)
  while (first.status.kind !== 'decode') step(state, a, policy)
  const large = generate(state, 80)
  const small = generate(state, 5)
  step(state, a, policy)
  expect([large.status.kind, small.status.kind]).toEqual(['waiting', 'waiting'])
  endRequest(state, first)
  step(state, a, policy)
  expect(large.status.kind).toBe('prefill')
})

test('when the budget runs out the youngest request is preempted, and prefills again on the same weights', () => {
  const policy = createPolicy(64, { kvTokens: 80, scoreKvTokens: 0, prefillChunk: 16, maxRunning: 4 })
  const state = createState(policy)
  const a = weightSet(1)
  state.active = a
  const older = generate(state, 20)
  const younger = generate(state, 20)
  const isPreempted = () => younger.status.kind === 'waiting' && younger.tokens.length > 20
  while (!isPreempted()) step(state, a, policy)
  expect(older.status.kind).toBe('decode')
  expect(younger.tokens.length).toBeGreaterThan(20)
  const before = younger.tokens.length
  state.active = weightSet(2)
  endRequest(state, older)
  const { planned } = step(state, a, policy)
  expect(planned.work).toMatchObject([{ request: younger, from: 0 }])
  while (younger.status.kind !== 'decode') step(state, a, policy)
  expect(younger.tokens.length).toBe(before + 1)
})

test('a request on replaced weights gets its next page although a younger one on the new weights is in a step whenever it is planned', () => {
  const policy = createPolicy(1552, { kvTokens: 1600, scoreKvTokens: 0, prefillChunk: 16, maxRunning: 4 })
  const state = createState(policy)
  const [a, b] = [weightSet(1), weightSet(2)]
  state.active = a
  const older = generate(state, 30)
  step(state, a, policy)
  state.active = b
  const younger = generate(state, 1552)
  /** Reserves a step, as the loop of a weight set does once its last step has ended. */
  const begin = (weights: WeightSet) => {
    for (const victim of choosePreemptions(state, weights, policy)) preemptRequest(state, victim)
    const planned = planStep(state, weights, policy)
    return isIdle(planned) ? undefined : reserveStep(state, planned)
  }
  for (let round = 0; round < 60; round++) {
    const onB = begin(b)
    for (const reserved of [begin(a), onB]) {
      const outputs = reserved?.planned.work.map(({ output }): SequenceOutput =>
        output === 'token' ? { kind: 'token', token: 7, logprob: 0, top: [] } : { kind: 'none' },
      )
      if (reserved && outputs) commitStep(state, reserved, { outputs })
      checkInvariants(state, policy)
    }
  }
  expect(older.tokens.length).toBe(30 + 60)
  expect(younger.status.kind).toBe('waiting')
})

test('scoring gives up pages that are not its own to a request, and restarts afterwards', () => {
  const policy = createPolicy(64, { kvTokens: 64, prefillChunk: 16, maxRunning: 4 })
  const state = createState(policy)
  const a = weightSet(1)
  state.active = a
  const text = score(state, 50, a)
  step(state, a, policy)
  expect(text.status.kind).toBe('prefill')
  const request = generate(state, 30)
  step(state, a, policy)
  expect([text.status.kind, request.status.kind]).toEqual(['waiting', 'prefill'])
  while (request.status.kind !== 'decode') step(state, a, policy)
  endRequest(state, request)
  let done = false
  while (!done) done = step(state, a, policy).outcome.scored.includes(text)
  expect(text.goal.kind === 'score' && text.goal.nll.every((value) => value === 1)).toBe(true)
})

test('a released step leaves the state as it was before it was reserved', () => {
  const policy = createPolicy(64, { kvTokens: 64, prefillChunk: 16, maxRunning: 4 })
  const state = createState(policy)
  const a = weightSet(1)
  state.active = a
  generate(state, 20)
  step(state, a, policy)
  step(state, a, policy)
  generate(state, 5)
  const snapshot = () => ({
    used: kvTokensUsed(state),
    requests: structuredClone(
      state.requests.map(({ tokens, turn, status }) => ({
        tokens,
        turn,
        kind: status.kind,
        held: 'sequence' in status ? { ...status.sequence, weights: 0 } : null,
      })),
    ),
  })
  const before = snapshot()
  const reserved = reserveStep(state, planStep(state, a, policy))
  expect(snapshot()).not.toEqual(before)
  releaseStep(state, reserved)
  expect(snapshot()).toEqual(before)
})

test('sequences that a failed step opened in the backend are dropped by the next step, like earlier ones', () => {
  const policy = createPolicy(64, { kvTokens: 64, prefillChunk: 16, maxRunning: 4 })
  const state = createState(policy)
  const a = weightSet(1)
  state.active = a
  generate(state, 5)
  step(state, a, policy)
  generate(state, 5)
  score(state, 5, a)
  const failed = reserveStep(state, planStep(state, a, policy))
  expect(failed.planned.work).toHaveLength(3)
  releaseStep(state, failed)
  for (const { request } of failed.planned.work) endRequest(state, request)
  const next = reserveStep(state, planStep(state, a, policy))
  expect(new Set(next.plan.drop)).toEqual(new Set(failed.sequences.map(({ id }) => id)))
  checkInvariants(state, policy)
})

test('results that do not fit the plan are rejected before any change', () => {
  const policy = createPolicy(64)
  const state = createState(policy)
  const a = weightSet(1)
  state.active = a
  const request = generate(state, 20)
  const reserved = reserveStep(state, planStep(state, a, policy))
  expect(() => commitStep(state, reserved, { outputs: [{ kind: 'none' }] })).toThrow(/do not match the plan/)
  expect(() => commitStep(state, reserved, { outputs: [] })).toThrow(/do not match the plan/)
  expect(request.tokens.length).toBe(20)
})

/** Prefills a prompt of `length` tokens and ends its request. */

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  'seed %i: random arrivals, cancels, failures, swaps keep every invariant and everyone finishes',
  (seed) => {
    const random = createRandom(seed)
    const pick = (below: number) => Math.floor(random() * below)
    const kvTokens = 96 + pick(200)
    const policy = createPolicy(96, {
      kvTokens,
      prefillChunk: 16,
      maxRunning: 1 + pick(6),
      scoreChunk: 4,
      scoringShare: [0, 0.05, 0.5][pick(3)]!,
    })
    const state = createState(policy)
    let sets = [weightSet(1)]
    state.active = sets[0]!
    const limits = new Map<Request, number>()
    const finished = new Set<Request>()
    let accepted = 0
    const dropped = new Set<Request>()
    const drop = (request: Request) => {
      endRequest(state, request)
      dropped.add(request)
    }
    const inFlight = new Map<WeightSet, ReturnType<typeof reserveStep>>()
    /** Sequences that a backend may hold, including those of failed steps. */
    const known = new Map<number, WeightSet>()

    const begin = (weights: WeightSet) => {
      for (const victim of choosePreemptions(state, weights, policy)) preemptRequest(state, victim)
      const planned = planStep(state, weights, policy)
      if (isIdle(planned)) return false
      const tokens = planned.work.reduce((sum, work) => sum + work.to - work.from, 0)
      expect(tokens).toBeLessThanOrEqual(policy.stepTokens + (planned.quiet ? 0 : policy.scoreChunk))
      const reserved = reserveStep(state, planned)
      for (const id of reserved.plan.drop) known.delete(id)
      for (const { id } of reserved.sequences) known.set(id, weights)
      inFlight.set(weights, reserved)
      return true
    }
    const finish = (weights: WeightSet, failing: boolean) => {
      const reserved = inFlight.get(weights)!
      inFlight.delete(weights)
      if (failing) {
        releaseStep(state, reserved)
        for (const { request } of reserved.planned.work) if (request.status.kind !== 'ended') drop(request)
        return
      }
      const outputs = reserved.planned.work.map((work) => outputOf(work, () => (random() < 0.9 ? 7 : 8)))
      const outcome = commitStep(state, reserved, { outputs })
      const { scoreTokens, ...others } = tokensByKind(reserved)
      const tokens = Object.values(others).reduce((sum, count) => sum + count, scoreTokens)
      accepted += outcome.sampled.reduce((sum, sampled) => sum + sampled.tokens.length - 1, 0)
      payForStep(state, policy, { scoreTokens, tokens, quiet: reserved.planned.quiet }, tokens)
      for (const { request } of outcome.sampled) {
        if (request.tokens.length - request.promptTokens < limits.get(request)!) continue
        endRequest(state, request)
        finished.add(request)
      }
      for (const request of outcome.scored) {
        endRequest(state, request)
        finished.add(request)
      }
    }

    for (let round = 0; round < 2000; round++) {
      const action = random()
      if (round < 1500 && action < 0.15) {
        const length = 1 + pick(80)
        const limit = 1 + pick(96 - length)
        limits.set(generate(state, length, [null, 'a', 'b'][pick(3)], limit), limit)
      } else if (round < 1500 && action < 0.2) score(state, 2 + pick(90), sets[pick(sets.length)]!)
      else if (action < 0.23 && state.requests.length) drop(state.requests[pick(state.requests.length)]!)
      else if (action < 0.24) {
        const request = state.requests.filter((other) => other.goal.kind === 'generate')[0]
        if (request) restartRequest(state, request)
      } else if (action < 0.25 && sets.length < 3) {
        state.active = weightSet(10 + round)
        sets.push(state.active)
      } else if (action < 0.255 && sets.length > 1 && sets[0] !== state.active) {
        const [lost] = sets
        for (const request of state.requests) {
          const { status } = request
          const on =
            status.kind === 'waiting' ? status.pin : status.kind === 'ended' ? null : status.sequence.weights
          if (on === lost) drop(request)
        }
        const cut = inFlight.get(lost!)
        if (cut) releaseStep(state, cut)
        inFlight.delete(lost!)
        forgetWeights(state, lost!)
        sets = sets.slice(1)
      } else {
        const weights = sets[pick(sets.length)]!
        if (inFlight.has(weights)) finish(weights, random() < 0.02)
        else begin(weights)
      }
      checkInvariants(state, policy)
    }
    // No more requests arrive: all remaining ones must end by themselves.
    for (let round = 0; state.requests.length > 0 || kvTokensUsed(state) > 0; round++) {
      expect(round, 'no progress').toBeLessThan(5000)
      for (const weights of sets) if (inFlight.has(weights)) finish(weights, false)
      for (const weights of sets) begin(weights)
      checkInvariants(state, policy)
    }
    for (const weights of sets) if (begin(weights)) finish(weights, false)
    expect([...known].filter(([, weights]) => sets.includes(weights))).toEqual([])
    expect(finished.size).toBeGreaterThan(20)
    expect(accepted).toBeGreaterThan(50)
  },
)
