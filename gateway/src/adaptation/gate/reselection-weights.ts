import { weightOf, type DomainWeights } from '@copal/shared/wire/selection.ts'
import { GENERAL_HOLDOUT } from '../../storage/db/schema/domains.ts'
import type { Violation } from './gate-verdict.ts'

/** Bounds of the factor by which the weight of a domain is raised from one candidate to the next. */
const MIN_FACTOR = 2
const MAX_FACTOR = 4
/**
 * Growth of the factor with the excess, per nat. Measured (docs/measurements/demo.md): 1.75 times the weight took 1.7 % off
 * a loss that was 2.5 % above its limit, which needs a factor of 3.
 */
const FACTOR_PER_NAT = 40

/**
 * Returns the domain weights of the next candidate: domains that lost more than allowed weigh more, and since weights
 * are relative the others less. Weights are scaled to a mean of 1. A loss on the general holdout, which no weight is for,
 * raises the domains that the active mask knows, because they are what the mask turned away from.
 *
 * @param mask.domains the domains whose statistics select the mask
 * @param mask.known those of them that the active mask knows
 * @param mask.weights of the candidate that failed; domains that they do not name have the weight 1
 * @returns undefined if other weights cannot help: no domain of the mask lost too much, or all did
 */
export function reselectionWeights(
  {
    domains,
    known,
    weights: current,
  }: { domains: readonly string[]; known: readonly string[]; weights: DomainWeights },
  violations: readonly Violation[],
): DomainWeights | undefined {
  const excesses = new Map<string, number>()
  for (const violation of violations) {
    const raisedBy = violation.domain === GENERAL_HOLDOUT ? known : [violation.domain]
    for (const domain of raisedBy) {
      if (domains.includes(domain))
        excesses.set(domain, Math.max(violation.excess, excesses.get(domain) ?? 0))
    }
  }
  if (excesses.size === 0 || excesses.size === domains.length) return undefined
  const raised = domains.map((domain) => weightOf(current, domain) * factorOf(excesses.get(domain)))
  const mean = raised.reduce((sum, weight) => sum + weight, 0) / domains.length
  if (!(mean > 0)) return undefined
  return Object.fromEntries(domains.map((domain, index) => [domain, (raised[index] ?? 0) / mean]))
}

function factorOf(excess: number | undefined): number {
  return excess === undefined ? 1 : Math.min(MAX_FACTOR, MIN_FACTOR + FACTOR_PER_NAT * excess)
}
