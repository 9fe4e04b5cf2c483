import type { DomainGaps } from '@copal/shared/wire/admin-series.ts'
import type { listGapPeriods, PeriodRange } from '../../storage/db/queries/period-queries.ts'
import { rounded } from './rounded.ts'

type GapPeriod = Awaited<ReturnType<typeof listGapPeriods>>[number]

/**
 * Returns the mean gap of each domain in each period, by tokens, most first. Of several masks in a period, that counts under which
 * most requests were scored, the oldest if equally many were.
 *
 * @param rows by domain, mask and start
 */
export function domainGaps(rows: readonly GapPeriod[], { width, from, until }: PeriodRange): DomainGaps[] {
  const length = (until - from) / width
  return [...Map.groupBy(rows, ({ domain }) => domain)]
    .map(([domain, periods]) => {
      const gap = Array.from({ length }, (): number | null => null)
      const mostScored = Array.from({ length }, () => 0)
      let tokens = 0
      for (const { start, tokens: added, scoredRequests, gapSum } of periods) {
        const index = (start - from) / width
        tokens += added
        if (scoredRequests <= (mostScored[index] ?? 0)) continue
        mostScored[index] = scoredRequests
        gap[index] = rounded(gapSum / scoredRequests, 1e6)
      }
      return { domain, tokens, gap }
    })
    .toSorted((a, b) => b.tokens - a.tokens)
}
