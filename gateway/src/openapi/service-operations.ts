import { healthAnswer } from './response-schemas.ts'
import { named, type Operation } from './operation.ts'

/** The service itself. */
export const SERVICE_OPERATIONS: readonly Operation[] = [
  {
    method: 'get',
    path: '/metrics',
    id: 'getMetrics',
    tag: 'Service',
    summary: "Figures in Prometheus' text format: of everything, or of the key's tenant.",
    key: 'read-metrics',
    answer: 'text/plain',
  },
  {
    method: 'get',
    path: '/health',
    id: 'getHealth',
    tag: 'Service',
    summary: 'The gateway runs, and how many nodes it heard of lately.',
    key: 'none',
    answer: named('Health', healthAnswer),
    errors: ['service_unavailable'],
  },
  {
    method: 'get',
    path: '/openapi.json',
    id: 'getOpenApi',
    tag: 'Service',
    summary: 'This document.',
    key: 'none',
    answer: 'json',
  },
  {
    method: 'get',
    path: '/docs',
    id: 'getDocs',
    tag: 'Service',
    summary: 'This document as a page.',
    key: 'none',
    answer: 'text/html',
  },
]
