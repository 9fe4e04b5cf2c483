import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import type { Database } from './database.ts'
import type { FleetObject } from './fleet-object.ts'
import type { FleetPolicy, PolicyBindings } from './fleet-policy.ts'
import type { AccessBindings, Attestations, NodeSecrets } from './node-auth.ts'
import type { PrefixSalt } from './prompt-prefix.ts'
import type { ReservoirObject } from './reservoir-object.ts'
import type { ResponseCacheObject } from './response-cache-object.ts'

/** Bindings and variables of the Worker, as `wrangler.toml` and the secrets declare them. */
export interface Bindings extends PolicyBindings, AccessBindings {
  DB: D1Database
  ARTIFACTS: R2Bucket
  SAMPLES: Queue<SampleMessage>
  FLEET: DurableObjectNamespace<FleetObject>
  RESERVOIR: DurableObjectNamespace<ReservoirObject>
  RESPONSE_CACHE: DurableObjectNamespace<ResponseCacheObject>
  UPDATE_WORKFLOW: Workflow
  /** The secret of each node is derived from it; no node has it. */
  NODE_SECRET?: string
  /** Nodes are known by it too, and none is called with it: the next secret, or the one before, while it is replaced. */
  NODE_SECRET_ALTERNATE?: string
  /** An `mtls_certificates` binding: nodes are called with this client certificate. */
  NODE_CERTIFICATE?: Fetcher
  COPAL_KEY_TRUST_MS?: string
  COPAL_RECEIPT_DAYS?: string
  COPAL_REVOKED_NODES?: string
  /** SHA-256, in lower-case hex, of the admin key. */
  ADMIN_KEY_SHA256?: string
  /** Goes into the hash of every API key, so that the database alone gives none of them away. */
  KEY_PEPPER?: string
  /** Base URL of an OTLP/HTTP collector; spans are exported only when it is set. */
  OTEL_EXPORTER_OTLP_ENDPOINT?: string
}

type NodeFetchInit = Omit<RequestInit, 'headers'> & { headers?: Record<string, string> }

/** What the parts of the gateway are given. Cheap to make: one for each event that the Worker handles. */
export interface Deps {
  readonly db: Database
  readonly artifacts: R2Bucket
  readonly samples: Queue<SampleMessage>
  /** The one Durable Object that knows the nodes; a new stub each time, since one whose call failed may stay broken. */
  readonly fleet: DurableObjectStub<FleetObject>
  /** The Durable Object that keeps a domain's samples. */
  reservoir(domain: string): DurableObjectStub<ReservoirObject>
  /** The Durable Object that keeps a tenant's answers. */
  responseCache(tenant: string): DurableObjectStub<ResponseCacheObject>
  readonly updateWorkflow: Workflow
  /** The secrets of a node, whoever that is: the first signs calls of it, any may have signed a call by it. */
  nodeSecrets(nodeId: string): Promise<NodeSecrets>
  /** Nodes whose secrets somebody else may have: nothing that they sign is taken. */
  readonly revokedNodes: ReadonlySet<string>
  /** What nodes prove with that they were given what they tell of. */
  readonly attestations: Attestations
  /** What a tenant's prefix keys start from. */
  prefixSalt(tenant: string): Promise<PrefixSalt>
  /** Calls a node, with what stands in front of it satisfied. */
  nodeFetch(url: URL, init: NodeFetchInit): Promise<Response>
  readonly adminKeySha256: string
  readonly keyPepper: string
  readonly otlpEndpoint: string | undefined
  readonly policy: FleetPolicy
  /**
   * How long a key is trusted that was looked up, and how often that of a running request is looked at again: a revoked
   * key works no longer than both together.
   */
  readonly keyTrustMs: number
  /** How long receipts are kept; 0: all of them. */
  readonly receiptDays: number
  nowMs(): number
  /** Keeps the event alive until `work` settles, beyond the response. */
  waitUntil(work: Promise<unknown>): void
}
