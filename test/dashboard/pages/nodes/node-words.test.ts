import { expect, test } from 'vitest'
import { ApiError } from '../../../../gateway/dashboard/src/data/client.ts'
import {
  drainConsequences,
  failedJobs,
  fleetPhrases,
  fleetSentence,
  mayHaveFailed,
  otherSets,
  pagesShare,
  probesSentence,
  stateOfNode,
} from '../../../../gateway/dashboard/src/pages/nodes/node-words.ts'
import { nodeOf } from '../../../support/dashboard/reports.ts'

const MODELS = [{ id: 'm', active_version: 14 }]

test('the fleet in a sentence names nodes that are behind or away', () => {
  expect(fleetSentence([nodeOf('a'), nodeOf('b')], MODELS)).toBe(
    'Both nodes serve: 4 requests run, none waits.',
  )
  expect(fleetSentence([nodeOf('a', { running: 0 })], MODELS)).toMatch(/: no request runs or waits\.$/)
  const nodes = [
    nodeOf('a'),
    nodeOf('b', { active_version: 13 }),
    nodeOf('c', { alive: false, seen_ms_ago: 60_000 }),
  ]
  expect(fleetSentence(nodes, MODELS).replaceAll('\u202F', ' ')).toBe(
    '2 nodes of 3 serve: 4 requests run, none waits. 1 node does not serve mask 14 yet. c has been away for 1 min.',
  )
  expect(fleetSentence([nodeOf('a', { draining: true })], MODELS)).toBe('No node takes requests.')
  // A node that was stopped is gone, and has reported before.
  expect(fleetSentence([], MODELS)).toBe('There is no node, so nothing can be served.')
})

test('the fleet in a sentence first names nodes whose weights may be damaged, each once', () => {
  const probe = (node: string, maskVersion: number, matches: boolean) => ({
    model: 'm',
    node,
    mask_version: maskVersion,
    nll: 2.9,
    expected: 2.4,
    matches,
    measured_at: '2026-11-28T12:00:00Z',
  })
  const nodes = [nodeOf('a'), nodeOf('b')]
  const sentence = 'Both nodes serve: 4 requests run, none waits.'
  expect(fleetPhrases(nodes, MODELS, [probe('a', 14, true)])).toEqual([sentence])
  expect(
    fleetPhrases(nodes, MODELS, [probe('a', 14, false), probe('a', 13, false), probe('b', 14, true)]),
  ).toEqual([{ harm: 'The weights of a may be damaged.' }, ' ', sentence])
})

test('a node is behind the active mask of its own model, not of another one', () => {
  const models = [...MODELS, { id: 'other', active_version: 3 }]
  const other = nodeOf('b', { model: 'other', active_version: 3 })
  expect(fleetSentence([nodeOf('a'), other], models)).toBe('Both nodes serve: 4 requests run, none waits.')
  expect(fleetSentence([nodeOf('a'), { ...other, active_version: 2 }], models)).toBe(
    'Both nodes serve: 4 requests run, none waits. 1 node does not serve mask 3 of other yet.',
  )
})

test('the state of a node', () => {
  expect(stateOfNode(nodeOf('a')).word).toBe('serves')
  expect(stateOfNode(nodeOf('a', { alive: false })).word).toBe('away')
  expect(stateOfNode(nodeOf('a', { draining: true })).word).toBe('draining')
  expect(stateOfNode(nodeOf('a', { draining: true, running: 0, leases: 0 })).word).toBe('drained')
  expect(stateOfNode(nodeOf('a', { active_version: 15 })).word).toBe('loading')
})

test('the last jobs that failed come newest first, with their updates', () => {
  const job = { code: 'internal_error', reason: 'No disk space is left.' }
  const nodes = [
    nodeOf('a', { last_failed_job: { ...job, at: '2026-11-28T10:00:00Z', job: 'upd_1-calibrate' } }),
    nodeOf('b', { last_failed_job: null }),
    nodeOf('c', { last_failed_job: { ...job, at: '2026-11-28T11:00:00Z', job: 'upd_2-confirm-1' } }),
  ]
  expect(failedJobs(nodes).map(({ node, update }) => [node, update])).toEqual([
    ['c', 'upd_2'],
    ['a', 'upd_1'],
  ])
  expect(mayHaveFailed({ value: { data: nodes }, error: undefined })).toBe(true)
})

test('that the failed jobs cannot be read is not shown as none, and does not replace those that were', () => {
  const error = new ApiError('The database does not respond.', 503, 'service_unavailable')
  const none = { data: [nodeOf('a')] }
  expect(mayHaveFailed({ value: undefined, error: undefined })).toBe(false)
  expect(mayHaveFailed({ value: undefined, error })).toBe(true)
  expect(mayHaveFailed({ value: none, error })).toBe(false)
})

test('other weight sets and the share of pages', () => {
  const node = nodeOf('a', { kv_tokens_used: 50, kv_tokens_total: 200 })
  node.weight_sets.push(
    { version: 0, state: 'ready', requests: 0 },
    { version: 15, state: 'loading', requests: 0 },
  )
  expect(otherSets(node)).toBe('dense, 15 loading')
  expect(pagesShare(node)).toBe(0.25)
  expect(pagesShare(nodeOf('b'))).toBeUndefined()
})

test('draining the last node warns that nothing else serves the model', () => {
  const node = nodeOf('a', { model: 'smollm' })
  expect(drainConsequences(node, [node]).join(' ')).toContain('No other node serves smollm')
  expect(drainConsequences(node, [node, nodeOf('b', { model: 'smollm' })]).join(' ')).toContain(
    'New requests go to b.',
  )
})

test('a node whose probes differ is named with what to do', () => {
  const probe = (node: string, nll: number, matches: boolean, expected: number | null = 2.41) => ({
    node,
    mask_version: 14,
    nll,
    expected,
    matches,
    measured_at: '2026-11-28T02:00:00.000Z',
  })
  expect(probesSentence([probe('a', 2.41, true)])).toContain('agree on the probe texts')
  expect(probesSentence([probe('a', 2.41, true), probe('b', 2.94, false)])).toContain(
    'b scores the probe texts unlike the others under mask 14: 2.94 nats a token instead of 2.41.',
  )
  const [alone, changed] = [probe('a', 2.41, true, null), probe('a', 2.94, false, null)]
  expect(probesSentence([alone])).toContain('none is compared with another')
  expect(probesSentence([alone, probe('b', 2.41, true)])).toContain('under 1 weight set.')
  expect(probesSentence([changed])).toContain(
    'a scores the probe texts unlike before under mask 14: 2.94 nats a token.',
  )
  // Nodes of other processors differ a little and match: a score near that of the others differs from the node's own.
  expect(probesSentence([probe('a', 2.41, true), probe('b', 2.42, false)])).toContain(
    'b scores the probe texts unlike before under mask 14: 2.42 nats a token.',
  )
})
