import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { DomainWeights } from '@copal/shared/wire/selection.ts'
import { sumRecentTokens } from '../../storage/db/queries/period-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'

/** The least share of a domain: without one, a domain that is quiet for a month would be pruned away. */
const MIN_SHARE = 0.01

/** The least share of known domains together beside new ones, by `balanced`. */
const KNOWN_SHARE = 0.6

/** The domains of a selection. */
interface SelectedDomains {
  domains: readonly string[]
  /** Those of the active mask. */
  known: readonly string[]
}

/** Returns the weights of the domains in a selection, by the policy of the model; domains that are not named have 1. */
export async function selectionWeights(
  deps: Pick<Deps, 'db' | 'nowMs'>,
  model: string,
  { domains, known }: SelectedDomains,
  policy: AdaptationPolicy['statistics']['weights'],
): Promise<DomainWeights> {
  if (policy === 'equal') return {}
  if (policy === 'balanced') return balancedWeights({ domains, known })
  if (policy !== 'traffic') return policy
  return trafficWeights(domains, await sumRecentTokens(deps.db, model, deps.nowMs()))
}

/**
 * Returns weights, with the mean 1, by which known domains together have at least 60 % of the weight. With less, most first
 * candidates cost known text more than the gate allows (docs/measurements/demo.md). A pure function.
 */
export function balancedWeights({ domains, known }: SelectedDomains): DomainWeights {
  const numberKnown = domains.filter((domain) => known.includes(domain)).length
  const numberNew = domains.length - numberKnown
  const isEnough = numberKnown >= KNOWN_SHARE * domains.length
  if (numberKnown === 0 || isEnough) return {}
  const ofNew = ((1 - KNOWN_SHARE) * domains.length) / numberNew
  const ofKnown = (KNOWN_SHARE * domains.length) / numberKnown
  return Object.fromEntries(domains.map((domain) => [domain, known.includes(domain) ? ofKnown : ofNew]))
}

/**
 * Returns the shares of domains in traffic, at least 1 % each, with the mean 1. A pure function.
 *
 * @param tokens settled tokens by domain
 */
export function trafficWeights(
  domains: readonly string[],
  tokens: ReadonlyMap<string, number>,
): DomainWeights {
  const counts = domains.map((domain) => tokens.get(domain) ?? 0)
  const total = counts.reduce((sum, count) => sum + count, 0)
  if (total === 0) return {}
  const shares = counts.map((count) => Math.max(MIN_SHARE, count / total))
  const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length
  return Object.fromEntries(domains.map((domain, index) => [domain, (shares[index] ?? 0) / mean]))
}
