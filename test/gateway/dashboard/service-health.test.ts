import { expect, test } from 'vitest'
import type { NodeEntry } from '@copal/shared/wire/admin.ts'
import { serviceHealth } from '../../../gateway/src/dashboard/service-health.ts'
import { alertOf, domainOf, nodeOf, overviewWith, updateOf } from '../../support/dashboard/reports.ts'

const domains = [domainOf('code', 0.03), domainOf('speech', 0.02)]
const NO_OWN_MASKS = new Map<string, number>()
const textWith = (changes: Parameters<typeof overviewWith>[0], maxDenseRatio = 1.5) =>
  serviceHealth(overviewWith({ domains, ...changes }), NO_OWN_MASKS, maxDenseRatio).text
/** A node that has mask 13, and mask 14 in some state. */
const nodeWith = (state: string, activeVersion: number, error: string | null = null) =>
  nodeOf('node-2', {
    active_version: activeVersion,
    weight_sets: [
      { version: 13, state: 'ready', requests: 0 },
      { version: 14, state, requests: 0, error },
    ],
  })

test('a service without problems is well', () => {
  expect(serviceHealth(overviewWith({ domains }), NO_OWN_MASKS, 1.5)).toEqual({
    problems: [],
    text: 'All is well.',
  })
  const traffic = { ...overviewWith().traffic, failed_share: 0.009 }
  expect(textWith({ traffic })).toBe('All is well.')
})

test('every problem is named, the worst first', () => {
  const traffic = { ...overviewWith().traffic, failed_share: 0.042 }
  const nodes = [nodeOf('node-1'), nodeOf('node-2', { alive: false })]
  expect(textWith({ nodes, traffic, alerts: [alertOf('a'), alertOf('b')] })).toBe(
    '1 of 2 nodes is silent, 4.2 % of the requests fail and 2 alerts are active.',
  )
  expect(textWith({ alerts: [alertOf('a')] })).toBe('1 alert is active.')
  expect(textWith({ nodes: [] })).toBe('No node is alive, so requests fail.')
})

test('nodes that all are drained or have nothing loaded take no requests', () => {
  const drained = ['node-1', 'node-2'].map((id) => nodeOf(id, { draining: true }))
  expect(textWith({ nodes: drained })).toBe('No node takes requests, so they fail.')
  expect(textWith({ nodes: [nodeOf('node-1'), nodeOf('node-2', { draining: true })] })).toBe('All is well.')
  expect(textWith({ nodes: [nodeOf('node-1', { weight_sets: [] })] })).toBe(
    'No node takes requests, so they fail and some nodes are still loading the active mask.',
  )
})

test('a node that cannot load the active mask is named, also while it serves the one before or nothing', () => {
  const textBeside = (node: ReturnType<typeof nodeOf>) => textWith({ nodes: [nodeOf('node-1'), node] })
  const text = 'Node node-2 cannot load the active mask.'
  expect(textBeside(nodeWith('failed', 14))).toBe(text)
  expect(textBeside(nodeWith('failed', 13))).toBe(text)
  expect(textBeside(nodeWith('loading', 13, 'no space left'))).toBe(text)
  expect(textBeside(nodeWith('loading', 13))).toBe('Some nodes are still loading the active mask.')
  // Where another mask serves, such as one that was rolled back to, this one is of a canary at most.
  const model = { ...overviewWith().model, active_version: 13 }
  expect(textWith({ nodes: [nodeWith('failed', 13)], model })).toBe('All is well.')
})

test('a service is not called well before it is known whether its domains drift', () => {
  const young = { ...domainOf('law', 0.03), missing_observations: 38 }
  expect(textWith({ domains: [...domains, young] })).toBe(
    'No problem is known; whether law drifts is not known yet.',
  )
  const many = ['a', 'b', 'c', 'd'].map((name) => ({ ...young, name }))
  expect(textWith({ domains: many })).toBe(
    'No problem is known; whether a, b and 2 others drift is not known yet.',
  )
})

