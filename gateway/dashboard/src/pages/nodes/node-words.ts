/** Nodes in words. */
import { listNames } from '@copal/shared/phrases.ts'
import { PROBE_TOLERANCE } from '@copal/shared/probe-tolerance.ts'
import type { ProbeEntry } from '@copal/shared/wire/admin-alerts.ts'
import type { NodeEntry, StatusReport } from '@copal/shared/wire/admin.ts'
import type { Tone } from '../../components/tone.ts'
import type { List } from '../../data/endpoints.ts'
import type { Snapshot } from '../../data/resource.ts'
import { maskName, shortMaskName } from '../../format/mask-names.ts'
import { formatDuration, formatNumber, plural } from '../../format/numbers.ts'
import type { Phrase } from '../../format/phrases.ts'

/** Requests that a node still has. The gateway's count and the node's own may differ for a moment. */
export function requestsOf({
  leases,
  running,
  waiting,
}: Pick<NodeEntry, 'leases' | 'running' | 'waiting'>): number {
  return Math.max(leases, running + waiting)
}

/** The state of a node, in a word. */
export function stateOfNode(node: NodeEntry): { word: string; tone: Tone } {
  if (!node.alive) return { word: 'away', tone: 'harm' }
  if (node.draining)
    return requestsOf(node) === 0 ? { word: 'drained', tone: 'quiet' } : { word: 'draining', tone: 'busy' }
  const active = node.weight_sets.find(({ version }) => version === node.active_version)
  return active?.state === 'ready' ? { word: 'serves', tone: 'good' } : { word: 'loading', tone: 'busy' }
}

/** The weight sets of a node beside the active one: `13, 15 loading`. */
export function otherSets({
  weight_sets: sets,
  active_version: active,
}: Pick<NodeEntry, 'weight_sets' | 'active_version'>): string {
  return sets
    .filter(({ version }) => version !== active)
    .map(({ version, state }) => `${shortMaskName(version)}${state === 'ready' ? '' : ` ${state}`}`)
    .join(', ')
}

/** Share of the pages of key/value cache in use; `undefined` if the node has none. */
export function pagesShare({
  kv_tokens_used: used,
  kv_tokens_total: total,
}: Pick<NodeEntry, 'kv_tokens_used' | 'kv_tokens_total'>): number | undefined {
  return used === undefined || !total ? undefined : used / total
}

/** A model and the mask that its nodes shall serve. */
type Model = Pick<StatusReport['models'][number], 'id' | 'active_version'>

/** The version that a node shall serve; `undefined` while its model is not known. */
export function wantedVersion(node: NodeEntry, models: readonly Model[]): number | undefined {
  return models.find(({ id }) => id === node.model)?.active_version
}

/** The sentence of the fleet. */
export function fleetSentence(nodes: readonly NodeEntry[], models: readonly Model[]): string {
  if (nodes.length === 0) return 'There is no node, so nothing can be served.'
  const alive = nodes.filter(({ alive: is }) => is)
  const able = alive.filter(({ draining }) => !draining)
  const away = nodes.filter(({ alive: is }) => !is)
  const running = able.reduce((sum, node) => sum + node.running, 0)
  const waiting = able.reduce((sum, node) => sum + node.waiting, 0)
  const load =
    running + waiting === 0
      ? 'no request runs or waits'
      : `${plural(running, 'request')} ${running === 1 ? 'runs' : 'run'}, ${waiting === 0 ? 'none waits' : `${waiting} ${waiting === 1 ? 'waits' : 'wait'}`}`
  const parts = [
    able.length === 0 ? 'No node takes requests.' : `${describeServing(able.length, nodes.length)}: ${load}.`,
    ...models.flatMap(({ id, active_version: version }) => {
      const behind = able.filter((node) => node.model === id && node.active_version !== version).length
      const of = models.length > 1 ? ` of ${id}` : ''
      return behind === 0
        ? []
        : [
            `${plural(behind, 'node')} ${behind === 1 ? 'does' : 'do'} not serve ${maskName(version)}${of} yet.`,
          ]
    }),
    ...away.map((node) => `${node.id} has been away for ${formatDuration(node.seen_ms_ago / 1000)}.`),
  ]
  return parts.join(' ')
}

