import { capitalize } from '@copal/shared/phrases.ts'
import type { DomainSummary } from '@copal/shared/wire/admin-overview.ts'

type Reason = NonNullable<DomainSummary['not_scored']>

const NO_TIME =
  'nodes had no time to score requests: they score while they have fewer, and more with a larger COPAL_SCORING_SHARE'

/** How a domain is registered whose requests are scored already. */
const REGISTER =
  'Stored samples register a domain, and so do imported texts: npx copal domains import DOMAIN FILE'

/** When requests are scored, by the most frequent reason why those of a domain were not. */
const REMEDIES: Readonly<Record<Reason, string>> = {
  not_sampled: 'requests were not sampled; to allow it: npx copal keys sampling KEY always',
  too_short: 'new texts were too short; longer ones are scored',
  budget: NO_TIME,
  evicted: NO_TIME,
  failed:
    'nodes failed to score requests, and their logs say why; they need memory for the dense weights too (COPAL_WEIGHT_BYTES)',
}

/**
 * Says that no request was scored in 24 hours, or only requests of domains that are not registered; what is therefore not known, and
 * when requests are scored.
 *
 * @returns undefined if a request of a registered domain was scored, or there was no traffic
 */
export function describeUnscored(domains: readonly DomainSummary[]): string | undefined {
  if (domains.length === 0 || domains.some(({ missing_observations: missing }) => missing !== null))
    return undefined
  const isScored = domains.some(({ scored_requests: scored }) => scored > 0)
  const requests = isScored ? 'no request of a registered domain' : 'no request'
  // Dense weights cost nothing.
  const pruned = domains.filter(({ mask_version: version }) => version > 0)
  const isCostKnown = pruned.length === 0 || pruned.some(({ gap }) => gap !== null)
  const unknown = isCostKnown ? 'drift is not known' : 'neither drift nor the cost of pruning is known'
  const reason = mostFrequentReason(domains)
  const remedy = reason && capitalize(`${isScored ? 'in other domains, ' : ''}${REMEDIES[reason]}`)
  const remedies = [isScored ? REGISTER : undefined, remedy].filter((each) => each !== undefined)
  const advice = remedies.length === 0 ? 'Only sampled requests are scored' : remedies.join('. ')
  return `${requests} was scored in 24 hours, so ${unknown}. ${advice}`
}

/** Returns the reason of the most requests; undefined if none is known. */
function mostFrequentReason(domains: readonly DomainSummary[]): Reason | undefined {
  const counts = new Map<Reason, number>()
  for (const { not_scored: reason, requests } of domains)
    if (reason) counts.set(reason, (counts.get(reason) ?? 0) + requests)
  const [most] = [...counts].toSorted(([, a], [, b]) => b - a)
  return most?.[0]
}
