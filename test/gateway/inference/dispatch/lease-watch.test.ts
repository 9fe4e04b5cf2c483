import { env } from 'cloudflare:workers'
import { runDurableObjectAlarm } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import { NodeCallError } from '../../../../gateway/src/fleet/client/node-client.ts'
import { DEFAULT_POLICY } from '../../../../gateway/src/fleet/object/policy-variables.ts'
import { judgeLease, watchLease } from '../../../../gateway/src/inference/dispatch/lease-watch.ts'
import { createAlarms } from '../../../../gateway/src/runtime/alarms.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'
import { testDeps } from '../../support/doubles/simulated-node.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'
import { sendHeartbeat } from '../../support/requests/gateway-requests.ts'

const { idleMs, firstTokenMs } = DEFAULT_POLICY
const view = { silent: false, state: 'taken', idleMs: 0, firstTokenWaitMs: 0 } as const

test.each([
  ['is settled, or unknown because the fleet was reset', undefined, 'unknown'],
  ['progresses', view, 'fine'],
  ['was sent and not reported yet', { ...view, state: 'sent', idleMs }, 'fine'],
  ['is missing on its node', { ...view, state: 'missing' }, 'lost'],
  ['has not progressed for too long', { ...view, idleMs }, 'lost'],
  ['has a silent node', { ...view, silent: true, idleMs }, 'silent'],
  ['has no token after the first-token timeout', { ...view, firstTokenWaitMs: firstTokenMs }, 'late'],
  [
    'has no token just before the first-token timeout',
    { ...view, firstTokenWaitMs: firstTokenMs - 1 },
    'fine',
  ],
] as const)('a request that %s', (_, seen, verdict) => {
  expect(judgeLease(seen, DEFAULT_POLICY)).toBe(verdict)
})

/** Watches a request that its node reports at once, with short timeouts; returns the signal of the attempt. */
async function watchRequest(model: string, progress: { firstTokenWaitMs?: number }) {
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
  onTestFinished(() => watch.stop())
  return attempt.signal
}

test('an embedding, and a request queued on its node, may take longer than the first-token timeout', async () => {
  const signal = await watchRequest('no-token', {})
  // More than one check.
  await scheduler.wait(1_500)
  expect(signal.aborted).toBe(false)
})

test('a request that runs for too long without a token misses its deadline, and its node is not blamed', async () => {
  const signal = await watchRequest('tokenless', { firstTokenWaitMs: 100 })
  await expect.poll(() => signal.aborted).toBe(true)
  const reason: unknown = signal.reason
  expect(reason).toBeInstanceOf(NodeCallError)
  expect(reason).toMatchObject({ how: 'refused', error: { code: 'deadline_exceeded' } })
})

test('a request that the fleet does not know is lost once its node was unreachable for the idle timeout, not before', async () => {
  const goOn = stopClock()
  let isReachable = true
  const nodeFetch = vi.fn<() => Promise<Response>>(() =>
    isReachable ? Promise.resolve(new Response('{}')) : Promise.reject(new Error('unreachable')),
  )
  const fleet = env.FLEET.get(env.FLEET.idFromName('knows-nothing'))
  const attempt = new AbortController()
  const policy = { ...DEFAULT_POLICY, connectMs: 1, deadMs: 100 }
  const node = { nodeId: 'gone-1', url: 'http://127.0.0.1:9' }
  const watch = watchLease({ fleet, policy, nodeFetch }, node, 'unknown', createAlarms(), attempt)
  onTestFinished(() => watch.stop())
  const untilChecked = async () => {
    // The check that was running may have begun earlier.
    const atLeast = nodeFetch.mock.calls.length + 2
    await expect
      .poll(() => (goOn(50), nodeFetch.mock.calls.length), { timeout: 60_000 })
      .toBeGreaterThanOrEqual(atLeast)
  }
  await untilChecked()
  goOn(idleMs)
  isReachable = false
  await untilChecked()
  isReachable = true
  goOn(idleMs)
  await untilChecked()
  isReachable = false
  await untilChecked()
  expect(attempt.signal.aborted).toBe(false)
  goOn(idleMs)
  await expect.poll(() => (goOn(50), attempt.signal.aborted), { timeout: 60_000 }).toBe(true)
  expect(attempt.signal.reason).toMatchObject({ how: 'failed', error: { code: 'node_failed' } })
})

