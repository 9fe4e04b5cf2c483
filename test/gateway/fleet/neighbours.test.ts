import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { createKey, errorOf, post, sendHeartbeat } from '../support/requests/gateway-requests.ts'
import type { FailedAttempt } from '../../../gateway/src/contracts/acquire.ts'
import { acquireRequest } from '../support/state/fleet-state.ts'
import { startNode } from '../support/doubles/node-double.ts'
import type { NodeStep } from '../support/doubles/node-script.ts'

const JSON_TYPE = { 'content-type': 'application/json', 'x-copal-mask': '0' }
const GOOD: NodeStep = { kind: 'answer', headers: JSON_TYPE, body: '{"ok":1}' }
const ask = (key: string, model: string) => post(key, '/v1/completions', { model, prompt: 'Once' })
const fleet = () => env.FLEET.get(env.FLEET.idFromName('fleet'))

const errorStep = (status: number, code: string, param: string | null = null): NodeStep => ({
  kind: 'answer',
  status,
  // A time that OpenAI's client for Node does not wait.
  headers: { 'content-type': 'application/json', 'retry-after': '90' },
  body: JSON.stringify({ error: { code, message: `It is ${code}.`, type: 'x', param } }),
})

/** Creates keys of two tenants. */
async function twoTenants() {
  const [bad, good] = await Promise.all([createKey({ tenant: 'bad' }), createKey({ tenant: 'good' })])
  return { bad: bad.key, good: good.key }
}

test("a node's limit of one tenant is that tenant's 429, is tried on no other node, and leaves the node to others", async () => {
  const { bad, good } = await twoTenants()
  const one = await startNode('limit-1', [errorStep(429, 'rate_limit_exceeded', 'response_format'), GOOD])
  const two = await startNode('limit-2', [GOOD])
  await sendHeartbeat(one, 'tenant-limit')
  await sendHeartbeat(two, 'tenant-limit', {
    load: { running: 9, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 1 },
  })
  const refused = await ask(bad, 'tenant-limit')
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '59'])
  expect(await errorOf(refused)).toMatchObject({
    code: 'rate_limit_exceeded',
    message: 'It is rate_limit_exceeded.',
  })
  expect(await two.calls()).toHaveLength(0)
  expect((await ask(good, 'tenant-limit')).status).toBe(200)
  expect(await one.calls()).toHaveLength(2)
})

test('a node whose schemas queue is full is not full for requests without a schema', async () => {
  const { bad, good } = await twoTenants()
  const node = await startNode('schemas-1', [errorStep(429, 'overloaded', 'response_format'), GOOD])
  await sendHeartbeat(node, 'schemas')
  const busy = ask(bad, 'schemas')
  await expect.poll(async () => (await node.calls()).length).toBe(1)
  // On a full node it would wait for a heartbeat, and be refused.
  expect((await ask(good, 'schemas')).status).toBe(200)
  // The request with the schema waits for the next heartbeat of its only node.
  await sendHeartbeat(node, 'schemas')
  await busy
})

test('requests of one tenant that make a node fail cost other tenants neither the node nor their retries', async () => {
  const { good } = await twoTenants()
  const node = await startNode('poisoned-1', [GOOD])
  await sendHeartbeat(node, 'poisoned')
  const request = (requestId: string, tenant: string) =>
    ({ ...acquireRequest(requestId, { tenant }), model: 'poisoned' }) as const
  let failed: FailedAttempt | undefined
  // More than the whole budget of retries.
  for (let attempt = 0; attempt < 250; attempt += 1) {
    const requestId = `poison-${attempt}`
    const acquired = await fleet().acquire({ ...request(requestId, 'bad'), version: 7, failed })
    expect(acquired.ok).toBe(false)
    failed = { requestId, nodeId: node.id, how: 'failed' }
  }
  for (const requestId of ['good-1', 'good-2']) {
    const retry = { requestId: `${requestId}-lost`, nodeId: 'gone', how: 'broke' } as const
    const acquired = await fleet().acquire({ ...request(requestId, 'good'), failed: retry })
    expect(acquired).toMatchObject({ ok: true, nodeId: node.id })
  }
  expect((await ask(good, 'poisoned')).status).toBe(200)
})
