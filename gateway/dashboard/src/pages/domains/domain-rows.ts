/** The rows of the page of domains, and its sentence. */
import { listNames } from '@copal/shared/phrases.ts'
import { knownDrift } from '@copal/shared/wire/drift-state.ts'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import type { DomainSummary, OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import type { ProposalEntry } from '@copal/shared/wire/admin-proposals.ts'
import { plural } from '../../format/numbers.ts'
import type { Phrase } from '../../format/phrases.ts'

/** A domain with its samples and its traffic, as far as it has them. */
export interface DomainRow {
  name: string
  entry: DomainEntry | undefined
  /** Undefined for a domain that the overview does not list. */
  summary: DomainSummary | undefined
  /** An alert of the domain holds. */
  drifts: boolean
}

/** Joins samples and traffic by the names of domains: by traffic, most first, then by name, `legal-2` before `legal-10`. */
export function domainRows(
  entries: readonly DomainEntry[],
  overview: OverviewReport | undefined,
): DomainRow[] {
  const summaries = new Map(overview?.domains.map((summary) => [summary.name, summary]))
  const byName = new Map(entries.map((entry) => [entry.name, entry]))
  return [...new Set([...byName.keys(), ...summaries.keys()])]
    .map((name) => {
      const summary = summaries.get(name)
      const drifts = summary?.drifting ?? overview?.alerts.some(({ domain }) => domain === name) ?? false
      return { name, entry: byName.get(name), summary, drifts }
    })
    .toSorted(
      (a, b) =>
        (b.summary?.traffic_share ?? 0) - (a.summary?.traffic_share ?? 0) ||
        a.name.localeCompare(b.name, 'en', { numeric: true }),
    )
}

/** States that none of `total` domains drifts, as far as that is known: a domain with few scores has no state. */
function noneDrifts(rows: readonly DomainRow[], total: number): string {
  const known = rows.filter(({ summary }) => summary && knownDrift(summary).state === 'steady').length
  if (known === total) return 'none drifts.'
  return known === 0 ? 'whether one drifts is not known.' : 'none is known to drift.'
}

/**
 * Counts domains, and names those that drift and those that wait for a decision.
 *
 * @param unlisted domains that have no row
 */
export function domainsSentence(
  rows: readonly DomainRow[],
  proposals: readonly ProposalEntry[],
  unlisted = 0,
): Phrase[] {
  const total = rows.length + unlisted
  const drifting = rows.filter(({ drifts }) => drifts).map(({ name }) => name)
  const inReview = rows.reduce((sum, { entry }) => sum + (entry?.review_samples ?? 0), 0)
  const parts: Phrase[] = [
    rows.length === 0 ? 'No domain has traffic or samples yet.' : `${plural(total, 'domain')}; `,
  ]
  if (rows.length > 0)
    parts.push(
      drifting.length === 0
        ? noneDrifts(rows, total)
        : { harm: `${listNames(drifting)} ${drifting.length === 1 ? 'drifts' : 'drift'}.` },
    )
  if (proposals.length > 0)
    parts.push(
      ` ${plural(proposals.length, 'found domain')} ${proposals.length === 1 ? 'waits' : 'wait'} for a name.`,
    )
  if (inReview > 0)
    parts.push(` ${plural(inReview, 'text')} ${inReview === 1 ? 'is' : 'are'} set aside for review.`)
  return parts
}
