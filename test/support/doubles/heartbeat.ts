import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'

/** Returns a heartbeat of a node that serves `model` dense, with `changes` applied. */
export function heartbeatOf(
  node: { id: string; url: string },
  model: string,
  changes: Partial<Heartbeat> = {},
): Heartbeat {
  return {
    nodeId: node.id,
    url: node.url,
    draining: false,
    model: { id: model, baseSha256: 'a'.repeat(64), contextLength: 2048, parameters: 1000 },
    activeVersion: 0,
    weightSets: [{ version: 0, state: 'ready', requests: 0 }],
    load: { running: 0, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 4096 },
    methods: ['continual-wanda', 'continual-wanda+swaps', 'copal'],
    leaving: false,
    requests: [],
    jobs: [],
    ...changes,
  }
}
