import { alertsQuery, alertsReport, detectorsReport, probesReport } from '@copal/shared/wire/admin-alerts.ts'
import { gapsQuery, gapsReport, seriesQuery, seriesReport } from '@copal/shared/wire/admin-series.ts'
import { named, operationsOf } from './operation.ts'

const ofModel = {
  query: { model: 'Id of the model. Optional if there is only one.' },
  errors: ['invalid_request', 'model_not_found', 'no_node_available'],
} as const

/** Operations on series, alerts, drift detectors and the probe texts. */
export const DRIFT_OPERATIONS = operationsOf({ tag: 'Adaptation', key: 'operator' }, [
  {
    method: 'get',
    path: '/admin/series',
    id: 'getSeries',
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
    summary: 'Returns what pruning costs each domain over time, one line a domain.',
    querySchema: gapsQuery,
    response: named('Gaps', gapsReport),
    errors: ofModel.errors,
  },
  {
    method: 'get',
    path: '/admin/alerts',
    id: 'listAlerts',
    summary: 'Lists alerts of drift and of damaged nodes: those that hold first, then the newest.',
    querySchema: alertsQuery,
    response: named('Alerts', alertsReport),
    errors: ofModel.errors,
  },
  {
    method: 'get',
    path: '/admin/detectors',
    id: 'listDetectors',
    summary: 'Lists the drift detectors of the domains with their statistics and thresholds.',
    ...ofModel,
    response: named('Detectors', detectorsReport),
  },
  {
    method: 'get',
    path: '/admin/probes',
    id: 'listProbes',
    summary: 'Lists what each node scored on the probe texts in the last hour, and whether it matches.',
    ...ofModel,
    response: named('Probes', probesReport),
  },
])
