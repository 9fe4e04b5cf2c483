import type { ProbesReport } from '@copal/shared/wire/admin-alerts.ts'
import type { NodeEntry, StatusReport } from '@copal/shared/wire/admin.ts'
import { ago, MODEL } from './service.ts'
import { updateId } from './updates.ts'

/** A live node, with changes. */
export function nodeOf(index: number, changes: Partial<NodeEntry> = {}): NodeEntry {
  return {
    id: `node-${index}`,
    url: `http://10.0.0.${index}:9000`,
    model: MODEL,
    alive: true,
    draining: false,
    drained_by_operator: false,
    active_version: 14,
    weight_sets: [
      { version: 14, state: 'ready', requests: 2, bytes: 1_430_000_000, error: null },
      { version: 0, state: 'ready', requests: 0, bytes: 2_470_000_000, error: null },
      { version: 13, state: 'ready', requests: 0, bytes: 1_430_000_000, error: null },
    ],
    running: 2,
    waiting: 0,
    leases: 2,
    seen_ms_ago: 800,
    kv_tokens_used: 21_400,
    kv_tokens_total: 65_536,
    device: 'AMD EPYC 9B14, 8 threads, avx512_bf16',
    tokens_per_second: 41.3,
    ...changes,
  }
}

function nodes(): NodeEntry[] {
  return [
    nodeOf(1),
    nodeOf(2, { running: 4, waiting: 1, leases: 5, kv_tokens_used: 60_100, tokens_per_second: 72.9 }),
    nodeOf(3, {
      weight_sets: [
        { version: 13, state: 'ready', requests: 1, bytes: 1_430_000_000, error: null },
        { version: 14, state: 'loading', requests: 0, bytes: null, error: null },
      ],
      active_version: 13,
      device: null,
      tokens_per_second: null,
    }),
    nodeOf(4, { draining: true, drained_by_operator: true, running: 1, leases: 1 }),
    nodeOf(5, { alive: false, seen_ms_ago: 754_000, running: 0, leases: 0, tokens_per_second: 0 }),
  ]
}

/** Nodes with the last job that failed on each. */
export function nodeList(isEmpty: boolean): { data: NodeEntry[] } {
  const failed = {
    at: ago(130),
    job: `${updateId(14)}-calibrate`,
    code: 'internal_error',
    reason: `No disk space is left in /home/copal/.copal/cache/${'datasets/'.repeat(12)}`,
  }
  return {
    data: isEmpty
      ? []
      : nodes().map((node) => ({ ...node, last_failed_job: node.id === 'node-3' ? failed : null })),
  }
}

/** Models and nodes. */
export function status(isEmpty: boolean): StatusReport {
  return {
    version: '0.1.0',
    models: isEmpty
      ? []
      : [
          {
            id: MODEL,
            active_version: 14,
            previous_version: 13,
            sparsity: 0.5,
            context_length: 8_192,
            converged: false,
            canary: {
              mask_version: 15,
              share: 0.1,
              since: ago(22),
              update_id: updateId(15),
              // The end of its course in `trials`.
              evidence: { requests: 420, tokens: 11_340, gap: -0.0067, lower: -0.044, upper: 0.0307 },
            },
            shadow: { mask_version: 12, share: 0.25, since: ago(95), update_id: null, evidence: null },
            watch: null,
          },
        ],
    nodes: isEmpty ? [] : nodes(),
    updates_running: 1,
  }
}

/** Scores of the probe texts by node. */
export function probes(): ProbesReport {
  const probe = (name: string, version: number, nll: number, expected: number | null) => ({
    node: name,
    mask_version: version,
    nll,
    expected,
    matches: expected === null || Math.abs(nll - expected) < 0.001,
    measured_at: ago(2.5),
  })
  return {
    model: MODEL,
    probes: [
      probe('node-1', 14, 2.4131, 2.4131),
      probe('node-2', 14, 2.9417, 2.4131),
      probe('node-4', 14, 2.4131, 2.4131),
      probe('node-3', 13, 2.4302, null),
    ],
  }
}
