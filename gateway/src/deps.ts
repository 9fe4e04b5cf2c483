import type { AdaptationPreset } from '@copal/shared/wire/admin-policy.ts'
import { UNCOUNTED } from './calls/call-budget.ts'
import { SETTINGS } from '@copal/shared/settings-table.ts'
import { nodeId, nodeIdOfSecret } from '@copal/shared/wire/node-secret.ts'
import { openDatabase } from './storage/db/open-database.ts'
import { readAccess } from './fleet/auth/node-access.ts'
import type { GatewaySecrets } from './contracts/node-auth.ts'
import { createNodeSecrets } from './fleet/auth/node-secrets.ts'
import { createPrefixSalts } from './fleet/client/prefix-keys.ts'
import { readList, readWholeNumber } from './runtime/variables.ts'
import { readPolicy } from './fleet/object/policy-variables.ts'
import { ATTESTED_DAYS, createAttestations } from './fleet/auth/attestations.ts'
import { notConfigured } from './runtime/not-configured.ts'
import type { Bindings, Deps } from './contracts/bindings.ts'
import type { Recogniser } from './contracts/recogniser.ts'
import { createGatewayTelemetry } from './telemetry/gateway-telemetry.ts'
import {
  OtelVariableError,
  readOtelSettings,
  type OtelSettings,
} from '@copal/shared/telemetry/otel-settings.ts'
import { createRecogniser, recogniserUrl } from './adaptation/redaction/recogniser.ts'

/** Minimum days to keep receipts: a receipt that is sent again is recognized by the stored one. */
const MIN_RECEIPT_DAYS = ATTESTED_DAYS

/** Minimum receipts to keep: trials read the first thousands of either mask. */
const MIN_MAX_RECEIPTS = 1_000_000
/** An update that the gate rejected can be forced for 30 days, from what is recorded of it. */
const MIN_HISTORY_DAYS = 31

/** Minimum days to keep the periods of a width, because sums over a month or less use the narrowest periods. */
const MIN_SERIES_DAYS = {
  COPAL_SERIES_MINUTE_DAYS: 2,
  COPAL_SERIES_HOUR_DAYS: 32,
  COPAL_SERIES_DAYS: 32,
} as const

/** The part of {@link Deps} that is the same for all events of an isolate, by its bindings. */
const depsByBindings = new WeakMap<Bindings, IsolateDeps>()
interface IsolateDeps {
  parts: Omit<Deps, 'fleet' | 'waitUntil'>
  fleetId: DurableObjectId
}

/**
 * Creates the dependencies of one event from the Worker's bindings; nothing else reads the bindings.
 *
 * @throws AppError `internal_error` when a required secret is missing, or a secret or variable is malformed
 */
export function createDeps(env: Bindings, ctx: Pick<ExecutionContext, 'waitUntil'>): Deps {
  let lasting = depsByBindings.get(env)
  if (!lasting) {
    lasting = { parts: createIsolateDeps(env), fleetId: env.FLEET.idFromName('fleet') }
    depsByBindings.set(env, lasting)
  }
  const { parts, fleetId } = lasting
  return {
    ...parts,
    get fleet() {
      return env.FLEET.get(fleetId)
    },
    waitUntil: (work) => ctx.waitUntil(work),
  }
}

function createIsolateDeps(env: Bindings): IsolateDeps['parts'] {
  const gatewaySecrets = readGatewaySecrets(env)
  const adminKeySha256 = (env.ADMIN_KEY_SHA256 ?? '').toLowerCase()
  if (!/^[0-9a-f]{64}$/.test(adminKeySha256)) {
    throw notConfigured(
      'the secret ADMIN_KEY_SHA256 must be the SHA-256 of the admin key, ' +
        '64 hexadecimal digits (`wrangler secret put ADMIN_KEY_SHA256`, or a .dev.vars file locally).',
    )
  }
  const keyPepper = env.KEY_PEPPER ?? ''
  if (keyPepper.length < 32) {
    throw notConfigured(
      'the secret KEY_PEPPER is missing or shorter than 32 characters. Set it once ' +
        '(`openssl rand -hex 32 | wrangler secret put KEY_PEPPER`, or a .dev.vars file locally) and keep it: ' +
        'API keys are stored only as hashes with this pepper.',
    )
  }
  const access = readAccess(env)
  const policy = readPolicy(env)
  return {
    calls: UNCOUNTED,
    db: openDatabase(env.DB),
    artifacts: env.ARTIFACTS,
    samples: env.SAMPLES,
    reservoir: (domain) => env.RESERVOIR.get(env.RESERVOIR.idFromName(domain)),
    responseCache: (tenant) => env.RESPONSE_CACHE.get(env.RESPONSE_CACHE.idFromName(tenant)),
    updateWorkflow: env.UPDATE_WORKFLOW,
    nodeSecrets: createNodeSecrets(gatewaySecrets),
    revokedNodes: readRevokedNodes(env),
    attestations: createAttestations(gatewaySecrets, policy),
    prefixSalt: createPrefixSalts(gatewaySecrets[0]),
    nodeFetch(url, init) {
      const headers = { ...init.headers, ...access(url) }
      return (env.NODE_CERTIFICATE ?? globalThis).fetch(url, { ...init, headers })
    },
    adminKeySha256,
    keyPepper,
    policy,
    adaptationPreset: readAdaptationPreset(env),
    keyTrustMs: readWholeNumber(env, 'COPAL_KEY_TRUST_MS'),
    unknownKeysPerMinute: readWholeNumber(env, 'COPAL_UNKNOWN_KEYS_PER_MINUTE'),
    unknownKeyEdgeLimit: env.UNKNOWN_KEYS,
    listsPerMinute: readWholeNumber(env, 'COPAL_LISTS_PER_MINUTE'),
    refusalsPerSecond: readWholeNumber(env, 'COPAL_REFUSALS_PER_SECOND'),
    receiptDays: readKept(
      env,
      'COPAL_RECEIPT_DAYS',
      MIN_RECEIPT_DAYS,
      `receipts must be kept for at least ${MIN_RECEIPT_DAYS} days, because nodes that were offline send theirs again.`,
    ),
    maxReceipts: readKept(
      env,
      'COPAL_MAX_RECEIPTS',
      MIN_MAX_RECEIPTS,
      `at least ${MIN_MAX_RECEIPTS} must be kept, because trials are judged by receipts.`,
    ),
    seriesDays: readSeriesDays(env),
    datasetDays: readWholeNumber(env, 'COPAL_DATASET_DAYS'),
    previewCharacters: readWholeNumber(env, 'COPAL_PREVIEW_CHARACTERS'),
    maskDays: readWholeNumber(env, 'COPAL_MASK_DAYS'),
    auditDays: readWholeNumber(env, 'COPAL_AUDIT_DAYS'),
    historyDays: readKept(
      env,
      'COPAL_HISTORY_DAYS',
      MIN_HISTORY_DAYS,
      `records of updates must be kept for at least ${MIN_HISTORY_DAYS} days, because the mask of an update may be forced for 30.`,
    ),
    recogniser: readRecogniser(env),
    telemetry: createGatewayTelemetry(readOtel(env)),
    nowMs: () => Date.now(),
  }
}