/** `Both nodes serve`, `1 node of 3 serves`. */
function describeServing(able: number, all: number): string {
  if (able === all && all > 1) return all === 2 ? 'Both nodes serve' : `All ${all} nodes serve`
  return `${plural(able, 'node')} of ${all} ${able === 1 ? 'serves' : 'serve'}`
}

/** The last job that failed on a node. */
interface FailedJob extends NonNullable<NodeEntry['last_failed_job']> {
  node: string
  /** The id of its update. */
  update: string
}

/** The last jobs that failed on nodes, the newest first. */
export function failedJobs(nodes: readonly NodeEntry[]): FailedJob[] {
  return nodes
    .flatMap(({ id: node, last_failed_job: last }) =>
      last == null ? [] : { ...last, node, update: last.job.split('-', 1)[0] ?? '' },
    )
    .toSorted((a, b) => b.at.localeCompare(a.at))
}

/** Returns whether a job failed on a node, or that is unknown because they cannot be listed. False while they are loading. */
export function mayHaveFailed({ value, error }: Pick<Snapshot<List<NodeEntry>>, 'value' | 'error'>): boolean {
  return value === undefined ? error !== undefined : failedJobs(value.data).length > 0
}

/** The effects of draining a node, and the way back. */
export function drainConsequences(node: NodeEntry, nodes: readonly NodeEntry[]): string[] {
  const others = nodes.filter(
    (other) => other.id !== node.id && other.model === node.model && other.alive && !other.draining,
  )
  const open = requestsOf(node)
  return [
    open === 0
      ? `${node.id} gets no new requests; it has none now, so it can be stopped at once.`
      : `${node.id} gets no new requests; ${plural(open, 'request')} that it has ${open === 1 ? 'runs' : 'run'} to the end.`,
    others.length === 0
      ? `No other node serves ${node.model}: new requests wait, and fail when nothing takes them in time.`
      : `New requests go to ${others.length === 1 ? (others[0]?.id ?? '') : `${others.length} other nodes`}.`,
    'To return, end the draining: it gets requests again at once. A restart of the node ends it too.',
  ]
}

/**
 * Names the score that a node's score differs from: that of the other nodes if it is clearly different, else the node's own earlier
 * one. A node that did not match the others matches again within half the tolerance.
 */
function describeExpected(nll: number, expected: number | null, version: number): string {
  const own = `${formatNumber(nll)} nats a token`
  return expected === null || Math.abs(nll - expected) <= PROBE_TOLERANCE / 2
    ? `before under ${maskName(version)}: ${own}`
    : `the others under ${maskName(version)}: ${own} instead of ${formatNumber(expected)}`
}

/** The sentence of the fleet, after the nodes whose weights may be damaged. */
export function fleetPhrases(
  nodes: readonly NodeEntry[],
  models: readonly Model[],
  probes: readonly ProbeEntry[],
): Phrase[] {
  const wrong = [...new Set(probes.filter(({ matches }) => !matches).map(({ node }) => node))]
  const damage: Phrase[] =
    wrong.length === 0 ? [] : [{ harm: `The weights of ${listNames(wrong)} may be damaged.` }, ' ']
  return [...damage, fleetSentence(nodes, models)]
}

/** The sentence of the probes: whether nodes with the same mask agree. */
export function probesSentence(probes: readonly ProbeEntry[]): string {
  if (probes.length === 0) return 'No node has scored the probe texts yet.'
  const wrong = probes.filter(({ matches }) => !matches)
  if (wrong.length === 0) {
    const compared = probes.filter(({ expected }) => expected !== null)
    if (compared.length === 0)
      return 'Each node scores the probe texts as it did before. No two nodes have the same weights, so none is compared with another.'
    const versions = new Set(compared.map(({ mask_version: version }) => version))
    return `Nodes with the same weights agree on the probe texts, under ${plural(versions.size, 'weight set')}.`
  }
  return wrong
    .map(
      ({ node, mask_version: version, nll, expected }) =>
        `${node} scores the probe texts unlike ${describeExpected(nll, expected, version)}. Its weights may be damaged: drain it and restart it.`,
    )
    .join(' ')
}
