import { healthResponse } from './response-schemas.ts'
import { named, type Operation } from './operation.ts'

/** Operations of the service itself: metrics, health, and its documentation. */
export const SERVICE_OPERATIONS: readonly Operation[] = [
  {
    method: 'get',
    path: '/metrics',
    id: 'getMetrics',
    tag: 'Service',
    summary:
      'Returns metrics in the Prometheus text format: of the whole service for the admin key, otherwise of the tenant of the key.',
    key: 'read-metrics',
    response: 'text/plain',
  },
  {
    method: 'get',
    path: '/health',
    id: 'getHealth',
    tag: 'Service',
    summary: 'Reports that the gateway runs, and how many nodes have sent a heartbeat recently.',
    key: 'none',
    response: named('Health', healthResponse),
    errors: ['service_unavailable'],
  },
  {
    method: 'get',
    path: '/openapi.json',
    id: 'getOpenApi',
    tag: 'Service',
    summary: 'Returns this document.',
    key: 'none',
    response: 'json',
  },
  {
    method: 'get',
    path: '/docs',
    id: 'getDocs',
    tag: 'Service',
    summary: 'Returns this document as a web page.',
    key: 'none',
    response: 'text/html',
  },
]
