import { meanInterval, type Moments } from '@copal/shared/metrics/mean-interval.ts'
import type { DomainSummary } from '@copal/shared/wire/admin-overview.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { listPeriods, type TrafficPeriod } from '../../storage/db/queries/period-queries.ts'
import { gapMoments } from './mask-series.ts'

/** A summary of a domain from its traffic alone. */
interface TrafficSummary extends Omit<DomainSummary, 'missing_observations'> {
  /** Under any mask. */
  scoredRequests: number
}

const HOUR = 3_600
const HOURS = 24
const TREND_PARTS = 8
/** Enough for every domain under some masks. */
const MAX_ROWS = 50_000

/**
 * Returns the last 24 hours of each domain of a model, the current one included, from its hours: by requests, most first.
 *
 * @param drifting names of the domains with an alert that holds
 */
export async function domainSummaries(
  deps: Pick<Deps, 'db' | 'nowMs'>,
  model: Pick<ModelRow, 'id' | 'activeVersion' | 'domainVersions'>,
  drifting: ReadonlySet<string>,
): Promise<TrafficSummary[]> {
  const until = (Math.floor(deps.nowMs() / 1000 / HOUR) + 1) * HOUR
  const from = until - HOURS * HOUR
  const rows = await listPeriods(deps.db, { model: model.id }, { width: HOUR, from, until }, MAX_ROWS)
  const total = requestsOf(rows)
  return [...Map.groupBy(rows, ({ domain }) => domain)]
    .map(([name, periods]): TrafficSummary => {
      const version = model.domainVersions.get(name) ?? model.activeVersion
      const served = periods.filter(({ maskVersion }) => maskVersion === version)
      return {
        name,
        traffic_share: total === 0 ? 0 : requestsOf(periods) / total,
        requests: requestsOf(periods),
        scoredRequests: periods.reduce((sum, { scoredRequests }) => sum + scoredRequests, 0),
        mask_version: version,
        gap: meanInterval(sumGaps(served)),
        gap_trend: Array.from({ length: TREND_PARTS }, (_, part) => {
          const partHours = (HOURS / TREND_PARTS) * HOUR
          const { count, sum } = sumGaps(
            served.filter(({ start }) => Math.floor((start - from) / partHours) === part),
          )
          return count > 0 ? sum / count : null
        }),
        drifting: drifting.has(name),
      }
    })
    .sort((a, b) => b.requests - a.requests || (a.name < b.name ? -1 : 1))
}

function requestsOf(rows: readonly TrafficPeriod[]): number {
  return rows.reduce((sum, { requests }) => sum + requests, 0)
}

function sumGaps(rows: readonly TrafficPeriod[]): Moments {
  return rows.map(gapMoments).reduce(
    (sum, each) => ({
      count: sum.count + each.count,
      sum: sum.sum + each.sum,
      squares: sum.squares + each.squares,
    }),
    { count: 0, sum: 0, squares: 0 },
  )
}
