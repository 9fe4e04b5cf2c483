import { expect, test } from 'vitest'
import { choosePermutations } from '../../../../gpu-node/lab/plan/permutations.ts'
import {
  statisticsDomains,
  scheduleStages,
  planRuns,
  type PlanOptions,
} from '../../../../gpu-node/lab/plan/plan-runs.ts'
import { parseVariants } from '../../../../gpu-node/lab/plan/lab-settings.ts'
import { parseMethodVariant } from '../../../../gpu-node/src/pruning/methods/method-variant.ts'
import { createRandom } from '../../../support/harness/random.ts'

const NAMES = ['wiki', 'ptb', 'c4']
const EIGHT = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']

function plan(options: Partial<PlanOptions> & { methods?: string[] } = {}) {
  const { methods = ['copal'], ...rest } = options
  const calibrated = rest.calibrated ?? NAMES
  return planRuns({
    calibrated,
    heldOut: ['mail'],
    orders: choosePermutations(calibrated, 'all', Math.random),
    variants: parseVariants(methods),
    sweepVariants: parseVariants(methods),
    patterns: ['0.5'],
    samples: 16,
    propagation: 'dense',
    sweepSparsity: [],
    sweepSamples: [],
    ...rest,
  })
}

test('three domains have six orders; all orders of eight are rejected', () => {
  const all = choosePermutations(NAMES, 'all', Math.random)
  expect(new Set(all.map((order) => order.join())).size).toBe(6)
  expect(all[0]).toEqual(NAMES)
  expect(() => choosePermutations(EIGHT, 'all', Math.random)).toThrow(/--permutations 20/)
})

test('drawn orders are distinct, start with the given one, and follow from the seed', () => {
  const draw = (seed: number) => choosePermutations(EIGHT, 40, createRandom(seed))
  expect(new Set(draw(1).map((order) => order.join())).size).toBe(40)
  expect(draw(1)[0]).toEqual(EIGHT)
  expect(draw(1)).toEqual(draw(1))
  expect(draw(1)).not.toEqual(draw(2))
  expect(() => choosePermutations(NAMES, 7, Math.random)).toThrow(
    '3 domains have only 6 orders, but 7 were requested',
  )
  expect(choosePermutations(NAMES, 'first', Math.random)).toEqual([NAMES])
})

test('an accumulating method has one mask per set of domains, a restarted one per domain, magnitude one in all', () => {
  const [copal, wanda, magnitude] = plan({ methods: ['copal', 'wanda', 'magnitude'] })
  expect(copal!.stages.map(({ mask }) => mask.domains.join()).toSorted()).toEqual([
    'c4',
    'c4,ptb',
    'c4,ptb,wiki',
    'c4,wiki',
    'ptb',
    'ptb,wiki',
    'wiki',
  ])
  expect(wanda!.stages.map(({ mask }) => mask.domains.join()).toSorted()).toEqual(['c4', 'ptb', 'wiki'])
  expect(magnitude!.stages.map(({ mask }) => mask.domains)).toEqual([[]])
})

test('without calibrated domains magnitude is evaluated on the others', () => {
  const runs = plan({ methods: ['magnitude'], calibrated: [], sweepSparsity: ['0.3'] })
  expect(runs.map(({ pattern, orders }) => [pattern, orders])).toEqual([
    ['0.5', []],
    ['0.3', []],
  ])
  for (const { stages } of runs) {
    expect(stages).toMatchObject([{ mask: { domains: [] }, evaluateOn: ['mail'], isFinal: true }])
  }
})

test('a mask is evaluated on the domains of the R matrices; the fully accumulated one also on the others', () => {
  const [copal, wanda] = plan({ methods: ['copal', 'wanda'] })
  for (const { mask, evaluateOn, isFinal } of copal!.stages) {
    expect(isFinal).toBe(mask.domains.length === 3)
    expect(evaluateOn).toEqual(isFinal ? ['c4', 'mail', 'ptb', 'wiki'] : mask.domains)
  }
  // Whichever domain came last, all others came before.
  for (const { evaluateOn } of wanda!.stages) expect(evaluateOn).toEqual(['c4', 'mail', 'ptb', 'wiki'])
})

test('with pruned propagation the order counts: every prefix of an order has a mask', () => {
  const [copal, wanda, magnitude] = plan({ methods: ['copal', 'wanda', 'magnitude'], propagation: 'pruned' })
  expect(copal!.stages).toHaveLength(3 + 6 + 6)
  expect(copal!.stages.filter(({ isFinal }) => isFinal)).toHaveLength(6)
  expect(copal!.stages.map(({ mask }) => mask.domains)).toContainEqual(['wiki', 'c4'])
  expect(wanda!.stages).toHaveLength(3)
  expect(magnitude!.stages.map(({ mask }) => mask.propagation)).toEqual(['dense'])
})

