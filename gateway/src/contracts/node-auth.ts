import type { CacheTarget } from '@copal/shared/wire/node-calls.ts'

/** The gateway's secret, and the next one or the one before while it is replaced. */
export type GatewaySecrets = readonly [current: string, ...accepted: string[]]

/** A node's secrets: the first signs calls of it, any of them may have signed a call by it. */
export type NodeSecrets = readonly [current: string, ...accepted: string[]]

/** Secrets and variables of what stands in front of nodes. */
export interface AccessBindings {
  /** A service token of Cloudflare Access, where that stands in front of the nodes. */
  NODE_ACCESS_CLIENT_ID?: string
  NODE_ACCESS_CLIENT_SECRET?: string
  /**
   * The hosts that it is sent to, over TLS alone, with commas between them; `*.example.com` is all below that. Any when
   * left out.
   */
  COPAL_NODE_ACCESS_HOSTS?: string
}

/** A request that a node was called with, and whom it is charged to. */
interface GivenRequest {
  requestId: string
  account?: string | undefined
  model: string
  domain: string
}

/** A tenant's answer that a node was asked to send once more. */
type GivenAnswer = Pick<CacheTarget, 'key' | 'ttlMs'> & { tenant: string }

/** What an attestation is over: no node may tell of what another was given. */
export interface AttestedFact {
  nodeId: string
  what: { request: GivenRequest } | { answer: GivenAnswer }
}

/**
 * Attestations go with a call to its node and come back with what that tells of it. So the gateway knows whose a request was,
 * and whom it is charged to, when its lease is long gone and the Fleet object has forgotten it.
 */
export interface Attestations {
  issue(given: AttestedFact): Promise<string>
  isFor(attestation: string | undefined, given: AttestedFact): Promise<boolean>
}
