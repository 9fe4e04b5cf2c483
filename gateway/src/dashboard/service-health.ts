import { capitalize, counted, listNames, percentOf } from '@copal/shared/phrases.ts'
import type { NodeEntry } from '@copal/shared/wire/admin.ts'
import type { DomainSummary, OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import { knownDrift } from '@copal/shared/wire/drift-state.ts'
import { failedToLoad } from '../fleet/registration/failed-to-load.ts'
import { listFirst, nameNodes } from './problem-names.ts'
import { ownMaskProblems } from './own-mask-problems.ts'
import { describeUnscored } from './unscored-traffic.ts'

/** A share of failed requests above which the service is not called well. */
const MAX_FAILED_SHARE = 0.01

/** How long nodes may take to begin to load a mask that was promoted: they hear of it by a heartbeat. */
const BEGIN_LOADING_MS = 30_000

/** The parts of an overview that decide the health of a service, with all domains. */
export type JudgedOverview = Pick<
  OverviewReport,
  'at' | 'nodes' | 'traffic' | 'alerts' | 'model' | 'domains' | 'updates' | 'decisions'
>

/**
 * Judges whether a service is well: its nodes, the masks of single domains, failed requests, alerts, and what pruning costs each
 * domain. Where no problem is known, it says what is not known. Domains without scored requests are left out if at
 * least one other domain has some, because nothing will be known of them.
 *
 * @param ownMasks versions of the masks that single domains have for themselves, by domain
 * @param maxDenseRatio perplexity relative to dense above which the cost of a domain is a problem: the gate's limit
 */
export function serviceHealth(
  overview: JudgedOverview,
  ownMasks: ReadonlyMap<string, number>,
  maxDenseRatio: number,
): OverviewReport['health'] {
  const problems = problemsOf(overview, ownMasks, maxDenseRatio)
  if (problems.length > 0) return { problems, text: `${capitalize(listNames(problems, problems.length))}.` }
  const unknown = describeUnscored(overview.domains) ?? unknownOf(overview.domains)
  return { problems, text: unknown === undefined ? 'All is well.' : `No problem is known; ${unknown}.` }
}

/** Returns the present problems, one phrase each, the worst first. */
function problemsOf(overview: JudgedOverview, ownMasks: ReadonlyMap<string, number>, maxDenseRatio: number) {
  const { nodes, traffic, alerts, model, domains } = overview
  const { unable, unfinished } = nodeProblems(nodes, model.active_version)
  const own = ownMaskProblems(nodes, ownMasks, domains, model.active_version, justPromoted(overview))
  const failed = traffic.failed_share ?? 0
  const costly = costlyDomains(domains, maxDenseRatio)
  return [
    ...unable,
    ...own.unable,
    ...(failed > MAX_FAILED_SHARE ? [`${percentOf(failed)} of the requests fail`] : []),
    ...(alerts.length > 0
      ? [`${counted(alerts.length, 'alert')} ${alerts.length === 1 ? 'is' : 'are'} active`]
      : []),
    ...(costly.length > 0
      ? [
          `pruning raises the perplexity of ${listFirst(namesOf(costly))} by more than the allowed ` +
            `${percentOf(maxDenseRatio - 1)} (gate.max_dense_ratio)`,
        ]
      : []),
    ...unfinished,
    ...own.unfinished,
  ]
}

/**
 * Returns the versions of masks that were promoted a moment ago, and of those that updates are making: one serves its domain just
 * before its update is recorded as promoted.
 */
function justPromoted({ at, decisions, updates }: JudgedOverview): Set<number> {
  const sinceMs = Date.parse(at) - BEGIN_LOADING_MS
  const promotions = decisions.filter(
    ({ kind, verdict, created_at: time }) =>
      kind === 'promote' && verdict === 'done' && Date.parse(time) >= sinceMs,
  )
  const running = updates.filter(({ finished_at: end }) => end === null)
  return new Set([...promotions, ...running].flatMap(({ mask_version: version }) => version ?? []))
}

/** Returns what nodes cannot do, and what they have not finished: loading the active mask. */
function nodeProblems(nodes: readonly NodeEntry[], activeVersion: number) {
  const alive = nodes.filter((node) => node.alive)
  if (alive.length === 0) return { unable: ['no node is alive, so requests fail'], unfinished: [] }
  const unable: string[] = []
  if (!alive.some(takesRequests)) unable.push('no node takes requests, so they fail')
  const silent = nodes.length - alive.length
  if (silent > 0)
    unable.push(`${silent} of ${counted(nodes.length, 'node')} ${silent === 1 ? 'is' : 'are'} silent`)
  const weights = activeVersion === 0 ? 'the dense weights' : 'the active mask'
  const failing = alive.filter((node) => failedToLoad(node.weight_sets, activeVersion))
  if (failing.length > 0) unable.push(`${nameNodes(failing)} cannot load ${weights}`)
  const isLoading = alive.some(
    (node) =>
      !node.draining &&
      !failing.includes(node) &&
      !(takesRequests(node) && node.active_version === activeVersion),
  )
  return { unable, unfinished: isLoading ? [`some nodes are still loading ${weights}`] : [] }
}

/** Returns whether new requests can start on a node. */
function takesRequests({ alive, draining, active_version: version, weight_sets: sets }: NodeEntry): boolean {
  return alive && !draining && sets.some((set) => set.version === version && set.state === 'ready')
}

/** Returns the domains that pruning certainly costs too much, the most costly first. */
function costlyDomains(domains: readonly DomainSummary[], maxDenseRatio: number): DomainSummary[] {
  return domains
    .filter(
      ({ gap, mask_version: version }) => version > 0 && gap !== null && Math.exp(gap.lower) > maxDenseRatio,
    )
    .toSorted((a, b) => (b.gap?.mean ?? 0) - (a.gap?.mean ?? 0))
}

function unknownOf(domains: readonly DomainSummary[]): string | undefined {
  const unknown = domains.filter((domain) => knownDrift(domain).state === 'unknown')
  if (unknown.length === 0) return undefined
  return `whether ${listFirst(namesOf(unknown))} ${unknown.length === 1 ? 'drifts' : 'drift'} is not known yet`
}

function namesOf(domains: readonly DomainSummary[]): string[] {
  return domains.map(({ name }) => name)
}
