import { expect, test } from 'vitest'
import { describeGoingLive } from '../../../../gpu-node/cli/api/going-live.ts'
import { copal } from '../../../support/doubles/copal-command.ts'

const node = (active: number, sets: Record<number, string>, change: object = {}) => ({
  model: 'tiny',
  alive: true,
  draining: false,
  active_version: active,
  weight_sets: Object.entries(sets).map(([version, state]) => ({ version: Number(version), state })),
  ...change,
})

function told(...nodes: object[]): Promise<string> {
  const client = { admin: async <T>() => ({ nodes }) as T }
  return describeGoingLive(client, 2, 'tiny')
}

test('a mask that a node has loaded serves from the next heartbeat on', async () => {
  expect(await told(node(4, { 4: 'ready', 2: 'ready' }), node(4, { 4: 'ready' }))).toBe(
    'm2 serves within some 2 s, from the next heartbeat of each node on.',
  )
})

test('until a node has loaded the mask, another one serves', async () => {
  const elsewhere = node(2, { 2: 'ready' }, { model: 'other' })
  const gone = node(2, { 2: 'ready' }, { alive: false })
  expect(await told(node(4, { 4: 'ready', 2: 'loading' }), elsewhere, gone)).toBe(
    'Nodes are loading m2. Until then m4 serves. See: npx copal status',
  )
  expect(await told(node(0, { 0: 'ready' }))).toContain('Until then dense serves')
})

test('a mask that every node serves already says so', async () => {
  expect(await told(node(2, { 2: 'ready' }), node(2, { 2: 'ready' }))).toBe('m2 serves already.')
  expect(await told(node(2, { 2: 'ready' }), node(4, { 2: 'ready' }))).toContain('within some 2 s')
})

test('without a node the mask is not served', async () => {
  expect(await told(node(2, { 2: 'ready' }, { draining: true }))).toContain('no node can serve it')
})

test('a rollback succeeds even if the status cannot be fetched afterwards', async () => {
  const onlyRollback = (call: string) => (call === 'POST /admin/rollback' ? { active_version: 2 } : undefined)
  const { code, stdout, stderr } = await copal(onlyRollback, ['rollback', 'm2'])
  expect(stdout).toMatch(
    /^m2 is active, but the status of the nodes \(npx copal status\) is unknown: No gateway answers at .*\n$/,
  )
  expect([code, stderr]).toEqual([0, ''])
})
