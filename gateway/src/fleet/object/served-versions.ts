import type { AcquireRequest } from '../../contracts/acquire.ts'
import type { Lease } from '../../contracts/lease.ts'
import { isReady, type Node } from './fleet-node.ts'
import type { FleetNodes } from './fleet-nodes.ts'
import { canaryFor, ownMaskFor, shadowFor } from './trial-assignment.ts'

/** The parts of a request that decide which mask version serves its conversation. */
export type ServedRequest = Pick<AcquireRequest, 'model' | 'conversation' | 'domain'>

/** A version that must serve a request instead of the active one. */
export interface VersionBeside {
  version: number
  /** Whether it is a canary; otherwise it is the domain's own mask. */
  isCanary: boolean
}

/** Decides which mask versions serve a request, by the desired state that the heartbeats of nodes bring. */
export class ServedVersions {
  readonly #nodes: FleetNodes

  constructor(nodes: FleetNodes) {
    this.#nodes = nodes
  }

  /** Returns the node of a model with the latest heartbeat, which carries the latest desired state from D1. */
  lastHeard(model: string): Node | undefined {
    let newest: Node | undefined
    for (const node of this.#nodes.ofModel(model))
      if (!newest || node.seenAtMs >= newest.seenAtMs) newest = node
    return newest
  }

  /** Returns the version that must serve a request instead of the active one: its domain's own mask, or else a canary. */
  versionBeside(
    request: ServedRequest & Pick<AcquireRequest, 'version' | 'account'>,
  ): VersionBeside | undefined {
    const trials = this.lastHeard(request.model)?.trials
    const own = ownMaskFor(trials, request)
    const version = own ?? canaryFor(trials, request)
    return version === undefined ? undefined : { version, isCanary: own === undefined }
  }

  /** Returns whether a request got a canary or its domain's own mask, instead of the active one. */
  isBeside({ model, maskVersion, domain }: Pick<Lease, 'model' | 'maskVersion' | 'domain'>): boolean {
    const { canary, own } = this.lastHeard(model)?.trials ?? {}
    return (
      maskVersion === canary?.version ||
      (own !== undefined && Object.hasOwn(own, domain) && own[domain] === maskVersion)
    )
  }

  /** Returns the version of the shadow under which a node must score a request's output. */
  shadowOf(request: AcquireRequest, { heartbeat }: Node): number | undefined {
    const version = shadowFor(this.lastHeard(request.model)?.trials, request)
    return version !== undefined && isReady(heartbeat, version) ? version : undefined
  }

  /** Returns the version that would serve a conversation of a domain now; undefined if no node of the model is known. */
  versionFor({ model, conversation, domain }: ServedRequest, nowMs: number): number | undefined {
    const live = this.#nodes.alive(model, nowMs)
    const beside = this.versionBeside({ model, conversation, domain })?.version
    if (beside !== undefined && live.some(({ heartbeat }) => isReady(heartbeat, beside))) return beside
    const { desiredVersion, trials } = this.lastHeard(model) ?? {}
    const isServed = live.some(({ heartbeat }) => heartbeat.activeVersion === desiredVersion)
    return isServed ? desiredVersion : (trials?.replaced ?? desiredVersion)
  }
}