function readGatewaySecrets(env: Bindings): GatewaySecrets {
  const current = env.NODE_SECRET ?? ''
  if (current.length < 16) {
    throw notConfigured(
      'the secret NODE_SECRET is missing or shorter than 16 characters. Set it ' +
        '(`openssl rand -hex 32 | wrangler secret put NODE_SECRET`, or a .dev.vars file locally); the secrets of ' +
        'nodes are derived from it.',
    )
  }
  const other = env.NODE_SECRET_ALTERNATE ?? ''
  if (other !== '' && other.length < 16) {
    throw notConfigured(
      'the secret NODE_SECRET_ALTERNATE is shorter than 16 characters. ' +
        'Set it the way NODE_SECRET is set, or delete it.',
    )
  }
  const taken = [current, other].map(nodeIdOfSecret).find((owner) => owner !== undefined)
  if (taken !== undefined) {
    throw notConfigured(
      `NODE_SECRET, or NODE_SECRET_ALTERNATE, is the secret of node '${taken}'. Set the gateway's own secret, from ` +
        'which the secrets of nodes are derived.',
    )
  }
  return other === '' ? [current] : [current, other]
}

function readRevokedNodes(env: Bindings): ReadonlySet<string> {
  const isName = (name: string) => nodeId.safeParse(name).success
  return new Set(readList(env, 'COPAL_REVOKED_NODES', isName, 'names of nodes'))
}

function readAdaptationPreset(env: Bindings): AdaptationPreset {
  const preset = env.COPAL_ADAPTATION || SETTINGS.COPAL_ADAPTATION.default
  if (preset === 'production' || preset === 'local') return preset
  throw notConfigured(`the variable COPAL_ADAPTATION is '${preset}'; 'production' or 'local' is expected.`)
}

function readRecogniser(env: Bindings): Recogniser | undefined {
  const address = env.COPAL_RECOGNISER_URL
  if (!address) return undefined
  const url = recogniserUrl(address)
  if (url) return createRecogniser({ url, token: env.COPAL_RECOGNISER_TOKEN })
  throw notConfigured(
    'the variable COPAL_RECOGNISER_URL must be an address with https, or with http on this machine, without a user name.',
  )
}

/**
 * Reads the standard variables of OpenTelemetry. By default every request is sampled: a caller that names a trace which is not
 * must not hide its request.
 *
 * @throws AppError `internal_error` that names a variable that cannot be used
 */
export function readOtel(env: Bindings): OtelSettings {
  try {
    return readOtelSettings(env, { sampler: 'always_on', resource: { 'service.name': 'copal-gateway' } })
  } catch (error) {
    if (!(error instanceof OtelVariableError)) throw error
    throw notConfigured(`the variable ${error.variable} cannot be used: ${error.message}.`)
  }
}

/** Reads how much to keep: 0 for all, or at least `least`. */
function readKept(
  env: Bindings,
  name: Parameters<typeof readWholeNumber>[1] & keyof Bindings,
  least: number,
  why: string,
): number {
  const kept = readWholeNumber(env, name)
  if (kept === 0 || kept >= least) return kept
  throw notConfigured(`the variable ${name} is '${kept}'; ${why} Set it to 0 to keep all.`)
}

function readSeriesDays(env: Bindings): Deps['seriesDays'] {
  const read = (name: keyof typeof MIN_SERIES_DAYS) => {
    const least = MIN_SERIES_DAYS[name]
    const why = `these periods must be kept for at least ${least} days, because sums over the last day or month are made of them.`
    return readKept(env, name, least, why)
  }
  return {
    minutes: read('COPAL_SERIES_MINUTE_DAYS'),
    hours: read('COPAL_SERIES_HOUR_DAYS'),
    days: read('COPAL_SERIES_DAYS'),
  }
}
