import { maskChurn, maskLinears } from '@copal/shared/wire/admin-mask-linears.ts'
import { domainSummary, overviewReport } from '@copal/shared/wire/admin-overview.ts'
import { createSession, dashboardLink, sessionEntry, signedOut } from '@copal/shared/wire/admin-session.ts'
import { countedDomain } from '@copal/shared/wire/inference-fields.ts'
import { usageQuery, usageReport } from '@copal/shared/wire/admin-usage.ts'
import { named, operationsOf } from './operation.ts'

const SESSION = named('DashboardSession', sessionEntry)
const OVERVIEW = named('Overview', overviewReport)

/** Errors of operations that find a model by its optional name. */
const NO_MODEL = ['model_not_found', 'no_node_available'] as const

/** Operations of the dashboard: its sessions, and what it alone shows. */
export const DASHBOARD_OPERATIONS = operationsOf({ tag: 'Dashboard', key: 'operator' }, [
  {
    method: 'post',
    path: '/dashboard/session',
    id: 'createSession',
    summary:
      "Signs in with the admin key, an API key with the scope `admin`, `read-metrics` or `read-admin`, or the code of a one-time link, and sets the session's cookie.",
    key: 'none',
    body: named('CreateSession', createSession),
    response: SESSION,
    status: 201,
    errors: ['invalid_api_key', 'insufficient_permissions', 'rate_limit_exceeded', 'service_unavailable'],
  },
  {
    method: 'get',
    path: '/dashboard/session',
    id: 'getSession',
    summary: 'Returns the session of the cookie, with the secret that changes need in `x-copal-csrf`.',
    key: 'session',
    response: SESSION,
  },
  {
    method: 'delete',
    path: '/dashboard/session',
    id: 'deleteSession',
    summary: 'Signs out: ends the session of the cookie.',
    key: 'session',
    response: named('SignedOut', signedOut),
  },
  {
    method: 'post',
    path: '/admin/dashboard-links',
    id: 'createDashboardLink',
    summary:
      'Makes a link that opens the dashboard signed in as the admin key, once, within five minutes. A session cannot make one.',
    refusesSession: true,
    response: named('DashboardLink', dashboardLink),
    status: 201,
  },
  {
    method: 'get',
    path: '/admin/overview',
    id: 'getOverview',
    summary:
      'Returns what the overview shows of a model, at most two seconds old: its mask, nodes, traffic, domains, updates, decisions and alerts.',
    query: { model: 'Id of the model. By default the first one.' },
    response: OVERVIEW,
    errors: NO_MODEL,
  },
  {
    method: 'get',
    path: '/admin/events',
    id: 'streamEvents',
    summary:
      'Streams server-sent events until the client leaves or its key is no longer valid: `overview` at once and when it has changed, at most every two seconds, `heartbeat` every ten seconds, and `end` after two minutes, when the client shall open another stream.',
    query: { model: 'Id of the model. By default the first one.' },
    response: 'text/event-stream',
    errors: NO_MODEL,
  },
  {
    method: 'get',
    path: '/admin/domains/{domain}/traffic',
    id: 'getDomainTraffic',
    summary:
      'Returns the last 24 hours of one domain, as the overview has them of the 50 domains with the most traffic; zeros without traffic.',
    params: { domain: countedDomain },
    query: { model: 'Id of the model. Optional if there is only one.' },
    response: named('DomainTraffic', domainSummary),
    errors: ['invalid_request', ...NO_MODEL],
  },
  {
    method: 'get',
    path: '/admin/masks/{version}/linears',
    id: 'listMaskLinears',
    summary: 'Lists the linears of a mask with their shapes and sparsity.',
    query: { model: 'Id of the model. Optional if there is only one.' },
    response: named('MaskLinears', maskLinears),
    errors: ['invalid_request', 'not_found', 'mask_invalid', ...NO_MODEL],
  },
  {
    method: 'get',
    path: '/admin/masks/{version}/churn/{other}',
    id: 'compareMasks',
    summary:
      'Compares two masks: the fraction of weights that they treat differently, in all and of each linear. Version 0 is dense.',
    query: { model: 'Id of the model. Optional if there is only one.' },
    response: named('MaskChurn', maskChurn),
    errors: ['invalid_request', 'not_found', 'conflict', 'mask_invalid', ...NO_MODEL],
  },
  {
    method: 'get',
    path: '/admin/usage',
    id: 'getUsage',
    tag: 'Keys and tenants',
    summary: 'Reports the tokens charged to keys by day; of its own tenant to a key of a tenant.',
    key: 'admin',
    querySchema: usageQuery,
    response: named('Usage', usageReport),
  },
])
