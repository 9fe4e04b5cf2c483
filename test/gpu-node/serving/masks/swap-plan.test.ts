import { describe, expect, test } from 'vitest'
import {
  planSwap,
  type DesiredMasks,
  type HeldWeightSet,
  type SwapPlan,
} from '../../../../gpu-node/src/serving/masks/swap-plan.ts'

const NOW_MS = 1_000_000
const A = { version: 1, sha256: 'a'.repeat(64) }
const B = { version: 2, sha256: 'b'.repeat(64) }
const C = { version: 3, sha256: 'c'.repeat(64) }
const OTHER_A = { version: 1, sha256: 'f'.repeat(64) }
const DENSE = { version: 0, sha256: null }

const ready = (name: { version: number; sha256: string | null }): HeldWeightSet => ({
  ...name,
  state: 'ready',
  retryAtMs: 0,
})
const inState = (
  name: { version: number; sha256: string | null },
  state: HeldWeightSet['state'],
  retryAtMs = 0,
): HeldWeightSet => ({
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
  unheld: [],
  wakeAtMs: null,
}
const wants = (active: DesiredMasks['active'], previous: DesiredMasks['previous'] = null): DesiredMasks => ({
  active,
  previous,
})

interface Case {
  name: string
  desired: DesiredMasks
  held: HeldWeightSet[]
  active: number | null
  plan: Partial<SwapPlan>
}

const onTrial = (...trials: NonNullable<DesiredMasks['trials']>): DesiredMasks => ({ ...wants(A, B), trials })

const cases: Case[] = [
  {
    name: 'a load that is no longer desired is cancelled, and no other starts until it has ended',
    desired: wants(A),
    held: [ready(DENSE), inState(B, 'loading')],
    active: 0,
    plan: { abandon: [2] },
  },
  {
    name: 'a trial mask is loaded last, beside the serving sets',
    desired: onTrial(C),
    held: [ready(A), ready(DENSE), ready(B)],
    active: 1,
    plan: { load: C },
  },
  {
    name: 'the active and the previous mask are loaded before a trial mask',
    desired: onTrial(C),
    held: [ready(A), ready(DENSE)],
    active: 1,
    plan: { load: B },
  },
  {
    name: 'a trial mask stays loaded while its trial lasts',
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
    name: 'a starting node loads its desired mask first',
    desired: wants(A, B),
    held: [],
    active: null,
    plan: { load: A },
  },
  {
    name: 'dense is loaded first when no mask is desired',
    desired: wants(null),
    held: [],
    active: null,
    plan: { load: DENSE },
  },
  {
    name: 'dense is loaded when the desired mask has failed',
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
    name: 'a mask that has become ready is activated',
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
    name: 'the previous mask stays loaded after the activation',
    desired: wants(B, A),
    held: [ready(DENSE), ready(A), ready(B)],
    active: 1,
    plan: { activate: 2 },
  },
  {
    name: 'a set that is neither active nor previous is drained',
    desired: wants(C, B),
    held: [ready(DENSE), ready(A), ready(B), ready(C)],
    active: 3,
    plan: { drain: [1] },
  },
  {
    name: 'a serving mask is not drained although it is no longer desired',
    desired: wants(C, B),
    held: [ready(DENSE), ready(A), ready(B)],
    active: 1,
    plan: { load: C },
  },
  {
    name: 'activation and the drain of the replaced set are planned together',
    desired: wants(C, B),
    held: [ready(DENSE), ready(A), ready(B), ready(C)],
    active: 1,
    plan: { activate: 3, drain: [1] },
  },
  {
    name: 'a roll-back to the loaded previous mask only activates it',
    desired: wants(A, B),
    held: [ready(DENSE), ready(A), ready(B)],
    active: 2,
    plan: { activate: 1 },
  },
  {
    name: 'a roll-back to dense only activates it',
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
    name: 'a failed load is not repeated before its wait is over',
    desired: wants(B),
    held: [ready(DENSE), ready(A), inState(B, 'failed', NOW_MS + 5_000)],
    active: 1,
    plan: { wakeAtMs: NOW_MS + 5_000 },
  },
  {
    name: 'a failed load is repeated once its wait is over',
    desired: wants(B),
    held: [ready(DENSE), ready(A), inState(B, 'failed', NOW_MS)],
    active: 1,
    plan: { load: B },
  },
  {
    name: 'a failed mask that is not desired is forgotten',
    desired: wants(A),
    held: [ready(DENSE), ready(A), inState(B, 'failed', NOW_MS + 5_000)],
    active: 1,
    plan: { forget: [2] },
  },
  {
    name: 'while one failed load waits another set is loaded',
    desired: wants(B, A),
    held: [ready(DENSE), inState(B, 'failed', NOW_MS + 5_000)],
    active: 0,
    plan: { load: A, wakeAtMs: NOW_MS + 5_000 },
  },
  {
    name: 'the active mask is loaded before the previous one',
    desired: wants(B, A),
    held: [ready(DENSE)],
    active: 0,
    plan: { load: B },
  },
  {
    name: 'a draining mask that is desired again is loaded after its release',
    desired: wants(A),
    held: [ready(DENSE), inState(A, 'draining')],
    active: 0,
    plan: {},
  },
  {
    name: 'a crashed dense set is loaded again',
    desired: wants(A),
    held: [ready(A), inState(DENSE, 'failed', NOW_MS)],
    active: 1,
    plan: { load: DENSE },
  },
  {
    name: 'a version under another hash is drained first, with dense serving',
    desired: wants(OTHER_A),
    held: [ready(DENSE), ready(A)],
    active: 1,
    plan: { activate: 0, drain: [1] },
  },
  {
    name: 'a version under another hash is loaded once the old one is released',
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

/** Memory for so many sets, each of which takes 100 bytes. */
const memoryFor = (sets: number) => ({ budgetBytes: 100 * sets, bytesOf: () => 100 })

describe('planSwap with little memory', () => {
  const tight: (Case & { sets: number })[] = [
    {
      name: 'holds the previous set before that of a trial, and that of a trial before dense',
      sets: 3,
      desired: onTrial(C),
      held: [ready(A), ready(B), ready(C)],
      active: 1,
      plan: { unheld: [DENSE] },
    },
    {
      name: 'holds the serving set and loads its successor even if both do not fit',
      sets: 1,
      desired: wants(B, A),
      held: [ready(A)],
      active: 1,
      plan: { load: B, unheld: [DENSE] },
    },
    {
      name: 'releases what is least needed before it loads the successor',
      sets: 2,
      desired: wants(C, A),
      held: [ready(A), ready(B)],
      active: 1,
      plan: { drain: [2], unheld: [DENSE] },
    },
    {
      name: 'waits for streams on a leaving set before it loads the successor, until their time is over',
      sets: 2,
      desired: wants(C, A),
      held: [ready(A), { ...inState(B, 'draining'), releaseByMs: NOW_MS + 30_000 }],
      active: 1,
      plan: { unheld: [DENSE], wakeAtMs: NOW_MS + 30_000 },
    },
    {
      name: 'loads the successor beside a leaving set whose time is over',
      sets: 2,
      desired: wants(C, A),
      held: [ready(A), { ...inState(B, 'draining'), releaseByMs: NOW_MS }],
      active: 1,
      plan: { load: C, unheld: [DENSE] },
    },
    {
      name: 'loads an optional set only once the leaving one is released',
      sets: 2,
      desired: wants(A, C),
      held: [ready(A), { ...inState(B, 'draining'), releaseByMs: NOW_MS - 1 }],
      active: 1,
      plan: { unheld: [DENSE] },
    },
    {
      name: 'drains the old mask after the activation',
      sets: 1,
      desired: wants(B, A),
      held: [ready(A), ready(B)],
      active: 1,
      plan: { activate: 2, drain: [1], unheld: [A, DENSE] },
    },
    {
      name: 'loads dense when the desired mask has failed and nothing serves',
      sets: 0,
      desired: wants(A),
      held: [inState(A, 'failed', NOW_MS + 5_000)],
      active: null,
      plan: { load: DENSE, wakeAtMs: NOW_MS + 5_000 },
    },
    {
      name: 'loads dense to replace a version under another hash',
      sets: 1,
      desired: wants(OTHER_A),
      held: [ready(A)],
      active: 1,
      plan: { load: DENSE },
    },
    {
      name: 'loads the masks of single domains that fit, in their order',
      sets: 3,
      desired: {
        ...wants(A),
        own: [
          { ...C, domain: 'code' },
          { ...B, domain: 'legal' },
        ],
      },
      held: [ready(DENSE), ready(A)],
      active: 1,
      plan: { load: C, unheld: [B] },
    },
  ]
  test.each(tight)('$name', ({ desired, held, active, plan, sets }) => {
    expect(planSwap(desired, held, active, NOW_MS, memoryFor(sets))).toMatchObject({ ...NOTHING, ...plan })
  })
})

/** Executes a plan; loads succeed or fail at random by a seed. */
function act(plan: SwapPlan, held: HeldWeightSet[], nowMs: number, fails: boolean): HeldWeightSet[] {
  let next = held.filter(({ version }) => !plan.forget.includes(version) && !plan.drain.includes(version))
  if (plan.load) {
    const { load } = plan
    next = next.filter(({ version }) => version !== load.version)
    next.push(fails ? inState(load, 'failed', nowMs + 10) : ready(load))
  }
  return next
}

test.each([Infinity, 3, 2, 1, 0])(
  'every sequence of desired states converges with memory for %d sets, and the serving set is always loaded',
  (sets) => {
    const memory = memoryFor(sets)
    let seed = 7
    const draw = (below: number) => (seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31) % below
    const masks = [null, A, B, C, OTHER_A]
    let held: HeldWeightSet[] = [ready(DENSE)]
    let active = 0
    let nowMs = NOW_MS
    for (let round = 0; round < 100; round++) {
      const desired = wants(masks[draw(5)] ?? null, masks[draw(5)] ?? null)
      for (let step = 0; step < 40; step++, nowMs += 10) {
        const plan = planSwap(desired, held, active, nowMs, memory)
        active = plan.activate ?? active
        expect(plan.drain).not.toContain(active)
        expect(sets === Infinity && plan.drain.includes(0)).toBe(false)
        held = act(plan, held, nowMs, step < 10 && draw(3) === 0)
        expect(held.find(({ version }) => version === active)?.state).toBe('ready')
      }
      const { unheld, ...plan } = planSwap(desired, held, active, nowMs, memory)
      expect({ ...plan, unheld: [] }).toEqual(NOTHING)
      expect(active).toBe(desired.active?.version ?? 0)
      expect(held).toContainEqual(ready(desired.active ?? DENSE))
      expect(held.length).toBeLessThanOrEqual(Math.max(1, Math.min(3, sets)))
      expect(unheld.every((name) => !held.some(({ version }) => version === name.version))).toBe(true)
    }
  },
)
