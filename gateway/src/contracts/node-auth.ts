import type { CacheTarget } from '@copal/shared/wire/node-calls.ts'

/** The gateway's secret, and during a rotation the next or previous one. */
export type GatewaySecrets = readonly [current: string, ...accepted: string[]]

/** The secrets of a node: the first signs calls to it, and calls from it may be signed with any of them. */
export type NodeSecrets = readonly [current: string, ...accepted: string[]]

/** Secrets and variables for Cloudflare Access in front of nodes. */
export interface AccessBindings {
  /** A service token of Cloudflare Access, if that protects the nodes. */
  NODE_ACCESS_CLIENT_ID?: string
  NODE_ACCESS_CLIENT_SECRET?: string
  /**
   * The hosts that get the token, over TLS only, separated by commas; `*.example.com` matches all its subdomains. All
   * nodes get it if left out.
   */
  COPAL_NODE_ACCESS_HOSTS?: string
}

/** A request that a node was called with, and the key that is charged. */
interface AttestedRequest {
  requestId: string
  account?: string | undefined
  model: string
  domain: string
}

/** A tenant's response that a node was asked to send to the response cache. */
type AttestedResponse = Pick<CacheTarget, 'key' | 'ttlMs'> & { tenant: string }

/** The content of an attestation. It includes the node, so that no node can report on another's request. */
export interface AttestedCall {
  nodeId: string
  subject: { request: AttestedRequest } | { answer: AttestedResponse }
}

/** Facts about a request that the gateway knows when it calls the node, and that the node does not report. */
export interface RequestOrigin {
  /** Its conversation: an HMAC of its key and first message, below 2³². */
  conversation?: number | undefined
  /** Whether the client named the weights that must serve it. */
  namesWeights?: boolean | undefined
}

/**
 * Issues and verifies attestations. An attestation goes with a call to a node and returns with the node's report. So
 * the gateway knows which key to charge even after the Fleet object has forgotten the lease.
 */
export interface Attestations {
  issue(call: AttestedCall, origin?: RequestOrigin): Promise<string>
  /** Returns the origin of the request of a valid attestation, empty if it does not tell it; undefined for an invalid one. */
  read(attestation: string | undefined, call: AttestedCall): Promise<RequestOrigin | undefined>
  verify(attestation: string | undefined, call: AttestedCall): Promise<boolean>
}
