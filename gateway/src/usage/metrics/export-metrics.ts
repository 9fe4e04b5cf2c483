import { encodeMetrics } from '@copal/shared/telemetry/otlp-metrics.ts'
import { sendOtlp } from '@copal/shared/telemetry/otlp-send.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { collectMetrics } from './collect-metrics.ts'

/** Sends the metrics of the service to a collector, if one is configured: a Worker has no process that could. */
export async function exportMetrics(
  deps: Pick<Deps, 'calls' | 'db' | 'fleet' | 'nowMs' | 'telemetry'>,
): Promise<void> {
  const { metrics: target, resource } = deps.telemetry.settings
  if (!target) return
  // Sums are of all time, and when they began is unknown: 0 in OTLP.
  const body = encodeMetrics(await collectMetrics(deps), resource, { startMs: 0, nowMs: deps.nowMs() })
  deps.calls.take(1)
  const reason = await sendOtlp(target, body)
  if (reason !== undefined) console.warn(`The metrics were not exported: ${reason}.`)
}
