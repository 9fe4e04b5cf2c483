import type { MetricFamily, Sample } from '@copal/shared/telemetry/family.ts'
import { GATEWAY_METRICS, type GatewayMetricName } from '@copal/shared/telemetry/gateway-metric-table.ts'
import type { Metric } from '@copal/shared/telemetry/metric.ts'

/** The series of some metrics of the gateway. */
export type MetricSamples<Names extends GatewayMetricName = GatewayMetricName> = Record<Names, Sample[]>

/** The metrics that a tenant's own key sees. */
export type TenantMetricName = {
  [Name in GatewayMetricName]: (typeof GATEWAY_METRICS)[Name] extends { perTenant: true } ? Name : never
}[GatewayMetricName]

/** Returns the series as families, in the order of the table. */
export function familiesOf(samples: MetricSamples): MetricFamily[] {
  return inOrder(samples, (metric, own) => ({ metric, samples: own }))
}

/** Returns the series of one tenant as families, in the order of the table, with its name as a label. */
export function tenantFamiliesOf(samples: MetricSamples<TenantMetricName>, tenant: string): MetricFamily[] {
  return inOrder(samples, (metric, own) => ({
    metric,
    extraLabel: 'tenant',
    samples: own.map((sample) => ({ ...sample, labels: [tenant, ...sample.labels] })),
  }))
}

function inOrder(
  samples: Partial<MetricSamples>,
  toFamily: (metric: Metric, own: Sample[]) => MetricFamily,
): MetricFamily[] {
  const byName = new Map<string, Sample[]>(Object.entries(samples))
  return Object.entries(GATEWAY_METRICS).flatMap(([name, metric]) => {
    const own = byName.get(name)
    return own ? [toFamily(metric, own)] : []
  })
}
