import type { DomainWeights } from '@copal/shared/wire/selection.ts'
import type { Violation } from './gate-verdict.ts'

/** Bounds of the factor by which the weight of a domain is raised from one candidate to the next. */
const MIN_FACTOR = 1.5
const MAX_FACTOR = 4
/** Growth of the factor with the excess, per nat: 0.05 nats above a limit double the weight. */
const FACTOR_PER_NAT = 10

/**
 * Returns the domain weights of the next candidate: domains that lost more than allowed weigh more, and since weights
 * are relative the others less. Weights are scaled to a mean of 1.
 *
 * @param domains the domains whose statistics select the mask
 * @param current the weights of the candidate that failed; domains that they do not name have the weight 1
 * @returns undefined if other weights cannot help: no domain of the mask lost too much, or all did
 */
export function reselectionWeights(
  domains: readonly string[],
  current: DomainWeights,
  violations: readonly Violation[],
): DomainWeights | undefined {
  const excesses = new Map<string, number>()
  for (const { domain, excess } of violations) {
    if (domains.includes(domain)) excesses.set(domain, Math.max(excess, excesses.get(domain) ?? 0))
  }
  if (excesses.size === 0 || excesses.size === domains.length) return undefined
  const raised = domains.map((domain) => (current[domain] ?? 1) * factorOf(excesses.get(domain)))
  const mean = raised.reduce((sum, weight) => sum + weight, 0) / domains.length
  if (!(mean > 0)) return undefined
  return Object.fromEntries(domains.map((domain, index) => [domain, (raised[index] ?? 0) / mean]))
}

function factorOf(excess: number | undefined): number {
  return excess === undefined ? 1 : Math.min(MAX_FACTOR, MIN_FACTOR + FACTOR_PER_NAT * excess)
}
