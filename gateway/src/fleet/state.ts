import type { Heartbeat, WeightSetState } from '@copal/shared/wire/node-rpc.ts'
import { pickNode, type Candidate } from './picker.ts'

/** Silence after which a node takes no more requests: three heartbeats. */
export const ALIVE_MS = 6_000
/** How long a lease lives without its node telling of progress; renewed by heartbeats. */
export const LEASE_MS = 120_000
/** Silence after which a node is taken for dead: its leases expire. */
export const DEAD_MS = 30_000
/** Silence after which a node is forgotten altogether. */
export const FORGET_MS = 600_000

/** A request that a node may be working on. It ends with the node's receipt, or expires. */
export interface Lease {
  readonly requestId: string
  readonly nodeId: string
  readonly model: string
  readonly domain: string
  /** The API key that is charged. */
  readonly account?: string | undefined
  readonly maskVersion: number
  /** What the request is settled with if no receipt ever comes. */
  readonly promptTokens: number
  readonly acquiredAtMs: number
  readonly expiresAtMs: number
}

/** What one request asks of the fleet. */
export interface AcquireRequest {
  readonly model: string
  /** The version of its weights that shall answer; left out: the active one. */
  readonly version?: number | undefined
  readonly requestId: string
  readonly domain: string
  /** The API key that is charged. */
  readonly account?: string | undefined
  /** Estimate of the prompt's tokens. */
  readonly promptTokens: number
  /** Nodes that shall not be picked. */
  readonly exclude: readonly string[]
  /** The attempt before this one; told once. */
  readonly failed?: FailedAttempt | undefined
}

/** A try on a node that came to nothing. `broke`: its connection broke, so the node itself may be gone. */
export interface FailedAttempt {
  readonly requestId: string
  readonly nodeId: string
  readonly broke: boolean
}

/** The node for a request, or why there is none. */
export type Acquired =
  | { ok: true; nodeId: string; url: string; maskVersion: number }
  /** `known`: nodes of this model were heard of, but none of them can take the request now. */
  | { ok: false; known: boolean; servedModels: string[] }

/** One node, for people and metrics. */
export interface NodeView {
  id: string
  url: string
  model: string
  alive: boolean
  draining: boolean
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

/** What is kept of one node over a restart of the Durable Object. */
export interface NodeRecord {
  heartbeat: Heartbeat
  desiredVersion: number
  seenAtMs: number
  leases: Lease[]
}

interface Node {
  heartbeat: Heartbeat
  desiredVersion: number
  seenAtMs: number
  /** A request failed on it after its last heartbeat. */
  suspect: boolean
  /** Leases given since its last heartbeat, which its reported load does not hold yet. */
  granted: number
  leases: Map<string, Lease>
}

/**
 * Nodes and leases, without input, output or a clock of its own.
 *
 * A node's load is what it reported last plus the leases given since, so that a lost receipt or a
 * restart never leaves a node looking busy for longer than one heartbeat.
 */
export class FleetState {
  readonly #nodes = new Map<string, Node>()
  /** Which node holds a lease. */
  readonly #holders = new Map<string, Node>()
  /** The last heartbeat or sweep. */
  #heardAtMs = -Infinity
  /** Since when there was no gap between those that a node could have died in unheard. */
  #listeningSinceMs = -Infinity

  /** Registers or renews a node; `desiredVersion` is what its model shall be served with. */
  heartbeat(heartbeat: Heartbeat, desiredVersion: number, nowMs: number): void {
    this.#listen(nowMs)
    const leases = this.#nodes.get(heartbeat.nodeId)?.leases ?? new Map<string, Lease>()
    const node: Node = { heartbeat, desiredVersion, seenAtMs: nowMs, suspect: false, granted: 0, leases }
    this.#nodes.set(heartbeat.nodeId, node)
    for (const requestId of leases.keys()) this.#holders.set(requestId, node)
    for (const requestId of heartbeat.progressing) {
      const lease = leases.get(requestId)
      if (lease) leases.set(requestId, { ...lease, expiresAtMs: nowMs + LEASE_MS })
    }
  }

