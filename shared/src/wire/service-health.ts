import { knownDrift } from './drift-state.ts'
import type { DomainSummary, OverviewReport } from './admin-overview.ts'

/** A share of failed requests above which the service is not called well. */
const MAX_FAILED_SHARE = 0.01
/** Names of domains that a problem lists. */
const MAX_NAMED = 3

/** Formats a fraction as per cent. */
export type FormatShare = (fraction: number) => string

/** The health of a service, in words. */
export interface ServiceHealth {
  /** Present problems, worst first, one phrase each. */
  problems: string[]
  /** What is not known, as a phrase; undefined where all is known. */
  unknown: string | undefined
}

/**
 * Judges whether a service is well: nodes, failed requests, alerts, and what pruning costs each domain. A cost is a problem
 * above the limit that the gate has for the perplexity relative to the dense model.
 */
export function serviceHealth(overview: OverviewReport, formatShare: FormatShare): ServiceHealth {
  return { problems: problemsOf(overview, formatShare), unknown: unknownOf(overview.domains) }
}

/** Returns the health of a service as one sentence. */
export function healthWords({ problems, unknown }: ServiceHealth): string {
  if (problems.length > 0) {
    const list = joined(problems)
    return `${list.charAt(0).toUpperCase()}${list.slice(1)}.`
  }
  return unknown === undefined ? 'All is well.' : `No problem is known; ${unknown}.`
}

function problemsOf(overview: OverviewReport, formatShare: FormatShare): string[] {
  const { nodes, traffic, alerts, model } = overview
  const alive = nodes.filter((node) => node.alive)
  const silent = nodes.length - alive.length
  const problems: string[] = []
  if (alive.length === 0) problems.push('no node is alive, so requests fail')
  else if (silent > 0)
    problems.push(`${silent} of ${counted(nodes.length, 'node')} ${silent === 1 ? 'is' : 'are'} silent`)
  const failed = traffic.failed_share ?? 0
  if (failed > MAX_FAILED_SHARE) problems.push(`${formatShare(failed)} of the requests fail`)
  if (alerts.length > 0)
    problems.push(`${counted(alerts.length, 'alert')} ${alerts.length === 1 ? 'holds' : 'hold'}`)
  const costly = costlyDomains(overview)
  if (costly.length > 0)
    problems.push(
      `pruning costs ${namesOf(costly)} more perplexity over dense than the ` +
        `${formatShare(model.max_dense_ratio - 1)} that gate.max_dense_ratio allows a mask`,
    )
  if (alive.length > 0 && !model.converged) problems.push('nodes still change to the mask')
  return problems
}

/** Returns the domains that pruning costs more than the gate allows, the most costly first. */
function costlyDomains({ model, domains }: OverviewReport): DomainSummary[] {
  if (model.active_version === 0) return []
  return domains
    .filter(({ gap }) => gap !== null && Math.exp(gap.mean) > model.max_dense_ratio)
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
