import { describe, expect, test } from 'vitest'
import {
  planSwap,
  type DesiredMasks,
  type HeldSet,
  type SwapPlan,
} from '../../../../gpu-node/src/serving/masks/swap-plan.ts'

const NOW_MS = 1_000_000
const A = { version: 1, sha256: 'a'.repeat(64) }
const B = { version: 2, sha256: 'b'.repeat(64) }
const C = { version: 3, sha256: 'c'.repeat(64) }
const OTHER_A = { version: 1, sha256: 'f'.repeat(64) }
const DENSE = { version: 0, sha256: null }

const ready = (name: { version: number; sha256: string | null }): HeldSet => ({
  ...name,
  state: 'ready',
  retryAtMs: 0,
})
const inState = (
  name: { version: number; sha256: string | null },
  state: HeldSet['state'],
  retryAtMs = 0,
): HeldSet => ({
  ...name,
  state,
  retryAtMs,
})
const NOTHING: SwapPlan = {
  activate: null,
  drain: [],
  forget: [],
  abandon: [],
  load: null,
  wakeAtMs: null,
}
const wants = (active: DesiredMasks['active'], previous: DesiredMasks['previous'] = null): DesiredMasks => ({
  active,
  previous,
})

interface Case {
  name: string
  desired: DesiredMasks
  held: HeldSet[]
  active: number | null
  plan: Partial<SwapPlan>
}

const onTrial = (...trials: NonNullable<DesiredMasks['trials']>): DesiredMasks => ({ ...wants(A, B), trials })

const cases: Case[] = [
  {
    name: 'a load that nobody wants any more is abandoned, and none is begun until it has ended',
    desired: wants(A),
    held: [ready(DENSE), inState(B, 'loading')],
    active: 0,
    plan: { abandon: [2] },
  },
  {
    name: 'a mask on trial is loaded last, beside what serves',
    desired: onTrial(C),
    held: [ready(A), ready(DENSE), ready(B)],
    active: 1,
    plan: { load: C },
  },
  {
    name: 'what serves and the previous mask come before one on trial',
    desired: onTrial(C),
    held: [ready(A), ready(DENSE)],
    active: 1,
    plan: { load: B },
  },
  {
    name: 'a mask on trial stays as long as it is one',
    desired: onTrial(C),
    held: [ready(A), ready(DENSE), ready(B), ready(C)],
    active: 1,
    plan: {},
  },
  {
    name: 'a mask whose trial is over is drained',
    desired: wants(A, B),
    held: [ready(A), ready(DENSE), ready(B), ready(C)],
    active: 1,
    plan: { drain: [3] },
  },
  {
    name: 'a node that starts loads the mask it is to serve first',
    desired: wants(A, B),
    held: [],
    active: null,
    plan: { load: A },
  },
  {
    name: 'dense serves first where no mask is desired',
    desired: wants(null),
    held: [],
    active: null,
    plan: { load: DENSE },
  },
  {
    name: 'dense comes when the mask that should serve first has failed',
    desired: wants(A),
    held: [inState(A, 'failed', NOW_MS + 5_000)],
    active: null,
    plan: { load: DENSE, wakeAtMs: NOW_MS + 5_000 },
  },
  {
    name: 'dense serves as soon as it is ready, and the desired mask is loaded',
    desired: wants(A),
    held: [ready(DENSE)],
    active: null,
    plan: { activate: 0, load: A },
  },
  {
    name: 'nothing is loaded while a load runs',
    desired: wants(A),
    held: [ready(DENSE), inState(A, 'loading')],
    active: 0,
    plan: {},
  },
  {
    name: 'a mask that became ready is activated',
    desired: wants(A),
    held: [ready(DENSE), ready(A)],
    active: 0,
    plan: { activate: 1 },
  },
  {
    name: 'a converged node has nothing to do',
    desired: wants(A),
    held: [ready(DENSE), ready(A)],
    active: 1,
    plan: {},
  },
  {
    name: 'the old mask serves while its successor loads',
    desired: wants(B, A),
    held: [ready(DENSE), ready(A)],
    active: 1,
    plan: { load: B },
  },
  {
    name: 'the previous mask stays warm after the flip',
    desired: wants(B, A),
    held: [ready(DENSE), ready(A), ready(B)],
    active: 1,
    plan: { activate: 2 },
  },
  {
    name: 'what is neither active nor previous drains',
    desired: wants(C, B),
    held: [ready(DENSE), ready(A), ready(B), ready(C)],
    active: 3,
    plan: { drain: [1] },
  },
  {
    name: 'a mask that serves is not drained although it is no longer desired',
    desired: wants(C, B),
    held: [ready(DENSE), ready(A), ready(B)],
    active: 1,
    plan: { load: C },
  },
  {
    name: 'the flip and the drain of what it replaces come together',
    desired: wants(C, B),
    held: [ready(DENSE), ready(A), ready(B), ready(C)],
    active: 1,
    plan: { activate: 3, drain: [1] },
  },
  {
    name: 'a roll-back to the warm mask is only a flip',
    desired: wants(A, B),
    held: [ready(DENSE), ready(A), ready(B)],
    active: 2,
    plan: { activate: 1 },
  },
  {
    name: 'a roll-back to dense is only a flip',
    desired: wants(null, A),
    held: [ready(DENSE), ready(A)],
    active: 1,
    plan: { activate: 0 },
  },
  {
    name: 'dense is kept although neither active nor previous is dense',
    desired: wants(B, A),
    held: [ready(DENSE), ready(A), ready(B)],
    active: 2,
    plan: {},
  },
  {
    name: 'a failed load waits for its time',
    desired: wants(B),
    held: [ready(DENSE), ready(A), inState(B, 'failed', NOW_MS + 5_000)],
    active: 1,
    plan: { wakeAtMs: NOW_MS + 5_000 },
  },
  {
    name: 'a failed load is repeated when its time has come',
    desired: wants(B),
    held: [ready(DENSE), ready(A), inState(B, 'failed', NOW_MS)],
    active: 1,
    plan: { load: B },
  },
  {
    name: 'a failed mask that nobody wants is forgotten',
    desired: wants(A),
    held: [ready(DENSE), ready(A), inState(B, 'failed', NOW_MS + 5_000)],
    active: 1,
    plan: { forget: [2] },
  },
  {
    name: 'while one load waits for its time another goes on',
    desired: wants(B, A),
    held: [ready(DENSE), inState(B, 'failed', NOW_MS + 5_000)],
    active: 0,
    plan: { load: A, wakeAtMs: NOW_MS + 5_000 },
  },
  {
    name: 'the active mask comes before the previous one',
    desired: wants(B, A),
    held: [ready(DENSE)],
    active: 0,
    plan: { load: B },
  },
  {
    name: 'a mask that drains and is wanted again is loaded after it has gone',
    desired: wants(A),
    held: [ready(DENSE), inState(A, 'draining')],
    active: 0,
    plan: {},
  },
  {
    name: 'a crashed dense set comes back',
    desired: wants(A),
    held: [ready(A), inState(DENSE, 'failed', NOW_MS)],
    active: 1,
    plan: { load: DENSE },
  },
  {
    name: 'a version under another hash makes room first, with dense serving',
    desired: wants(OTHER_A),
    held: [ready(DENSE), ready(A)],
    active: 1,
    plan: { activate: 0, drain: [1] },
  },
  {
    name: 'a version under another hash is loaded once the old one has gone',
    desired: wants(OTHER_A),
    held: [ready(DENSE)],
    active: 0,
    plan: { load: OTHER_A },
  },
]