test('fewer orders need fewer masks', () => {
  const [copal, wanda] = plan({ methods: ['copal', 'wanda'], orders: [NAMES] })
  expect(copal!.stages.map(({ mask }) => mask.domains)).toEqual([
    ['wiki'],
    ['ptb', 'wiki'],
    ['c4', 'ptb', 'wiki'],
  ])
  expect(wanda!.stages.map(({ evaluateOn }) => evaluateOn)).toEqual([
    ['wiki'],
    ['ptb', 'wiki'],
    ['c4', 'mail', 'ptb', 'wiki'],
  ])
})

test('every stage of every order has a mask', () => {
  for (const run of plan({ methods: ['magnitude', 'wanda', 'copal'] })) {
    for (const order of run.orders) {
      for (const stage of order.keys()) {
        const soFar = order.slice(0, stage + 1)
        const planned = run.stages.find(
          ({ mask }) => mask.domains.join() === statisticsDomains(run.variant, soFar, 'dense').join(),
        )
        expect(planned?.evaluateOn).toEqual(expect.arrayContaining(soFar))
      }
    }
  }
})

test('both scopes give the same mask at n:m', () => {
  const runs = plan({ methods: ['copal', 'copal@matrix'], patterns: ['0.5', '2:4'] })
  expect(runs.map(({ variant, pattern }) => `${variant.scope} ${pattern}`)).toEqual([
    'row 0.5',
    'matrix 0.5',
    'row 2:4',
  ])
})

test('methods that distribute ratios are left out at n:m', () => {
  const runs = plan({ methods: ['copal', 'copal+allocated', 'copal+rows'], patterns: ['0.5', '2:4'] })
  expect(runs.map(({ variant, pattern }) => `${variant.method} ${pattern}`)).toEqual([
    'copal 0.5',
    'copal+allocated 0.5',
    'copal+rows 0.5',
    'copal 2:4',
  ])
})

test('sweeps hold only fully accumulated stages, and sample sweeps only methods with statistics', () => {
  const runs = plan({ methods: ['magnitude', 'wanda', 'copal'], sweepSparsity: ['0.3'], sweepSamples: [4] })
  const of = (purpose: string) =>
    runs
      .filter((run) => run.purpose === purpose)
      .map(({ variant, stages, samples, orders }) => [variant.method, stages.length, samples, orders.length])
  expect(of('sparsity-sweep')).toEqual([
    ['magnitude', 1, 16, 0],
    ['wanda', 3, 16, 0],
    ['copal', 1, 16, 0],
  ])
  expect(of('sample-sweep')).toEqual([
    ['wanda', 3, 4, 0],
    ['copal', 1, 4, 0],
  ])
})

test('a sweep to n:m has the same variants as the main runs: none allocated, each method once', () => {
  const runs = plan({ methods: ['copal', 'copal@matrix', 'copal+allocated'], sweepSparsity: ['0.3', '2:4'] })
  const swept = runs.filter(({ purpose }) => purpose === 'sparsity-sweep')
  expect(swept.map(({ variant, pattern }) => `${variant.method} ${variant.scope} ${pattern}`)).toEqual([
    'copal row 0.3',
    'copal matrix 0.3',
    'copal+allocated row 0.3',
    'copal row 2:4',
  ])
})

test('sweeps may use a subset of the methods', () => {
  const runs = plan({
    methods: ['magnitude', 'wanda', 'copal'],
    sweepVariants: parseVariants(['copal']),
    sweepSparsity: ['0.3', '0.4'],
    sweepSamples: [4],
  })
  const swept = runs.filter(({ purpose }) => purpose !== 'main').map(({ variant }) => variant.method)
  expect(swept).toEqual(['copal', 'copal', 'copal'])
  expect(runs.filter(({ purpose }) => purpose === 'main')).toHaveLength(3)
})

test('work begins with the fully accumulated masks of every method at the first pattern', () => {
  const runs = plan({ methods: ['wanda', 'copal'], patterns: ['0.5', '2:4'], sweepSparsity: ['0.3'] })
  const order = scheduleStages(runs).map(
    ({ run, stage }) => `${run.variant.method} ${run.pattern} ${stage.mask.domains.length}`,
  )
  expect(order.slice(0, 4)).toEqual(['wanda 0.5 1', 'wanda 0.5 1', 'wanda 0.5 1', 'copal 0.5 3'])
  expect(order.indexOf('copal 2:4 3')).toBe(3 + 7 + 3)
  expect(order.at(-1)).toBe('copal 0.3 3')
  expect(order).toHaveLength(2 * (3 + 7) + 3 + 1)
})

test('a method may name its scope; anything else is rejected', () => {
  expect(parseMethodVariant('copal@matrix')).toEqual({
    method: 'copal',
    scope: 'matrix',
    datasets: 'accumulated',
  })
  expect(parseVariants(['copal', 'copal@row', 'copal@matrix'])).toHaveLength(2)
  expect(() => parseMethodVariant('copal@column')).toThrow("after '@' comes 'row' or 'matrix'")
  expect(() => parseMethodVariant('copall')).toThrow("Did you mean 'copal'?")
})
