import { knownDrift } from '@copal/shared/wire/drift-state.ts'
import type { DomainSummary, OverviewReport } from '@copal/shared/wire/admin-overview.ts'

/** A share of failed requests above which the service is not called well. */
const MAX_FAILED_SHARE = 0.01
/** Names of domains that a problem lists. */
const MAX_NAMED = 3

/** What the health of a service is judged by. */
export type JudgedOverview = Pick<OverviewReport, 'nodes' | 'traffic' | 'alerts' | 'model' | 'domains'>

/**
 * Judges whether a service is well: its nodes, failed requests, alerts, and what pruning costs each domain. Where no problem is
 * known, it says what is not known.
 *
 * @param maxDenseRatio perplexity relative to dense above which the cost of a domain is a problem: the gate's limit
 */
export function serviceHealth(overview: JudgedOverview, maxDenseRatio: number): OverviewReport['health'] {
  const problems = problemsOf(overview, maxDenseRatio)
  if (problems.length > 0) {
    const list = joined(problems)
    return { problems, text: `${list.charAt(0).toUpperCase()}${list.slice(1)}.` }
  }
  const unknown = unknownOf(overview.domains)
  return { problems, text: unknown === undefined ? 'All is well.' : `No problem is known; ${unknown}.` }
}

/** Returns the present problems, one phrase each. */
function problemsOf({ nodes, traffic, alerts, model, domains }: JudgedOverview, maxDenseRatio: number) {
  const alive = nodes.filter((node) => node.alive)
  const silent = nodes.length - alive.length
  const problems: string[] = []
  if (alive.length === 0) problems.push('no node is alive, so requests fail')
  else if (silent > 0)
    problems.push(`${silent} of ${counted(nodes.length, 'node')} ${silent === 1 ? 'is' : 'are'} silent`)
  const failed = traffic.failed_share ?? 0
  if (failed > MAX_FAILED_SHARE) problems.push(`${percent(failed)} of the requests fail`)
  if (alerts.length > 0)
    problems.push(`${counted(alerts.length, 'alert')} ${alerts.length === 1 ? 'holds' : 'hold'}`)
  const costly = model.active_version === 0 ? [] : costlyDomains(domains, maxDenseRatio)
  if (costly.length > 0)
    problems.push(
      `pruning costs ${namesOf(costly)} more perplexity over dense than the ${percent(maxDenseRatio - 1)} that ` +
        'gate.max_dense_ratio allows a mask',
    )
  if (alive.length > 0 && !model.converged) problems.push('nodes still change to the mask')
  return problems
}

/** Returns the domains that pruning costs too much, the most costly first. */
function costlyDomains(domains: readonly DomainSummary[], maxDenseRatio: number): DomainSummary[] {
  return domains
    .filter(({ gap }) => gap !== null && Math.exp(gap.mean) > maxDenseRatio)
    .toSorted((a, b) => (b.gap?.mean ?? 0) - (a.gap?.mean ?? 0))
}

function unknownOf(domains: readonly DomainSummary[]): string | undefined {
  const unknown = domains.filter((domain) => knownDrift(domain).state === 'unknown')
  if (unknown.length === 0) return undefined
  return `whether ${namesOf(unknown)} ${unknown.length === 1 ? 'drifts' : 'drift'} is not known yet`
}

function namesOf(domains: readonly DomainSummary[]): string {
  const names = domains.map(({ name }) => name)
  return joined(
    names.length > MAX_NAMED
      ? [...names.slice(0, MAX_NAMED - 1), counted(names.length - MAX_NAMED + 1, 'other domain')]
      : names,
  )
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}

function joined(parts: readonly string[]): string {
  return parts.length < 2 ? parts.join('') : `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}`
}

function percent(fraction: number): string {
  return `${Number((fraction * 100).toFixed(1))} %`
}