describe('planSwap', () => {
  test.each(cases)('$name', ({ desired, held, active, plan }) => {
    expect(planSwap(desired, held, active, NOW_MS)).toEqual({ ...NOTHING, ...plan })
  })
})

/** Does what a plan says, with loads that succeed or fail by the toss of a seeded coin. */
function act(plan: SwapPlan, held: HeldSet[], nowMs: number, fails: boolean): HeldSet[] {
  let next = held.filter(({ version }) => !plan.forget.includes(version) && !plan.drain.includes(version))
  if (plan.load) {
    const { load } = plan
    next = next.filter(({ version }) => version !== load.version)
    next.push(fails ? inState(load, 'failed', nowMs + 10) : ready(load))
  }
  return next
}

test('every sequence of desired states converges, and what serves is always held', () => {
  let seed = 7
  const draw = (below: number) => (seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31) % below
  const masks = [null, A, B, C, OTHER_A]
  let held: HeldSet[] = [ready(DENSE)]
  let active = 0
  let nowMs = NOW_MS
  for (let round = 0; round < 500; round++) {
    const desired = wants(masks[draw(5)] ?? null, masks[draw(5)] ?? null)
    for (let step = 0; step < 40; step++, nowMs += 10) {
      const plan = planSwap(desired, held, active, nowMs)
      active = plan.activate ?? active
      expect(plan.drain).not.toContain(active)
      expect(plan.drain).not.toContain(0)
      held = act(plan, held, nowMs, step < 10 && draw(3) === 0)
      expect(held.find(({ version }) => version === active)?.state).toBe('ready')
    }
    expect(planSwap(desired, held, active, nowMs)).toEqual(NOTHING)
    expect(active).toBe(desired.active?.version ?? 0)
    expect(held).toContainEqual(ready(desired.active ?? DENSE))
    expect(held.length).toBeLessThanOrEqual(3)
  }
})
