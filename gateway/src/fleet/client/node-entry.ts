import type { NodeEntry } from '@copal/shared/wire/admin.ts'
import type { NodeView } from '../../contracts/node-view.ts'

/** Describes a node for the admin API. */
export function nodeEntry(node: NodeView): NodeEntry {
  return {
    id: node.id,
    url: node.url,
    model: node.model,
    alive: node.alive,
    draining: node.draining,
    drained_by_operator: node.drainedByOperator,
    active_version: node.activeVersion,
    weight_sets: node.weightSets.map(({ version, state, requests, bytes, form, error }) => ({
      version,
      state,
      requests,
      bytes: bytes ?? null,
      form: form?.name ?? null,
      form_reason: form?.why ?? null,
      error: error ?? null,
    })),
    weight_memory: node.memory
      ? {
          budget_bytes: node.memory.budgetBytes,
          free_bytes: node.memory.freeBytes,
          unheld: node.memory.unheld,
        }
      : null,
    kv_tokens_used: node.kvTokensUsed,
    kv_tokens_total: node.kvTokensTotal,
    device: node.device ?? null,
    tokens_per_second: node.tokensPerSecond ?? null,
    running: node.running,
    waiting: node.waiting,
    leases: node.leases,
    seen_ms_ago: node.seenMsAgo,
  }
}

/** Returns whether all nodes of a model that serve have its active mask; false without any. */
export function hasConverged(
  nodes: readonly NodeView[],
  { id, activeVersion }: { id: string; activeVersion: number },
): boolean {
  const able = nodes.filter((node) => node.serving && node.model === id)
  return able.length > 0 && able.every((node) => node.activeVersion === activeVersion)
}
