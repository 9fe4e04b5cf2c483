import { expect, test } from 'vitest'
import type { FaultFleet } from '../support/faults/fault-fleet.ts'
import { sumMetric } from '../support/processes/metrics.ts'
import { until } from '../support/processes/service.ts'
import { responseEnd } from '../support/processes/stream-end.ts'

/** Adds tests of lost nodes, leaving clients and revoked keys, which behave the same on every backend. */
export function testLosses(faults: FaultFleet): void {
  const { ask, sendToStopped, oneBusy, open } = faults

  test('a request is served by another node when its node is killed before the first token', async () => {
    const { running, other } = await oneBusy()
    const { pending } = await sendToStopped(other, { max_tokens: 5 })
    await other.process.end('SIGKILL')
    const answer = await pending
    expect(answer.headers.get('x-copal-node')).toBe(running.node.id)
    expect(await responseEnd(answer)).toBe('done')
    expect(await running.end()).toBe('done')
  })

  test('a stream ends with an error event when its node is killed after the first token', async () => {
    const stream = await open()
    await stream.node.process.end('SIGKILL')
    expect(await stream.end()).toBe('node_failed')
  })

  test('a request is served by another node when its node hangs before the first token', async () => {
    const { running, other } = await oneBusy()
    other.process.child.kill('SIGSTOP')
    const answer = await ask({ max_tokens: 5, stream: false })
    expect(answer.headers.get('x-copal-node')).toBe(running.node.id)
    expect(await answer.json()).toMatchObject({ usage: { completion_tokens: 5 } })
    expect(await running.end()).toBe('done')
  })

  test('a stream ends with an error event when its node hangs after the first token', async () => {
    const stream = await open()
    stream.node.process.child.kill('SIGSTOP')
    expect(await stream.end()).toBe('node_failed')
  })

  test('a request ends on the node when its client disconnects', async () => {
    // By a tenant of its own: receipts of streams before it may still come.
    const { key } = await faults.fleet.key({}, 'leaving')
    const cancelled = async () =>
      sumMetric(await faults.fleet.tenantMetrics('leaving'), 'copal_requests_total', 'outcome="cancelled"')
    const stream = await open({}, { key })
    await stream.leave()
    await until('its receipt', async () => ((await cancelled()) > 0 ? true : undefined))
    expect(await cancelled()).toBe(1)
  })

  test('a stream ends with an error event when its key is revoked', async () => {
    const revoked = await faults.fleet.key()
    const stream = await open({}, { key: revoked.key })
    await faults.fleet.admin('DELETE', `/admin/keys/${revoked.id}`)
    expect(await stream.end()).toBe('invalid_api_key')
  })
}
