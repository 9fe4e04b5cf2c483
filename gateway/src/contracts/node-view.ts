import type { WeightSetState } from '@copal/shared/wire/heartbeat.ts'

/** One node, for people and metrics. */
export interface NodeView {
  id: string
  url: string
  model: string
  alive: boolean
  /** It takes no new requests, by its own word or the operator's. */
  draining: boolean
  /** The operator asked for it. */
  drainedByOperator: boolean
  /** It takes new requests: alive, not draining, its active weight set ready. */
  serving: boolean
  activeVersion: number
  weightSets: WeightSetState[]
  running: number
  waiting: number
  kvTokensUsed: number
  kvTokensTotal: number
  leases: number
  seenMsAgo: number
}

/** All nodes that are remembered, sorted by id. */
export interface FleetSnapshot {
  nodes: NodeView[]
}
