import { expect, test } from 'vitest'
import { serviceHealth } from '../../../gateway/src/dashboard/service-health.ts'
import { alertOf, domainOf, nodeOf, overviewWith } from '../../support/dashboard/reports.ts'

const domains = [domainOf('code', 0.03), domainOf('speech', 0.02)]
const textWith = (changes: Parameters<typeof overviewWith>[0], maxDenseRatio = 1.5) =>
  serviceHealth(overviewWith({ domains, ...changes }), maxDenseRatio).text
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
  expect(serviceHealth(overviewWith({ domains }), 1.5)).toEqual({ problems: [], text: 'All is well.' })
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

test('a domain that is not scored keeps no service from being called well', () => {
  const unscored = { ...domainOf('law', null), missing_observations: null }
  expect(textWith({ domains: [...domains, unscored] })).toBe('All is well.')
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
