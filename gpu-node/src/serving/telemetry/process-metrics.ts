import { performance } from 'node:perf_hooks'
import type { Meter } from '@copal/shared/telemetry/instruments.ts'
import { NODE_METRICS } from '@copal/shared/telemetry/node-metric-table.ts'

/** Adds the metrics of the process to a meter. */
export function observeProcess(meter: Meter): void {
  meter.observe(NODE_METRICS.cpuTime, () => {
    const { user, system } = process.cpuUsage()
    return [
      [user / 1e6, 'user'],
      [system / 1e6, 'system'],
    ]
  })
  meter.observe(NODE_METRICS.memoryUsage, () => [[process.memoryUsage.rss()]])
  let last = performance.eventLoopUtilization()
  meter.observe(NODE_METRICS.eventLoopUtilization, () => {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, last)
    last = now
    return [[utilization]]
  })
}
