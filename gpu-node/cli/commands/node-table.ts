import type { NodeEntry } from '@copal/shared/wire/admin.ts'
import { formatAge, formatBytes, formatDuration, formatMask } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { cut, printable } from '../output/table.ts'

/** Renders nodes as a table, one per line. */
export function nodeTable(nodes: readonly NodeEntry[], session: Pick<Session, 'table'>): string {
  return session.table(
    [
      { title: 'NODE', value: (node) => node.id, shrinks: true },
      { title: 'STATE', value: nodeState },
      { title: 'MASK', value: (node) => formatMask(node.active_version) },
      { title: 'HOLDS', value: (node) => node.weight_sets.map(describeWeightSet).join(', '), shrinks: true },
      { title: 'RUN', value: (node) => String(node.running), align: 'right' },
      { title: 'WAIT', value: (node) => String(node.waiting), align: 'right' },
      { title: 'SEEN', value: (node) => `${formatDuration(node.seen_ms_ago)} ago`, align: 'right' },
      { title: 'MEMORY', value: describeMemory },
      { title: 'DEVICE', value: (node) => node.device ?? '' },
    ],
    nodes,
  )
}

/** Describes how nodes store pruned weights, a line for each weight set; empty when no node says. */
export function describeForms(nodes: readonly NodeEntry[]): string {
  return nodes
    .flatMap(({ id, weight_sets: sets }) =>
      sets.flatMap(({ version, form, form_reason: reason }) =>
        form == null ? [] : `${id} stores ${formatMask(version)} ${FORM_WORDS[form] ?? form} (${reason})`,
      ),
    )
    .join('\n')
}

/** Names the last job that failed on each node, a line for each, and where more is recorded; empty when none did. */
export function describeFailedJobs(nodes: readonly NodeEntry[], nowMs: number): string {
  const lines = nodes.flatMap(({ id, last_failed_job: failed }) =>
    failed == null
      ? []
      : `${id} failed job ${failed.job} ${formatAge(failed.at, nowMs)}: ${cut(printable(failed.reason), REASON_CHARACTERS)}`,
  )
  return lines.length === 0 ? '' : [...lines, 'See: npx copal audit list --target <node>'].join('\n')
}

/** Enough for what happened; the rest is in the audit log. */
const REASON_CHARACTERS = 160

const FORM_WORDS: Record<string, string> = { both: 'packed and dense' }

/**
 * Returns how many requests a node still has. The gateway's count and the node's own report may differ for a moment.
 */
export function requestsOf({ leases, running, waiting }: NodeEntry): number {
  return Math.max(leases, running + waiting)
}

function nodeState(node: NodeEntry): string {
  if (!node.alive) return 'away'
  if (!node.draining) return 'alive'
  return requestsOf(node) === 0 ? 'drained' : 'draining'
}

/** The memory that weight sets take, what they may take, and the sets that have no room in it. */
function describeMemory({ weight_memory: memory }: NodeEntry): string {
  if (!memory) return ''
  const { budget_bytes: budget, free_bytes: free, unheld } = memory
  const names = unheld.map(({ version }) => formatMask(version)).join(', ')
  const used = `${formatBytes(budget - free)} of ${formatBytes(budget)}`
  return names === '' ? used : `${used}, no room for ${names}`
}

function describeWeightSet(set: { version: number; state: string }): string {
  return set.state === 'ready' ? formatMask(set.version) : `${formatMask(set.version)} ${set.state}`
}
