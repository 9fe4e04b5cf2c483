import { meanInterval, type Moments } from '@copal/shared/metrics/mean-interval.ts'
import type { DomainSummary } from '@copal/shared/wire/admin-overview.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import {
  listPeriods,
  sumPeriods,
  type PeriodRange,
  type TrafficPeriod,
} from '../../storage/db/queries/period-queries.ts'
import { gapMoments } from './mask-series.ts'

/** A summary of a domain from its traffic alone. */
export type TrafficSummary = Omit<DomainSummary, 'missing_observations'>

type SummarisedModel = Pick<ModelRow, 'id' | 'activeVersion' | 'domainVersions'>

const HOUR = 3_600
const HOURS = 24
const TREND_PARTS = 8
/** Enough for every domain under some masks. */
const MAX_ROWS = 50_000

/** The columns that count requests that were not scored, by the reason. */
const REASONS = [
  ['not_sampled', 'notSampled'],
  ['too_short', 'tooShort'],
  ['budget', 'overBudget'],
  ['evicted', 'evicted'],
  ['failed', 'scoringFailed'],
] as const

/**
 * Returns the last 24 hours of each domain of a model, the current one included, from its hours: by requests, most first.
 *
 * @param drifting names of the domains with an alert that holds
 */
export async function domainSummaries(
  deps: Pick<Deps, 'db' | 'nowMs'>,
  model: SummarisedModel,
  drifting: ReadonlySet<string>,
): Promise<TrafficSummary[]> {
  const range = lastHours(deps.nowMs())
  const rows = await listPeriods(deps.db, { model: model.id }, range, MAX_ROWS)
  const total = sum(rows, ({ requests }) => requests)
  return [...Map.groupBy(rows, ({ domain }) => domain)]
    .map(([name, periods]) => summaryOf(name, periods, { model, total, drifting, from: range.from }))
    .sort((a, b) => b.requests - a.requests || (a.name < b.name ? -1 : 1))
}

/** Returns the last 24 hours of one domain of a model, as {@link domainSummaries} does; zeros without traffic. */
export async function domainSummary(
  { db, nowMs }: Pick<Deps, 'db' | 'nowMs'>,
  model: SummarisedModel,
  domain: string,
  drifting: ReadonlySet<string>,
): Promise<TrafficSummary> {
  const range = lastHours(nowMs())
  const [periods, all] = await Promise.all([
    listPeriods(db, { model: model.id, domain }, range, MAX_ROWS),
    sumPeriods(db, model.id, range),
  ])
  const total = sum(all, ({ requests }) => requests)
  return summaryOf(domain, periods, { model, total, drifting, from: range.from })
}

/** Returns the hours of the last day, the current one included. */
function lastHours(nowMs: number): PeriodRange {
  const until = (Math.floor(nowMs / 1000 / HOUR) + 1) * HOUR
  return { width: HOUR, from: until - HOURS * HOUR, until }
}

function summaryOf(
  name: string,
  periods: readonly TrafficPeriod[],
  of: { model: SummarisedModel; total: number; drifting: ReadonlySet<string>; from: number },
): TrafficSummary {
  const { model, total, drifting, from } = of
  const version = model.domainVersions.get(name) ?? model.activeVersion
  const served = periods.filter(({ maskVersion }) => maskVersion === version)
  const requests = sum(periods, (period) => period.requests)
  return {
    name,
    traffic_share: total === 0 ? 0 : requests / total,
    requests,
    scored_requests: sum(periods, ({ scoredRequests }) => scoredRequests),
    not_scored: mostFrequentReason(periods),
    mask_version: version,
    gap: meanInterval(sumGaps(served)),
    gap_trend: Array.from({ length: TREND_PARTS }, (_, part) => {
      const partHours = (HOURS / TREND_PARTS) * HOUR
      const ofPart = sumGaps(served.filter(({ start }) => Math.floor((start - from) / partHours) === part))
      return ofPart.count > 0 ? ofPart.sum / ofPart.count : null
    }),
    drifting: drifting.has(name),
  }
}

/** Returns the most frequent reason why no request was scored; null where one was, or no reason was counted. */
function mostFrequentReason(periods: readonly TrafficPeriod[]): DomainSummary['not_scored'] {
  if (periods.some(({ scoredRequests }) => scoredRequests > 0)) return null
  const [most] = REASONS.map(
    ([reason, column]) => [sum(periods, (period) => period[column]), reason] as const,
  ).toSorted(([a], [b]) => b - a)
  return most && most[0] > 0 ? most[1] : null
}

function sum<Row>(rows: readonly Row[], of: (row: Row) => number): number {
  return rows.reduce((total, row) => total + of(row), 0)
}

function sumGaps(rows: readonly TrafficPeriod[]): Moments {
  return rows.map(gapMoments).reduce(
    (total, each) => ({
      count: total.count + each.count,
      sum: total.sum + each.sum,
      squares: total.squares + each.squares,
    }),
    { count: 0, sum: 0, squares: 0 },
  )
}
