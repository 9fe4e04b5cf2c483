import { alertsQuery, alertsReport, detectorsReport, probesReport } from '@copal/shared/wire/admin-alerts.ts'
import { gapsQuery, gapsReport, seriesQuery, seriesReport } from '@copal/shared/wire/admin-series.ts'
import { named, type Operation } from './operation.ts'

const ofModel = {
  query: { model: 'Id of the model. Optional if there is only one.' },
  errors: ['invalid_request', 'model_not_found', 'no_node_available'],
} as const

/** Operations on series, alerts, drift detectors and the probe texts. */
export const DRIFT_OPERATIONS: readonly Operation[] = [
  {
    method: 'get',
    path: '/admin/series',
    id: 'getSeries',
    tag: 'Adaptation',
    summary:
      'Returns traffic and drift over time, by domain and mask, with the promotions, roll-backs and alerts of that time.',
    key: 'admin',
    querySchema: seriesQuery,
    response: named('Series', seriesReport),
    errors: ofModel.errors,
  },
  {
    method: 'get',
    path: '/admin/series/gaps',
    id: 'getGaps',
    tag: 'Adaptation',
    summary: 'Returns what pruning costs each domain over time, one line a domain.',
    key: 'operator',
    querySchema: gapsQuery,
    response: named('Gaps', gapsReport),
    errors: ofModel.errors,
  },
  {
    method: 'get',
    path: '/admin/alerts',
    id: 'listAlerts',
    tag: 'Adaptation',
    summary: 'Lists alerts of drift and of damaged nodes: those that hold first, then the newest.',
    key: 'operator',
    querySchema: alertsQuery,
    response: named('Alerts', alertsReport),
    errors: ofModel.errors,
  },
  {
    method: 'get',
    path: '/admin/detectors',
    id: 'listDetectors',
    tag: 'Adaptation',
    summary: 'Lists the drift detectors of the domains with their statistics and thresholds.',
    key: 'operator',
    ...ofModel,
    response: named('Detectors', detectorsReport),
  },
  {
    method: 'get',
    path: '/admin/probes',
    id: 'listProbes',
    tag: 'Adaptation',
    summary: 'Lists what each node scored on the probe texts in the last hour, and whether it matches.',
    key: 'operator',
    ...ofModel,
    response: named('Probes', probesReport),
  },
]
