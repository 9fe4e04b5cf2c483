import type { Metric } from './metric.ts'

/** A metric of the gateway. */
export interface GatewayMetric extends Metric {
  /** A key with the scope `read-metrics` sees the part of its own tenant, with the label `tenant`. */
  readonly perTenant?: true
}

/** Labels of traffic; see `docs/telemetry.md` for the bounds of domains and mask versions. */
export const TRAFFIC = ['model', 'domain', 'mask_version'] as const