  /** Leases the best node for a request. */
  acquire(request: AcquireRequest, nowMs: number): Acquired {
    if (request.failed) this.fail(request.failed)
    const candidates = [...this.#nodes.values()].map((node) => ({ ...candidate(node, nowMs), node }))
    const picked = pickNode(candidates, { ...request, desiredVersion: this.#desiredVersion(request.model) })
    const maskVersion = request.version ?? picked?.activeVersion
    if (!picked || maskVersion === undefined) {
      const models = candidates.map(({ model }) => model)
      const servedModels = candidates.filter(({ alive }) => alive).map(({ model }) => model)
      return {
        ok: false,
        known: models.includes(request.model),
        servedModels: [...new Set(servedModels)].sort(),
      }
    }
    const { node } = picked
    const { requestId, model, domain, account, promptTokens } = request
    node.granted += 1
    this.#hold(node, {
      requestId,
      nodeId: node.heartbeat.nodeId,
      model,
      domain,
      ...(account === undefined ? {} : { account }),
      maskVersion,
      promptTokens,
      acquiredAtMs: nowMs,
      expiresAtMs: nowMs + LEASE_MS,
    })
    return { ok: true, nodeId: node.heartbeat.nodeId, url: node.heartbeat.url, maskVersion }
  }

  /** Ends the lease of a failed attempt; a node that broke takes nothing until its next heartbeat. */
  fail(attempt: FailedAttempt): void {
    this.release([attempt.requestId])
    const node = this.#nodes.get(attempt.nodeId)
    if (node && attempt.broke) node.suspect = true
  }

  /** Ends leases whose requests are settled; unknown ones are left alone. */
  release(requestIds: readonly string[]): void {
    for (const requestId of requestIds) {
      this.#holders.get(requestId)?.leases.delete(requestId)
      this.#holders.delete(requestId)
    }
  }

  /**
   * The leases that expired, to be settled and released, and the nodes long gone that hold none: their ids are
   * `forgotten`.
   *
   * Silence while the fleet itself was away (its gateway down, its machine asleep) is nobody's: after it, every
   * node has the time of a dead one to be heard with its receipts.
   */
  expire(nowMs: number): { leases: Lease[]; forgotten: string[] } {
    this.#listen(nowMs)
    const graceEndsMs = this.#listeningSinceMs + DEAD_MS
    const expired: Lease[] = []
    const forgotten: string[] = []
    for (const [id, node] of this.#nodes) {
      const isDead = nowMs >= Math.max(node.seenAtMs + DEAD_MS, graceEndsMs)
      for (const lease of node.leases.values()) {
        if (isDead || nowMs >= Math.max(lease.expiresAtMs, graceEndsMs)) expired.push(lease)
      }
      if (nowMs - node.seenAtMs >= FORGET_MS && node.leases.size === 0) {
        this.#nodes.delete(id)
        forgotten.push(id)
      }
    }
    return { leases: expired, forgotten }
  }

  /** True while there is nothing that could expire. */
  get empty(): boolean {
    return this.#nodes.size === 0
  }

  snapshot(nowMs: number): FleetSnapshot {
    const nodes = [...this.#nodes.values()].map((node): NodeView => {
      const { heartbeat } = node
      return {
        id: heartbeat.nodeId,
        url: heartbeat.url,
        model: heartbeat.model.id,
        alive: isAlive(node, nowMs),
        draining: heartbeat.draining,
        serving: isAlive(node, nowMs) && !heartbeat.draining && isReady(heartbeat),
        activeVersion: heartbeat.activeVersion,
        weightSets: heartbeat.weightSets,
        ...heartbeat.load,
        leases: node.leases.size,
        seenMsAgo: nowMs - node.seenAtMs,
      }
    })
    return { nodes: nodes.sort((a, b) => (a.id < b.id ? -1 : 1)) }
  }

  /**
   * The pruning methods that some node of a model can choose masks by, sorted.
   *
   * @returns null when no node of the model is alive that could tell
   */
  offeredMethods(model: string, nowMs: number): string[] | null {
    const nodes = [...this.#nodes.values()].filter(
      (node) => node.heartbeat.model.id === model && isAlive(node, nowMs),
    )
    if (nodes.length === 0) return null
    return [...new Set(nodes.flatMap(({ heartbeat }) => heartbeat.methods))].sort()
  }

  /** Tokens of prompt and answer together that a model takes; undefined when no node of it was heard of. */
  contextLengthOf(model: string): number | undefined {
    for (const { heartbeat } of this.#nodes.values())
      if (heartbeat.model.id === model) return heartbeat.model.contextLength
    return undefined
  }

  /** Whether a request is leased and not settled. */
  isLeased(requestId: string): boolean {
    return this.#holders.has(requestId)
  }

  /** What to keep of a node. */
  record(nodeId: string): NodeRecord | undefined {
    const node = this.#nodes.get(nodeId)
    if (!node) return undefined
    const { heartbeat, desiredVersion, seenAtMs } = node
    return { heartbeat, desiredVersion, seenAtMs, leases: [...node.leases.values()] }
  }

  /** Takes back what {@link record} gave. */
  restore(record: NodeRecord): void {
    const node: Node = { ...record, suspect: false, granted: 0, leases: new Map() }
    this.#nodes.set(record.heartbeat.nodeId, node)
    for (const lease of record.leases) this.#hold(node, lease)
  }

  #listen(nowMs: number): void {
    if (nowMs - this.#heardAtMs >= DEAD_MS) this.#listeningSinceMs = nowMs
    this.#heardAtMs = nowMs
  }

  /** Of the node heard last: it had the newest answer from D1. */
  #desiredVersion(model: string): number {
    let newest: Node | undefined
    for (const node of this.#nodes.values()) {
      if (node.heartbeat.model.id === model && (!newest || node.seenAtMs >= newest.seenAtMs)) newest = node
    }
    return newest?.desiredVersion ?? 0
  }

  #hold(node: Node, lease: Lease): void {
    node.leases.set(lease.requestId, lease)
    this.#holders.set(lease.requestId, node)
  }
}

function isAlive(node: Node, nowMs: number): boolean {
  return nowMs - node.seenAtMs < ALIVE_MS && !node.suspect
}

function isReady(heartbeat: Heartbeat): boolean {
  return readyVersions(heartbeat).includes(heartbeat.activeVersion)
}

/** Versions that requests can start on, as the heartbeat tells. */
export function readyVersions({ weightSets }: Pick<Heartbeat, 'weightSets'>): number[] {
  return weightSets.filter(({ state }) => state === 'ready').map(({ version }) => version)
}

function candidate(node: Node, nowMs: number): Candidate {
  const { heartbeat } = node
  return {
    id: heartbeat.nodeId,
    model: heartbeat.model.id,
    alive: isAlive(node, nowMs),
    draining: heartbeat.draining,
    activeVersion: isReady(heartbeat) ? heartbeat.activeVersion : undefined,
    readyVersions: readyVersions(heartbeat),
    load: heartbeat.load.running + heartbeat.load.waiting + node.granted,
  }
}