test('a domain that is not scored keeps no service from being called well while another one is', () => {
  const unscored = { ...domainOf('law', null), missing_observations: null }
  expect(textWith({ domains: [...domains, unscored] })).toBe('All is well.')
  expect(textWith({ domains: [] })).toBe('All is well.')
})

test('a service of which no request was scored is not called well, and what to do is said by the most frequent reason', () => {
  const unscored = { ...domainOf('law', null), missing_observations: null }
  const textOf = (...changes: Partial<typeof unscored>[]) =>
    textWith({ domains: changes.map((change) => ({ ...unscored, ...change })) })
  expect(textOf({}, { name: 'mail' })).toBe(
    'No problem is known; no request was scored in 24 hours, so neither drift nor the cost of pruning is known. Only sampled requests are scored.',
  )
  expect(textOf({ not_scored: 'not_sampled' })).toMatch(
    /\. Requests were not sampled; to allow it: npx copal keys sampling KEY always\.$/,
  )
  expect(textOf({ not_scored: 'failed', requests: 3 }, { not_scored: 'too_short', requests: 4 })).toMatch(
    /\. New texts were too short; longer ones are scored\.$/,
  )
  expect(textOf({ not_scored: 'evicted' })).toContain('COPAL_SCORING_SHARE.')
  expect(textOf({ not_scored: 'failed' })).toContain('COPAL_WEIGHT_BYTES')
  // Dense weights cost nothing.
  expect(textOf({ mask_version: 0 })).toContain('so drift is not known.')
  // Detectors read no requests of domains that are not registered, whose cost is known from the second score under a mask.
  const few = { name: '(other)', scored_requests: 1 }
  const register =
    'Stored samples register a domain, and so do imported texts: npx copal domains import DOMAIN FILE.'
  expect(textOf({}, few)).toBe(
    'No problem is known; no request of a registered domain was scored in 24 hours, so neither drift nor the cost of pruning is ' +
      `known. ${register}`,
  )
  // Those of `few` were sampled.
  expect(textOf({ not_scored: 'not_sampled' }, few)).toContain(
    `${register} In other domains, requests were not sampled; to allow it: npx copal keys sampling KEY always.`,
  )
  expect(textOf({}, { ...few, gap: domainOf('law', 0.1).gap })).toContain(
    '; no request of a registered domain was scored in 24 hours, so drift is not known.',
  )
  // A problem is said alone.
  expect(textWith({ domains: [unscored], nodes: [] })).toBe('No node is alive, so requests fail.')
})

test('a domain that pruning costs more than the gate allows is a problem', () => {
  const costly = [domainOf('code', 0.03), domainOf('news', Math.log(1.6)), domainOf('law', Math.log(3.14))]
  expect(textWith({ domains: costly })).toBe(
    'Pruning raises the perplexity of law and news by more than the allowed 50 % (gate.max_dense_ratio).',
  )
  // The limit is that of the policy.
  expect(textWith({ domains: costly }, 4)).toBe('All is well.')
})

test('the dense weights cost nothing, and an own mask of a domain does while they serve the others', () => {
  const model = { ...overviewWith().model, active_version: 0 }
  const nodes = [
    nodeOf('node-1', { active_version: 0, weight_sets: [{ version: 0, state: 'ready', requests: 0 }] }),
  ]
  const dense = { ...domainOf('law', Math.log(3)), mask_version: 0 }
  expect(textWith({ domains: [dense], model, nodes })).toBe('All is well.')
  expect(textWith({ domains: [{ ...dense, mask_version: 3 }], model, nodes })).toBe(
    'Pruning raises the perplexity of law by more than the allowed 50 % (gate.max_dense_ratio).',
  )
})

test('a cost that may be chance is no problem: its lower bound must be above the limit', () => {
  const gap = { mean: Math.log(1.6), lower: -0.2, upper: 1.1 }
  expect(textWith({ domains: [{ ...domainOf('law', 0), gap }] })).toBe('All is well.')
  expect(textWith({ domains: [{ ...domainOf('law', 0), gap: { ...gap, lower: Math.log(1.51) } }] })).toMatch(
    /^Pruning raises the perplexity of law /,
  )
})

