/** Tests that the audit log has what happens to nodes: starts, replacements and rejected signatures. */
import { expect, test } from 'vitest'
import type { AuditPage } from '@copal/shared/wire/admin-audit.ts'
import { NodeEvents } from '../../../gateway/src/audit/node-events.ts'
import { heartbeatOf } from '../../support/doubles/heartbeat.ts'
import { adminJson, signedCall, testDeps } from '../support/doubles/simulated-node.ts'
import { sendHeartbeat, signedPost, until } from '../support/requests/gateway-requests.ts'

const list = (query: string) => adminJson<AuditPage>('GET', `/audit?limit=500${query}`)

test('the log shows when a node starts, is replaced under its name, and is imitated', async () => {
  const node = { id: 'audited-1', url: 'http://127.0.0.1:1' }
  await sendHeartbeat(node, 'audited-nodes', { process: 'one' })
  await sendHeartbeat(node, 'audited-nodes', { process: 'two' })
  await expect(sendHeartbeat(node, 'audited-nodes', { process: 'one' })).rejects.toThrow(/has replaced it/)
  const report = heartbeatOf(node, 'audited-nodes')
  const imitate = () => signedPost('/internal/nodes/heartbeat', report, { secret: 'guessed'.repeat(8) })
  expect((await imitate()).status).toBe(401)
  expect((await imitate()).status).toBe(401)
  const rows = await until('four rows', async () => {
    const { data } = await list('&target=audited-1')
    return data.length >= 4 ? data : undefined
  })
  expect(rows.map(({ actor, action }) => [actor, action])).toEqual([
    ['node:audited-1', 'node.started'],
    ['node:audited-1', 'node.started'],
    ['node:audited-1', 'node.replaced'],
    ['node:audited-1', 'node.signature_rejected'],
  ])
})

test('rejected signatures of made-up nodes keep no event of a real one out of the log', async () => {
  const events = new NodeEvents()
  for (let index = 0; index < 120; index++)
    await events.record(testDeps(), `made-up-${index}`, 'signature_rejected', { error: 'wrong' })
  await events.record(testDeps(), 'real-1', 'replaced', { error: 'replaced' })
  expect((await list('&target=real-1')).data).toMatchObject([{ action: 'node.replaced' }])
  expect((await list('&target=made-up-119')).data).toEqual([])
})

test('the log shows uploads and downloads that imitate a node', async () => {
  const wrong = 'guessed'.repeat(8)
  const path = `/internal/masks/${'a'.repeat(64)}`
  const since = encodeURIComponent(new Date().toISOString())
  for (const method of ['PUT', 'GET'] as const)
    expect((await signedCall(method, path, new Uint8Array(), wrong)).status).toBe(401)
  const rows = await until('a row', async () => {
    const { data } = await list(`&target=node-1&since=${since}`)
    return data.length > 0 ? data : undefined
  })
  // The two are one event, because it is of one kind and of one name.
  expect(rows.map(({ actor, action }) => [actor, action])).toEqual([
    ['node:node-1', 'node.signature_rejected'],
  ])
})
