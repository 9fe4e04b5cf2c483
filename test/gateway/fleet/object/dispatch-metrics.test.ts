import { expect, test } from 'vitest'
import { formatMetrics } from '@copal/shared/telemetry/exposition.ts'
import { CircuitBreaker } from '../../../../gateway/src/fleet/object/circuit-breaker.ts'
import { DispatchMetrics } from '../../../../gateway/src/fleet/object/dispatch-metrics.ts'

const LEASED = { ok: true, nodeId: 'n1', url: 'http://n1', maskVersion: 1 } as const
const NONE = { ok: false, reason: 'full', retryAfterMs: 1, servedModels: [] } as const

test('leases, failures, retries, waits, the queue and the breakers are measured', () => {
  const metrics = new DispatchMetrics({
    queueLength: () => 4,
    breakers: () => [
      { node: 'n1', model: 'tiny', state: 'closed' },
      { node: 'n2', model: 'tiny', state: 'open' },
    ],
  })
  const failed = { requestId: 'r', nodeId: 'n2', how: 'broke' } as const
  metrics.acquired({ model: 'tiny' }, LEASED, 0)
  metrics.acquired({ model: 'tiny', failed }, LEASED, 300)
  metrics.acquired({ model: 'tiny' }, { ...NONE, servedModels: [] }, 20_000)
  metrics.failed('tiny', 'broke')
  metrics.failed(undefined, 'cut')
  const lines = formatMetrics(metrics.collect(), 'prometheus').split('\n')
  for (const line of [
    'copal_dispatch_leases_total{model="tiny"} 2',
    'copal_dispatch_retries_total{model="tiny"} 1',
    'copal_dispatch_failures_total{model="tiny",how="broke"} 1',
    'copal_dispatch_failures_total{model="(unknown)",how="cut"} 1',
    'copal_dispatch_queue_duration_seconds_bucket{le="0.25"} 1',
    'copal_dispatch_queue_duration_seconds_bucket{le="0.5"} 2',
    'copal_dispatch_queue_duration_seconds_count 2',
    'copal_dispatch_queue_length 4',
    'copal_node_breaker_state{node="n1",model="tiny"} 0',
    'copal_node_breaker_state{node="n2",model="tiny"} 2',
  ])
    expect(lines).toContain(line)
})

test('a breaker is closed, then open for its pause, then half open until a probe decides', () => {
  const breaker = new CircuitBreaker()
  expect(breaker.state(0)).toBe('closed')
  for (const id of ['a', 'b', 'c']) breaker.recordFailure(id, 0)
  expect(breaker.state(999)).toBe('open')
  expect(breaker.state(1_000)).toBe('half_open')
  breaker.recordSent('probe')
  expect(breaker.state(1_001)).toBe('half_open')
  breaker.recordFailure('probe', 1_002)
  expect(breaker.state(1_003)).toBe('open')
  breaker.recordSuccess()
  expect(breaker.state(1_004)).toBe('closed')
})
