import type { DriftSum } from '../../storage/db/queries/usage-total-queries.ts'
import type { MetricFamily } from '../../telemetry/exposition.ts'

/**
 * Returns the drift metrics: the loss by pruning on sampled traffic.
 *
 * @param settled the sums by the domains that requests were settled under, because a counter must not fall
 */
export function driftFamilies(drift: readonly DriftSum[], settled: readonly DriftSum[]): MetricFamily[] {
  const labels = (row: DriftSum) => ({ model: row.model, domain: row.domain, mask_version: row.maskVersion })
  return [
    {
      name: 'copal_drift_gap_nats',
      help: 'Loss by pruning on sampled traffic: masked minus dense negative log-likelihood, nats per token.',
      type: 'gauge',
      samples: drift.map((row) => ({
        labels: labels(row),
        value: (row.nllMasked - row.nllDense) / row.tokens,
      })),
    },
    {
      name: 'copal_drift_tokens_total',
      help: 'Sampled tokens scored under the mask and under dense weights.',
      type: 'counter',
      samples: settled.map((row) => ({ labels: labels(row), value: row.tokens })),
    },
  ]
}
