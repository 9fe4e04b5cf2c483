import { expect, test } from 'vitest'
import type { NodeEntry, StatusReport } from '@copal/shared/wire/admin.ts'
import {
  admin,
  adminJson,
  importTexts,
  SimulatedNode,
  startUpdate,
} from '../../support/doubles/simulated-node.ts'
import {
  sendHeartbeat,
  createKey,
  errorOf,
  get,
  post,
  receiptOf,
  signedPost,
  until,
} from '../../support/requests/gateway-requests.ts'
import { startNode } from '../../support/doubles/node-double.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'

const SSE = { 'content-type': 'text/event-stream', 'x-copal-mask': '0' }
const EVENTS = ['data: {"a":1}\n\n', 'data: {"a":2}\n\n', 'data: [DONE]\n\n']
const ANSWER = {
  kind: 'answer' as const,
  headers: { 'content-type': 'application/json', 'x-copal-mask': '0' },
  body: '{}',
}
const nodeOf = async (id: string) =>
  (await adminJson<{ data: NodeEntry[] }>('GET', '/nodes')).data.find((node) => node.id === id)
const ask = (key: string, model: string, changes: object = {}) =>
  post(key, '/v1/completions', { model, prompt: 'Once', ...changes })

test('a drained node finishes its requests, gets no new ones across heartbeats and is listed; undrained it serves again', async () => {
  const { key } = await createKey()
  const node = await startNode('drained-1', [
    { kind: 'stream', headers: SSE, chunks: EVENTS, pauseMs: 200, ending: 'end' },
    ANSWER,
  ])
  await sendHeartbeat(node, 'drained')
  const stream = await ask(key, 'drained', { stream: true })
  const drained = await adminJson<NodeEntry>('PUT', '/nodes/drained-1/drain')
  expect(drained).toMatchObject({ id: 'drained-1', draining: true, drained_by_operator: true, leases: 1 })
  await sendHeartbeat(node, 'drained')
  const refused = await ask(key, 'drained')
  expect([refused.status, (await errorOf(refused)).code]).toEqual([503, 'no_node_available'])
  expect(await stream.text()).toBe(EVENTS.join(''))
  const id = stream.headers.get('x-request-id') ?? ''
  await signedPost('/internal/nodes/receipts', {
    nodeId: 'drained-1',
    receipts: [receiptOf(id, { model: 'drained' })],
  })
  expect(await nodeOf('drained-1')).toMatchObject({ alive: true, draining: true, leases: 0 })
  const { nodes, models } = await adminJson<StatusReport>('GET', '/status')
  expect(nodes.find((each) => each.id === 'drained-1')).toMatchObject({ drained_by_operator: true })
  expect(models.find((model) => model.id === 'drained')).toMatchObject({ converged: false })
  expect(await (await get('/metrics')).text()).toContain('copal_model_converged{model="drained"} 0\n')
  expect(await adminJson<NodeEntry>('DELETE', '/nodes/drained-1/drain')).toMatchObject({
    draining: false,
    drained_by_operator: false,
  })
  expect((await ask(key, 'drained')).status).toBe(200)
})

test('requests go to other nodes while a node is drained, and queued requests reach it when it is undrained', async () => {
  // However long a heartbeat takes, no wait for a node ends.
  stopClock()
  const { key } = await createKey()
  const away = await startNode('beside-1', [ANSWER])
  const other = await startNode('beside-2', [ANSWER, ANSWER])
  await sendHeartbeat(away, 'beside')
  await adminJson('PUT', '/nodes/beside-1/drain')
  const waiting = ask(key, 'beside')
  await sendHeartbeat(other, 'beside')
  expect((await waiting).headers.get('x-copal-node')).toBe('beside-2')
  expect((await ask(key, 'beside')).headers.get('x-copal-node')).toBe('beside-2')
  await adminJson('PUT', '/nodes/beside-2/drain')
  const again = ask(key, 'beside')
  await adminJson('DELETE', '/nodes/beside-1/drain')
  expect((await again).headers.get('x-copal-node')).toBe('beside-1')
})

test('a drained node gets no jobs', async () => {
  const node = new SimulatedNode('jobless-1', 'jobless')
  await node.beat()
  await importTexts('jobless')
  await adminJson('PUT', '/nodes/jobless-1/drain')
  const { id } = await startUpdate('jobless', ['jobless'])
  expect((await node.beat()).jobs).toEqual([])
  await adminJson('DELETE', '/nodes/jobless-1/drain')
  const jobs = await until('the job', async () => {
    const answer = await node.beat()
    return answer.jobs.length > 0 ? answer.jobs : undefined
  })
  expect(jobs[0]?.id).toContain(id)
})

test('an unknown node is rejected with the most similar name', async () => {
  await sendHeartbeat(await startNode('nearby-1', []), 'nearby')
  const response = await admin('PUT', '/nodes/nearby-2/drain')
  expect(response.status).toBe(404)
  expect((await errorOf(response)).message).toContain("Did you mean 'nearby-1'?")
})
