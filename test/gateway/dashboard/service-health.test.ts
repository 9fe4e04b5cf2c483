import { expect, test } from 'vitest'
import { serviceHealth } from '../../../gateway/src/dashboard/service-health.ts'
import { alertOf, domainOf, nodeOf, overviewWith } from '../../support/dashboard/reports.ts'

const domains = [domainOf('code', 0.03), domainOf('speech', 0.02)]
const textWith = (changes: Parameters<typeof overviewWith>[0], maxDenseRatio = 1.5) =>
  serviceHealth(overviewWith({ domains, ...changes }), maxDenseRatio).text

test('a service without problems is well', () => {
  expect(serviceHealth(overviewWith({ domains }), 1.5)).toEqual({ problems: [], text: 'All is well.' })
  const traffic = { ...overviewWith().traffic, failed_share: 0.009 }
  expect(textWith({ traffic })).toBe('All is well.')
})

test('every problem is named, the worst first', () => {
  const traffic = { ...overviewWith().traffic, failed_share: 0.042 }
  const nodes = [nodeOf('node-1'), nodeOf('node-2', { alive: false })]
  expect(textWith({ nodes, traffic, alerts: [alertOf('a'), alertOf('b')] })).toBe(
    '1 of 2 nodes is silent, 4.2 % of the requests fail and 2 alerts hold.',
  )
  expect(textWith({ nodes: [] })).toBe('No node is alive, so requests fail.')
})

test('a service is not called well before it is known whether its domains drift', () => {
  const young = { ...domainOf('law', 0.03), missing_observations: 38 }
  expect(textWith({ domains: [...domains, young] })).toBe(
    'No problem is known; whether law drifts is not known yet.',
  )
  const many = ['a', 'b', 'c', 'd'].map((name) => ({ ...young, name }))
  expect(textWith({ domains: many })).toBe(
    'No problem is known; whether a, b and 2 other domains drift is not known yet.',
  )
})

test('a domain that pruning costs more than the gate allows is a problem', () => {
  const costly = [domainOf('code', 0.03), domainOf('news', Math.log(1.6)), domainOf('law', Math.log(3.14))]
  expect(textWith({ domains: costly })).toBe(
    'Pruning costs law and news more perplexity over dense than the 50 % that gate.max_dense_ratio allows a mask.',
  )
  // The limit is that of the policy, and dense weights cost nothing.
  expect(textWith({ domains: costly }, 4)).toBe('All is well.')
  const model = { ...overviewWith().model, active_version: 0 }
  expect(textWith({ domains: costly, model })).toBe('All is well.')
})