const OWN = 15
/** Text of a service with a mask of its own for `code`, and nodes that hold weight sets beside the active one. */
const textWithOwnMask = (
  sets: NodeEntry['weight_sets'][],
  {
    changes = {},
    ownMasks = new Map([['code', OWN]]),
  }: { changes?: object; ownMasks?: Map<string, number> } = {},
) => {
  const nodes = sets.map((own, index) => {
    const node = nodeOf(`node-${index + 1}`)
    return { ...node, weight_sets: [...node.weight_sets, ...own] }
  })
  return serviceHealth(overviewWith({ domains, nodes, ...changes }), ownMasks, 1.5).text
}
const ownSet = (state: string, error: string | null = null) => ({ version: OWN, state, requests: 0, error })

test("a domain's own mask that a node cannot load is named, with what to do", () => {
  const text =
    'Node node-2 cannot load the own mask of code (see the log of the node, or remove it: npx copal domains mask code --remove).'
  expect(textWithOwnMask([[ownSet('ready')], [ownSet('failed', 'no such file')]])).toBe(text)
  // It tries again.
  expect(textWithOwnMask([[ownSet('ready')], [ownSet('loading', 'no such file')]])).toBe(text)
  const both = new Map([
    ['code', OWN],
    ['law', OWN],
  ])
  expect(textWithOwnMask([[ownSet('failed')], [ownSet('failed')]], { ownMasks: both })).toBe(
    'Nodes node-1 and node-2 cannot load the own masks of code and law (see the logs of the nodes, or remove them: npx copal domains mask DOMAIN --remove).',
  )
})

test("a domain's own mask that no node holds is named while the domain has traffic", () => {
  expect(textWithOwnMask([[], []])).toBe(
    'No node holds the own mask of code, so it is served by the shared mask (raise COPAL_WEIGHT_BYTES of the nodes, or remove it: npx copal domains mask code --remove).',
  )
  expect(textWithOwnMask([[], []], { ownMasks: new Map([['quiet', OWN]]) })).toBe('All is well.')
  // One node is enough: the others answer under the shared mask.
  expect(textWithOwnMask([[ownSet('ready')], []])).toBe('All is well.')
  // Which nodes do not serve, does not matter.
  const drained = nodeOf('node-1', {
    draining: true,
    weight_sets: [{ version: OWN, state: 'ready', requests: 0 }],
  })
  expect(textWithOwnMask([], { changes: { nodes: [drained, nodeOf('node-2')] } })).toMatch(
    /^No node holds the own mask of code, /,
  )
})

test("a domain's own mask is loading for 30 seconds after its promotion, before any node has heard of it", () => {
  const text = 'Some nodes are still loading the own mask of code.'
  const textAfter = (seconds: number, promoted = OWN) => {
    const at = new Date(Date.parse(overviewWith().at) - seconds * 1000).toISOString()
    const promotion = {
      kind: 'promote',
      verdict: 'done',
      reason: '',
      mask_version: promoted,
      update: 'u1',
      domains: ['code'],
      actor: 'copal',
      created_at: at,
    } as const
    return textWithOwnMask([[], []], { changes: { decisions: [promotion] } })
  }
  expect(textAfter(30)).toBe(text)
  expect(textAfter(31)).toMatch(/^No node holds /)
  expect(textAfter(1, OWN - 1)).toMatch(/^No node holds /)
  // It serves just before its promotion is recorded.
  const promoting = updateOf({ state: 'promoting', mask_version: OWN })
  expect(textWithOwnMask([[], []], { changes: { updates: [promoting] } })).toBe(text)
  expect(textWithOwnMask([[], [ownSet('failed')]], { changes: { updates: [promoting] } })).toMatch(
    /^Node node-2 cannot load /,
  )
})

test("a domain's own mask is loading while a node loads it, or another set before it", () => {
  const text = 'Some nodes are still loading the own mask of code.'
  expect(textWithOwnMask([[ownSet('loading')], []])).toBe(text)
  expect(textWithOwnMask([[{ ...ownSet('loading'), version: 0 }], []])).toBe(text)
})
