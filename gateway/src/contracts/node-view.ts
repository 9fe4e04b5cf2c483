import type { SetMemoryReport, WeightSetState } from '@copal/shared/wire/heartbeat.ts'

/** A node as the admin API and metrics show it. */
export interface NodeView {
  id: string
  url: string
  model: string
  alive: boolean
  /** It takes no new requests, because it shuts down or the operator drains it. */
  draining: boolean
  /** The operator drains it. */
  drainedByOperator: boolean
  /** It takes new requests: alive, not draining, its active weight set ready. */
  serving: boolean
  activeVersion: number
  weightSets: WeightSetState[]
  /** The numerics of its active weights; absent from older nodes. */
  numerics?: string | undefined
  /** Absent from older nodes. */
  memory?: SetMemoryReport | undefined
  running: number
  waiting: number
  kvTokensUsed: number
  kvTokensTotal: number
  /** The device and backend, for people; absent from older nodes, as the rate is. */
  device?: string | undefined
  /** Bytes of the dense weights in its precision, also while it does not hold them; absent until it did. */
  denseBytes?: number | undefined
  tokensPerSecond?: number | undefined
  leases: number
  seenMsAgo: number
}

/** All remembered nodes, sorted by id. */
export interface FleetSnapshot {
  nodes: NodeView[]
}