test('a stream continues while its node sends no heartbeats but responds, and still occupies the only slot of its key', async () => {
  const realNow = Date.now
  const goOn = stopClock()
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

  const nodeFetch = vi.fn<() => Promise<Response>>(() => Promise.resolve(new Response('{}')))
  const alarms = createAlarms(realNow)
  const policy = { ...DEFAULT_POLICY, connectMs: 1, deadMs: 100 }
  const watch = watchLease(
    { fleet, policy, nodeFetch },
    { nodeId: node.id, url: node.url },
    'stream',
    alarms,
    new AbortController(),
  )
  onTestFinished(() => watch.stop())
  for (let lost = 1; lost <= 4; lost += 1) {
    goOn(0.8 * DEFAULT_POLICY.deadMs)
    nodeFetch.mockClear()
    // The second check starts after the result of the first one was reported to the fleet.
    await vi.waitFor(() => expect(nodeFetch.mock.calls.length).toBeGreaterThan(1), { timeout: 60_000 })
    await runDurableObjectAlarm(fleet)
  }
  expect(await fleet.leaseView('stream')).toMatchObject({ silent: true })
  expect(await ask('another')).toMatchObject({ ok: false, rejection: { limit: 'concurrent' } })
})

test('a stream of a silent node is lost when two checks in a row cannot reach it, not when one cannot', async () => {
  const realNow = Date.now
  const goOn = stopClock()
  const fleet = env.FLEET.get(env.FLEET.idFromName('unreachable'))
  const node = { id: 'unreachable-1', url: 'http://127.0.0.1:9' }
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  await fleet.acquire({ model: 'm', requestId: 'stream', domain: 'default', promptTokens: 1, exclude: [] })
  goOn(DEFAULT_POLICY.deadMs)
  expect(await fleet.leaseView('stream')).toMatchObject({ silent: true })

  const checks = [false, true, false, false]
  const nodeFetch = vi.fn<() => Promise<Response>>(() =>
    checks.shift() ? Promise.resolve(new Response('{}')) : Promise.reject(new Error('unreachable')),
  )
  const attempt = new AbortController()
  const policy = { ...DEFAULT_POLICY, connectMs: 1, deadMs: 100 }
  const deps = { fleet, policy, nodeFetch }
  const watch = watchLease(deps, { nodeId: node.id, url: node.url }, 'stream', createAlarms(realNow), attempt)
  onTestFinished(() => watch.stop())
  await vi.waitFor(() => expect(attempt.signal.aborted).toBe(true), { timeout: 60_000 })
  expect(nodeFetch).toHaveBeenCalledTimes(4)
  expect(attempt.signal.reason).toMatchObject({ how: 'failed', error: { code: 'node_failed' } })
})

test.each([
  [
    'goes on, though each health check ends only after the gateway stood still for longer than it may take',
    1,
    false,
  ],
  ['is lost if no health check has ended while the gateway ran for as long as it may take', 20, true],
])('a stream of a silent node %s', async (_, dueTimes, isLost) => {
  const goOn = stopClock()
  const name = `stalls-${dueTimes}`
  const fleet = env.FLEET.get(env.FLEET.idFromName(name))
  const node = { id: name, url: 'http://127.0.0.1:9' }
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  await fleet.acquire({ model: 'm', requestId: name, domain: 'default', promptTokens: 1, exclude: [] })
  goOn(DEFAULT_POLICY.deadMs)

  /** The alarms that are set. They are due when the test says so. */
  const set = new Set<() => void>()
  const alarms = {
    after(ms: number, onDue: () => void) {
      if (ms === Infinity) return () => undefined
      const alarm = () => void (set.delete(alarm) && onDue())
      set.add(alarm)
      return () => void set.delete(alarm)
    },
  }
  const allDue = () => [...set].forEach((alarm) => alarm())
  let respond: (() => void) | undefined
  const nodeFetch = vi.fn<(url: URL, init: RequestInit) => Promise<Response>>(
    (_url, { signal }) =>
      new Promise((resolve, reject) => {
        respond = () => resolve(new Response('{}'))
        signal?.addEventListener('abort', () => reject(new Error('no response in time')))
      }),
  )
  const attempt = new AbortController()
  const policy = { ...DEFAULT_POLICY, connectMs: 20, totalMs: Infinity }
  const deps = { fleet, policy, nodeFetch: nodeFetch as unknown as typeof fetch }
  const watch = watchLease(deps, { nodeId: node.id, url: node.url }, name, alarms, attempt)
  onTestFinished(() => watch.stop())
  for (let check = 1; check <= 3 && !attempt.signal.aborted; check += 1) {
    await vi.waitFor(
      () => {
        if (nodeFetch.mock.calls.length < check) allDue()
        expect(nodeFetch).toHaveBeenCalledTimes(check)
      },
      { timeout: 60_000 },
    )
    // Longer than a check may take.
    await scheduler.wait(50)
    for (let times = 0; times < dueTimes; times += 1) allDue()
    respond?.()
    await scheduler.wait(50)
  }
  const { aborted, reason } = attempt.signal
  expect(aborted ? (reason as NodeCallError).error.code : 'it goes on').toBe(
    isLost ? 'node_failed' : 'it goes on',
  )
})
