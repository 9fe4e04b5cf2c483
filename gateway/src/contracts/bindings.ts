import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import type { AdaptationPreset } from '@copal/shared/wire/admin-policy.ts'
import type { CallBudget } from './call-budget.ts'
import type { Database } from './database.ts'
import type { FleetObject } from './fleet-object.ts'
import type { FleetPolicy, PolicyBindings } from './fleet-policy.ts'
import type { AccessBindings, Attestations, NodeSecrets } from './node-auth.ts'
import type { PrefixSalt } from './prompt-prefix.ts'
import type { Recogniser } from './recogniser.ts'
import type { ReservoirObject } from './reservoir-object.ts'
import type { ResponseCacheObject } from './response-cache-object.ts'
import type { GatewayTelemetry } from './telemetry.ts'
import type { OtelVariables } from '@copal/shared/telemetry/otel-settings.ts'

/** Bindings and variables of the Worker, as `wrangler.toml` and the secrets declare them. */
export interface Bindings extends PolicyBindings, AccessBindings, OtelVariables {
  DB: D1Database
  ARTIFACTS: R2Bucket
  SAMPLES: Queue<SampleMessage>
  FLEET: DurableObjectNamespace<FleetObject>
  RESERVOIR: DurableObjectNamespace<ReservoirObject>
  RESPONSE_CACHE: DurableObjectNamespace<ResponseCacheObject>
  UPDATE_WORKFLOW: Workflow
  /** The secret that the secret of each node is derived from; no node has it. */
  NODE_SECRET?: string
  /** The next or previous `NODE_SECRET` during a rotation: accepted from nodes, never used to call them. */
  NODE_SECRET_ALTERNATE?: string
  /** An `mtls_certificates` binding: the client certificate for calls to nodes. */
  NODE_CERTIFICATE?: Fetcher
  COPAL_KEY_TRUST_MS?: string
  COPAL_UNKNOWN_KEYS_PER_MINUTE?: string
  COPAL_LISTS_PER_MINUTE?: string
  COPAL_REFUSALS_PER_SECOND?: string
  /** Cloudflare's rate limit for addresses that send unknown keys; optional. */
  UNKNOWN_KEYS?: RateLimit
  COPAL_RECEIPT_DAYS?: string
  COPAL_MAX_RECEIPTS?: string
  COPAL_SERIES_MINUTE_DAYS?: string
  COPAL_SERIES_HOUR_DAYS?: string
  COPAL_SERIES_DAYS?: string
  COPAL_AUDIT_DAYS?: string
  COPAL_DATASET_DAYS?: string
  COPAL_PREVIEW_CHARACTERS?: string
  COPAL_MASK_DAYS?: string
  COPAL_HISTORY_DAYS?: string
  COPAL_ADAPTATION?: string
  /** `json`: the console writes JSON. */
  COPAL_LOG?: string
  COPAL_RECOGNISER_URL?: string
  /** Sent to the recogniser as bearer token. */
  COPAL_RECOGNISER_TOKEN?: string
  COPAL_REVOKED_NODES?: string
  /** The SHA-256 of the admin key, in lower-case hex. */
  ADMIN_KEY_SHA256?: string
  /** The secret that is part of the hash of every API key, so that the database alone reveals no key. */
  KEY_PEPPER?: string
}

type NodeFetchInit = Omit<RequestInit, 'headers'> & { headers?: Record<string, string> }

/** The dependencies of the gateway's parts. Created for each event that the Worker handles, so they must be cheap. */
export interface Deps {
  /** The calls that the event may still make by these dependencies. */
  readonly calls: CallBudget
  readonly db: Database
  readonly artifacts: R2Bucket
  readonly samples: Queue<SampleMessage>
  /** The Fleet object. Each access returns a new stub, because a stub whose call failed may stay broken. */
  readonly fleet: DurableObjectStub<FleetObject>
  /** Returns the Durable Object that stores the samples of a domain. */
  reservoir(domain: string): DurableObjectStub<ReservoirObject>
  /** Returns the Durable Object that stores the cached responses of a tenant. */
  responseCache(tenant: string): DurableObjectStub<ResponseCacheObject>
  readonly updateWorkflow: Workflow
  /** Returns the secrets of any node, registered or not. */
  nodeSecrets(nodeId: string): Promise<NodeSecrets>
  /** Nodes whose secrets may have leaked: calls that they sign are rejected. */
  readonly revokedNodes: ReadonlySet<string>
  /** Proofs that a node was called with a request that it reports on. */
  readonly attestations: Attestations
  /** Returns the salt of a tenant's prefix keys. */
  prefixSalt(tenant: string): Promise<PrefixSalt>
  /** Calls a node, with the client certificate and the Access token that the deployment needs. */
  nodeFetch(url: URL, init: NodeFetchInit): Promise<Response>
  readonly adminKeySha256: string
  readonly keyPepper: string
  readonly telemetry: GatewayTelemetry
  readonly policy: FleetPolicy
  /**
   * How long a looked-up key is cached, and how often the key of a running request is checked again. A revoked key works
   * for at most twice this time.
   */
  readonly keyTrustMs: number
  /** Unknown keys that an isolate looks up for one client address a minute; 0 is no limit. */
  readonly unknownKeysPerMinute: number
  /** Counts the unknown keys of an address over isolates, where the binding exists. */
  readonly unknownKeyEdgeLimit: RateLimit | undefined
  /** Lists that an isolate answers for one key a minute; 0 is no limit. */
  readonly listsPerMinute: number
  /** Refused requests of one caller that an isolate answers without delay a second; 0 delays none. */
  readonly refusalsPerSecond: number
  /** How many days receipts are kept; 0 keeps them all. */
  readonly receiptDays: number
  /** Above how many receipts the oldest are deleted, however old; 0 keeps them all. */
  readonly maxReceipts: number
  /** How many days the periods of series are kept, by width (five minutes like minutes); 0 keeps them all. */
  readonly seriesDays: Readonly<Record<'minutes' | 'hours' | 'days', number>>
  /** How many days the texts of calibrated datasets are kept; 0 keeps them all. */
  readonly datasetDays: number
  /** How many characters of a kept text are shown to an operator; 0 shows none. */
  readonly previewCharacters: number
  /** How many days the files of masks are kept that nothing needs; 0 keeps them all. */
  readonly maskDays: number
  /** How many days rows of the audit log are kept; 0 keeps them all. */
  readonly auditDays: number
  /** How many days records of updates and revoked keys are kept that nothing needs; 0 keeps them all. */
  readonly historyDays: number
  /** The adaptation policy of models for which an operator has set none. */
  readonly adaptationPreset: AdaptationPreset
  /** Finds names and addresses in redacted texts, where an operator has one. */
  readonly recogniser: Recogniser | undefined
  nowMs(): number
  /** Keeps the event alive until `work` settles, beyond the response. */
  waitUntil(work: Promise<unknown>): void
}
