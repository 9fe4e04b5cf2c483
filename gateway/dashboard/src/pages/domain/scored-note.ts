/** The scored requests behind the intervals of a domain's charts, in words. */
import type { DomainSeries } from '../../data/domain-series.ts'
import { formatCount, formatShare, plural } from '../../format/numbers.ts'

/** The reason why nothing was scored: no traffic, or the most frequent reason of the requests. */
export function whyNothingScored({ totals }: DomainSeries): string {
  if (totals.requests === 0) return 'No requests in this time.'
  if (totals.scored > 0) return 'Too few requests were scored in this time.'
  const [most] = reasonsOf(totals).toSorted(([a], [b]) => b - a)
  return `Nothing was scored in this time${most ? `: ${shareOf(most[0], totals.requests)} ${most[1]}` : ''}.`
}

/** Says `2 of 10 requests were`, with the verb of the part. */
function shareOf(part: number, requests: number): string {
  return `${formatCount(part)} of ${plural(requests, 'request')} ${part === 1 ? 'was' : 'were'}`
}

/** Counts of requests that were not scored, by reason; reasons with none are left out. */
function reasonsOf({ notScored }: DomainSeries['totals']): [count: number, reason: string][] {
  const { not_sampled: notSampled, too_short: tooShort, budget, evicted, failed } = notScored
  const reasons: [number, string][] = [
    [notSampled, 'not in the sample'],
    [tooShort, 'too short'],
    [budget, 'over the share of node time for scoring'],
    [evicted, 'pushed out by newer ones'],
    [failed, 'failed'],
  ]
  return reasons.filter(([count]) => count > 0)
}

/** The number of scored requests, and the reasons why the others were not. */
export function scoredNote({ totals }: DomainSeries): string {
  if (totals.requests === 0) return 'No requests in this time.'
  const others = reasonsOf(totals).map(([count, reason]) => `${formatCount(count)} ${reason}`)
  const share = formatShare(totals.scored / totals.requests)
  return `${shareOf(totals.scored, totals.requests)} scored (${share})${others.length > 0 ? `; the others were not: ${others.join(', ')}` : ''}. Each period shows the mask under which most of its requests were scored.`
}
