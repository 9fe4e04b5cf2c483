import { healthResponse } from './response-schemas.ts'
import { named, operationsOf } from './operation.ts'

/** Operations of the service itself: metrics, health, and its documentation. */
export const SERVICE_OPERATIONS = operationsOf({ tag: 'Service', key: 'none' }, [
  {
    method: 'get',
    path: '/metrics',
    id: 'getMetrics',
    summary:
      'Returns metrics in the Prometheus text format: of the whole service for the admin key, otherwise of the tenant of the key.',
    key: 'read-metrics',
    response: 'text/plain',
  },
  {
    method: 'get',
    path: '/health',
    id: 'getHealth',
    summary: 'Reports that the gateway runs, and how many nodes have sent a heartbeat recently.',
    response: named('Health', healthResponse),
    errors: ['service_unavailable'],
  },
  {
    method: 'get',
    path: '/openapi.json',
    id: 'getOpenApi',
    summary: 'Returns this document.',
    response: 'json',
  },
  {
    method: 'get',
    path: '/docs',
    id: 'getDocs',
    summary: 'Returns this document as a web page.',
    response: 'text/html',
  },
])
