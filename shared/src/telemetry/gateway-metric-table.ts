import { ADAPTATION_METRICS } from './adaptation-metric-table.ts'
import { FLEET_METRICS } from './fleet-metric-table.ts'
import type { GatewayMetric } from './gateway-metric.ts'
import { REQUEST_METRICS } from './request-metric-table.ts'

/** Every metric of the gateway. `GET /metrics` and `docs/telemetry.md` are generated from here. */
export const GATEWAY_METRICS = {
  ...REQUEST_METRICS,
  ...FLEET_METRICS,
  ...ADAPTATION_METRICS,
  cacheLookups: {
    name: 'copal.cache.lookups',
    type: 'counter',
    unit: '{request}',
    labels: ['outcome'],
    perTenant: true,
    meaning:
      'Requests that asked for a cached response, and whether there was one (`hit`, `miss`). No other metric counts hits.',
  },
  cacheAnswers: {
    name: 'copal.cache.answers',
    type: 'gauge',
    unit: '{response}',
    labels: [],
    perTenant: true,
    meaning: 'Cached responses.',
  },
  cacheBytes: {
    name: 'copal.cache.bytes',
    type: 'gauge',
    unit: 'By',
    labels: [],
    perTenant: true,
    meaning: 'Bytes of the cached responses.',
  },
  buildInfo: {
    name: 'copal.build_info',
    type: 'gauge',
    unit: '{bool}',
    labels: ['version'],
    meaning: 'Always 1, with the version of the gateway.',
  },
} as const satisfies Record<string, GatewayMetric>

/** The name in code of a metric of the gateway. */
export type GatewayMetricName = keyof typeof GATEWAY_METRICS
