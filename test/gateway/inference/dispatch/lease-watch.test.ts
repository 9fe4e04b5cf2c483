import { env } from 'cloudflare:workers'
import { runDurableObjectAlarm } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import { NodeCallError } from '../../../../gateway/src/fleet/client/node-client.ts'
import { DEFAULT_POLICY } from '../../../../gateway/src/fleet/object/policy-variables.ts'
import { judge, watchLease } from '../../../../gateway/src/inference/dispatch/lease-watch.ts'
import { createAlarms } from '../../../../gateway/src/runtime/alarms.ts'
import { testDeps } from '../../support/doubles/simulated-node.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'
import { sendHeartbeat } from '../../support/requests/gateway-requests.ts'

const { idleMs, firstTokenMs } = DEFAULT_POLICY
const view = { silent: false, where: 'taken', idleMs: 0, firstTokenWaitMs: 0 } as const

test.each([
  ['is settled, or unknown to a fleet that was reset', undefined, 'fine'],
  ['moves', view, 'fine'],
  ['is on its way', { ...view, where: 'sent', idleMs }, 'fine'],
  ['is missing on its node', { ...view, where: 'missing' }, 'lost'],
  ['has taken no step for too long', { ...view, idleMs }, 'lost'],
  ['has a silent node', { ...view, silent: true, idleMs }, 'unheard'],
  ['still has no token', { ...view, firstTokenWaitMs: firstTokenMs }, 'late'],
  ['has no token and may yet have one', { ...view, firstTokenWaitMs: firstTokenMs - 1 }, 'fine'],
] as const)('a request that %s', (_, seen, verdict) => {
  expect(judge(seen, DEFAULT_POLICY)).toBe(verdict)
})

/** A request whose node tells of it at once, watched for a while by a gateway in a hurry. */
async function watched(model: string, progress: { completionTokens?: number; firstTokenWaitMs?: number }) {
  const deps = testDeps({ policy: { ...DEFAULT_POLICY, connectMs: 20, firstTokenMs: 100 } })
  const node = { nodeId: `${model}-1`, url: 'http://127.0.0.1:9' }
  const about = { id: node.nodeId, url: node.url }
  await sendHeartbeat(about, model)
  const requestId = `request-${model}`
  const fleet = env.FLEET.get(env.FLEET.idFromName('fleet'))
  await fleet.acquire({ model, requestId, domain: 'd', promptTokens: 1, exclude: [] })
  await sendHeartbeat(about, model, {
    requests: [{ requestId, promptTokens: 1, completionTokens: 0, idleMs: 0, ...progress }],
  })
  const attempt = new AbortController()
  const watch = watchLease(deps, node, requestId, createAlarms(), attempt)
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  watch.stop()
  return attempt.signal
}

test('an embedding, and a request that waits on its node, may take longer than a first token', async () => {
  expect((await watched('no-token', {})).aborted).toBe(false)
})

test('a node that runs a request for too long without a token is late, and not at fault', async () => {
  const { reason } = await watched('tokenless', { firstTokenWaitMs: 100 })
  expect(reason).toBeInstanceOf(NodeCallError)
  expect(reason).toMatchObject({ how: 'refused', error: { code: 'deadline_exceeded' } })
})

test('a stream goes on whose node is silent and answers: its key runs no other meanwhile', async () => {
  const fleet = env.FLEET.get(env.FLEET.idFromName('lost-heartbeats'))
  const node = { id: 'silent-1', url: 'http://127.0.0.1:9' }
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  const accounts = [{ kind: 'key' as const, name: 'one-at-a-time', limits: { concurrentRequests: 1 } }]
  const ask = (requestId: string) =>
    fleet.acquire({
      model: 'm',
      requestId,
      domain: 'default',
      promptTokens: 1,
      exclude: [],
      limits: { requestId, accounts, maxTokens: 1 },
    })
  expect((await ask('stream')).ok).toBe(true)

  const realNow = Date.now
  let aheadMs = 0
  Date.now = () => realNow() + aheadMs
  onTestFinished(() => {
    Date.now = realNow
  })
  const isAsked = vi.fn<() => Promise<Response>>(() => Promise.resolve(new Response('{}')))
  const alarms = createAlarms(realNow)
  const policy = { ...DEFAULT_POLICY, connectMs: 1, deadMs: 100 }
  const watch = watchLease(
    { fleet, policy, nodeFetch: isAsked },
    { nodeId: node.id, url: node.url },
    'stream',
    alarms,
    new AbortController(),
  )
  onTestFinished(() => watch.stop())
  for (let lost = 1; lost <= 4; lost += 1) {
    aheadMs += DEFAULT_POLICY.deadMs / 2
    isAsked.mockClear()
    // The second look began after the first one's answer was told.
    await vi.waitFor(() => expect(isAsked.mock.calls.length).toBeGreaterThan(1), { timeout: 10_000 })
    await runDurableObjectAlarm(fleet)
  }
  expect(await fleet.look('stream')).toMatchObject({ silent: true })
  expect(await ask('another')).toMatchObject({ ok: false, refusal: { limit: 'concurrent' } })
})
