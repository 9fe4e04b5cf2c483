import { alerts, detectors } from './alerts.ts'
import { audit } from './audit.ts'
import { domains, proposals, review, samples } from './domains.ts'
import { drift, triggers } from './drift.ts'
import { keys, tenants, usage } from './keys.ts'
import { churn, linears, masks } from './masks.ts'
import { nodeList, probes, status } from './nodes.ts'
import { emptyOverview, overview, trafficOf } from './overview.ts'
import { policy } from './policy.ts'
import { gaps, series } from './series.ts'
import { MODEL } from './service.ts'
import { canary, shadow, trials } from './trials.ts'
import { update, updates } from './updates.ts'

/** The service that responds: one with traffic, one that just started, one with 50 domains, or that one minute by minute. */
export type Mode = 'live' | 'empty' | 'many' | 'minutes'

/** The response to a `GET` of the admin API; undefined where there is none. */
export function respond({ pathname: path, searchParams: query }: URL, mode: Mode): unknown {
  const [, area, name = '', part, other] = path.slice(1).split('/')
  const isEmpty = mode === 'empty'
  const none = { data: [] }
  if (area === 'updates' && name !== '') return part === 'trials' ? trials(name) : update(name)
  if (area === 'masks' && part === 'linears') return linears(Number(name))
  if (area === 'masks' && part === 'churn') return churn(Number(name), Number(other))
  if (area === 'domains' && part === 'review') return name === 'support' ? review() : none
  if (area === 'domains' && part === 'traffic') return trafficOf(name)
  if (area === 'domains' && part === 'samples') return isEmpty ? none : samples()
  switch (path) {
    case '/admin/overview':
      return isEmpty ? emptyOverview() : overview()
    case '/admin/series':
      return seriesOf(query, mode)
    case '/admin/series/gaps':
      return gapsOf(query, mode)
    case '/admin/domains':
      return isEmpty ? none : domains(countOf(mode))
    case '/admin/proposals':
      return isEmpty ? none : proposals()
    case '/admin/drift':
      return drift()
    case '/admin/triggers':
      return triggers()
    case '/admin/policy':
      return isEmpty ? policy({}) : policy()
    case '/admin/canary':
      return canary()
    case '/admin/shadow':
      return shadow()
    case '/admin/detectors':
      return detectors()
    case '/admin/alerts':
      return alerts()
    case '/admin/updates':
      return isEmpty ? none : updates()
    case '/admin/masks':
      return isEmpty ? none : masks()
    case '/admin/status':
      return status(isEmpty)
    case '/admin/nodes':
      return nodeList(isEmpty)
    case '/admin/probes':
      return isEmpty ? { model: MODEL, probes: [] } : probes()
    case '/admin/keys':
      return isEmpty ? none : keys()
    case '/admin/tenants':
      return tenants()
    case '/admin/usage':
      return isEmpty ? { ...usage(30), data: [] } : usage(Number(query.get('days') ?? 30))
    case '/admin/audit':
      return isEmpty ? { data: [], checkpoint: null, next_after: null } : audit(query)
    default:
      return undefined
  }
}

function seriesOf(query: URLSearchParams, mode: Mode) {
  const report = series({ ...spanOf(query, mode), domain: query.get('domain') ?? undefined })
  return mode === 'empty' ? { ...report, series: [], marks: [] } : report
}

function gapsOf(query: URLSearchParams, mode: Mode) {
  const report = gaps(spanOf(query, mode))
  return mode === 'empty' ? { ...report, domains: [], marks: [] } : report
}

function spanOf(query: URLSearchParams, mode: Mode) {
  const fromMs = Date.parse(query.get('from') ?? new Date(Date.now() - 864e5).toISOString())
  const spanS = Math.round((Date.now() - fromMs) / 3_600_000) * 3_600
  return { spanS, count: countOf(mode), width: mode === 'minutes' ? 60 : undefined }
}

const countOf = (mode: Mode) => (mode === 'many' || mode === 'minutes' ? 50 : 6)
