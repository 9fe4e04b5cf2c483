import { resolve } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { SETTINGS } from '@copal/shared/settings-table.ts'
import {
  OtelVariableError,
  readOtelSettings,
  type OtelSettings,
} from '@copal/shared/telemetry/otel-settings.ts'
import { nodeId, nodeIdOfSecret } from '@copal/shared/wire/node-secret.ts'
import { z } from 'zod'
import type { KernelName, KvPrecision, Precision } from '../native/addon.d.ts'
import { cacheFolder } from './platform/cache-folder.ts'
import { FORM_SETTINGS, type FormSetting } from './serving/backends/sparse/form-choice.ts'
import { KV_PRECISIONS, MAX_THREADS, PRECISIONS } from './serving/contract/backend.ts'
import { MAX_SCORING_SHARE } from './serving/engine/engine-policy.ts'

const text = (message: string) => z.string({ error: message }).min(1, message)
const wholeNumber = (min: number, max: number, message: string) =>
  z.string().regex(/^\d+$/, message).transform(Number).pipe(z.number().min(min, message).max(max, message))
const share = (max: number, message: string) =>
  z
    .string()
    .regex(/^\d*\.?\d+$/, message)
    .transform(Number)
    .pipe(z.number().max(max, message))
const url = (message: string) =>
  z.url({ protocol: /^https?$/, error: message }).transform((value) => value.replace(/\/+$/, ''))

const precision = z.enum(PRECISIONS, { error: "'bf16', 'int8' or 'int4' is expected" })

const MODEL_EXPECTED = 'a path, pypi:<package>==<version> or hf:<org>/<name> is expected'

const WILDCARD_HOSTS = new Set(['0.0.0.0', '::'])

/**
 * Accepts a secret that `npx copal nodes secret` printed. Rejects the gateway's own secret, with which a node could act
 * for every node.
 */
const ownSecret = (message: string) =>
  text(message).refine((secret) => nodeIdOfSecret(secret) !== undefined, {
    error:
      "a node's own secret is expected, '<node id>:' and 64 hexadecimal digits, as `npx copal nodes secret <node id>` " +
      "prints it on the machine with the gateway's NODE_SECRET. NODE_SECRET itself must not be on a node",
  })

/** Returns the owner of the secret in a variable, for messages. */
function ownerOf(read: unknown, variable: string): string {
  const secret = (read as Record<string, string | undefined>)[variable] ?? ''
  return `node '${nodeIdOfSecret(secret) ?? ''}'`
}

const environment = z
  .object({
    COPAL_MODEL: text(MODEL_EXPECTED)
      .regex(/^(?:(?![a-z]+:)|pypi:[^=]+==[^=]+$|hf:[^/]+\/[^/]+$)/, MODEL_EXPECTED)
      .default(SETTINGS.COPAL_MODEL.default),
    COPAL_HOME: text('a directory is expected').default(SETTINGS.COPAL_HOME.default),
    COPAL_CACHE: text('a directory is expected').optional(),
    COPAL_NODE_HOST: text('an address to listen on like 127.0.0.1 is expected').default(
      SETTINGS.COPAL_NODE_HOST.default,
    ),
    COPAL_NODE_PORT: wholeNumber(0, 65535, 'a port between 0 (any free one) and 65535 is expected').default(
      SETTINGS.COPAL_NODE_PORT.default,
    ),
    COPAL_NODE_ID: nodeId.optional(),
    COPAL_NODE_URL: url(
      'the address at which the gateway reaches this node, like http://10.0.0.7:8790, is expected',
    ).optional(),
    COPAL_GATEWAY_URL: url('an address like http://127.0.0.1:8787 is expected').default(
      SETTINGS.COPAL_GATEWAY_URL.default,
    ),
    COPAL_NODE_SECRET: ownSecret(
      "the node's own secret is required: `npx copal nodes secret <node id>` prints it on the machine with the gateway's NODE_SECRET",
    ),
    COPAL_NODE_SECRET_ALTERNATE: ownSecret('a secret like COPAL_NODE_SECRET is expected').optional(),
    COPAL_ACCESS_CLIENT_ID: z.string().optional(),
    COPAL_ACCESS_CLIENT_SECRET: z.string().optional(),
    COPAL_THREADS: wholeNumber(
      1,
      MAX_THREADS,
      `a number of threads, 1 to ${MAX_THREADS}, is expected`,
    ).optional(),
    COPAL_KV_TOKENS: wholeNumber(
      64,
      1e9,
      'a number of tokens of key/value cache, at least 64, is expected',
    ).optional(),
    COPAL_WEIGHT_BYTES: wholeNumber(
      0,
      1e15,
      'bytes of memory for weight sets are expected; 0 holds only what serves',
    ).optional(),
    COPAL_MAX_RUNNING: wholeNumber(
      1,
      4096,
      'a number of requests served at once, 1 to 4096, is expected',
    ).optional(),
    COPAL_DRAFT_TOKENS: wholeNumber(
      0,
      64,
      'the most tokens of a step with drafts, 0 to 64, are expected; 0 drafts nothing',
    ).default(SETTINGS.COPAL_DRAFT_TOKENS.default),
    COPAL_SCORING_SHARE: share(
      MAX_SCORING_SHARE,
      `a share of the time of steps, 0 to ${MAX_SCORING_SHARE}, is expected`,
    ).default(SETTINGS.COPAL_SCORING_SHARE.default),
    COPAL_SCORE_TIMEOUT_MS: wholeNumber(
      1,
      3_600_000,
      'milliseconds that a receipt may wait for its scores, 1 to 3600000, are expected',
    ).default(SETTINGS.COPAL_SCORE_TIMEOUT_MS.default),
    COPAL_PROBE_MS: wholeNumber(
      1_000,
      86_400_000,
      'milliseconds between two scores of the probe texts, 1000 to 86400000, are expected',
    ).default(SETTINGS.COPAL_PROBE_MS.default),
    COPAL_HEARTBEAT_MS: wholeNumber(
      50,
      60_000,
      'milliseconds between two heartbeats, 50 to 60000, are expected',
    ).default(SETTINGS.COPAL_HEARTBEAT_MS.default),
    COPAL_GRACE_MS: wholeNumber(
      0,
      3_600_000,
      'milliseconds that running requests have to end when the node is stopped, 0 to 3600000, are expected',
    ).default(SETTINGS.COPAL_GRACE_MS.default),
    COPAL_REQUEST_TIMEOUT_MS: wholeNumber(
      1,
      86_400_000,
      'milliseconds that a request may take, 1 to 86400000, are expected',
    ).default(SETTINGS.COPAL_REQUEST_TIMEOUT_MS.default),
    // Removed: ONNX Runtime had its CUDA and WebGPU libraries by it.
    COPAL_PROVIDER: z
      .literal('cpu', {
        error:
          'ONNX Runtime runs on the processor only. Leave this variable out; COPAL_BACKEND=gpu serves on a GPU',
      })
      .optional(),
    COPAL_BACKEND: z
      .enum(['onnx', 'sparse', 'gpu', 'auto'], { error: "'onnx', 'sparse', 'gpu' or 'auto' is expected" })
      .default(SETTINGS.COPAL_BACKEND.default),
    COPAL_GPU: text('a part of the name of a GPU is expected').optional(),
    COPAL_KERNEL: z
      .enum(
        ['amx', 'avx512bf16', 'avx512vbmi2', 'avx512vnni', 'avx512', 'avx2', 'neondot', 'neon', 'scalar'],
        {
          error:
            "'amx', 'avx512bf16', 'avx512vbmi2', 'avx512vnni', 'avx512', 'avx2', 'neondot', 'neon' or 'scalar' is expected; without it the machine's best is taken",
        },
      )
      .optional(),
    COPAL_FORM: z
      .enum(FORM_SETTINGS, { error: "'auto', 'packed' or 'dense' is expected" })
      .default(SETTINGS.COPAL_FORM.default),
    COPAL_PRECISION: precision.default(SETTINGS.COPAL_PRECISION.default),
    COPAL_HEAD_PRECISION: precision.default(SETTINGS.COPAL_HEAD_PRECISION.default),
    COPAL_KV_PRECISION: z
      .enum(KV_PRECISIONS, { error: "'f16' or 'int8' is expected" })
      .default(SETTINGS.COPAL_KV_PRECISION.default),
    COPAL_LOG: z.enum(['plain', 'json'], { error: "'plain' or 'json' is expected" }).optional(),
  })
  .refine((read) => !read.COPAL_ACCESS_CLIENT_ID === !read.COPAL_ACCESS_CLIENT_SECRET, {
    path: ['COPAL_ACCESS_CLIENT_ID'],
    error: 'it goes with COPAL_ACCESS_CLIENT_SECRET: set both or neither',
  })
  .refine(
    ({ COPAL_NODE_ID: id, COPAL_NODE_SECRET: secret }) => id === undefined || nodeIdOfSecret(secret) === id,
    {
      path: ['COPAL_NODE_ID'],
      error: ({ input }) =>
        `COPAL_NODE_SECRET is the secret of ${ownerOf(input, 'COPAL_NODE_SECRET')}. Set it to what ` +
        '`npx copal nodes secret` prints for this node, or leave COPAL_NODE_ID out',
    },
  )
  .refine(
    ({ COPAL_NODE_SECRET: own, COPAL_NODE_SECRET_ALTERNATE: other }) =>
      other === undefined || nodeIdOfSecret(other) === nodeIdOfSecret(own),
    {
      path: ['COPAL_NODE_SECRET_ALTERNATE'],
      error: ({ input }) =>
        `it is the secret of ${ownerOf(input, 'COPAL_NODE_SECRET_ALTERNATE')}, COPAL_NODE_SECRET that of ` +
        `${ownerOf(input, 'COPAL_NODE_SECRET')}: both must be this node's`,
    },
  )
  .refine((read) => read.COPAL_NODE_URL !== undefined || !WILDCARD_HOSTS.has(read.COPAL_NODE_HOST), {
    path: ['COPAL_NODE_URL'],
    error:
      'the address at which the gateway reaches this node is required when COPAL_NODE_HOST is every address',
  })

/** The settings of a node, read from the environment. */
export interface NodeSettings {
  model: string
  home: string
  cacheDir: string
  host: string
  /** Port to listen on; 0 for any free one. */
  port: number
  nodeId: string
  /** Address at which the gateway reaches the node; null for the address that it listens on. */
  advertisedUrl: string | null
  gatewayUrl: string
  /** Authenticates the node and the gateway to each other; no other node has it. */
  secret: string
  /** Secrets that are also accepted, but never sign: the next or the previous one during a rotation. */
  otherSecrets: readonly string[]
  /** Headers for a proxy in front of the gateway: a service token of Cloudflare Access. */
  gatewayHeaders: Readonly<Record<string, string>>
  heartbeatMs: number
  /** Time that running requests have to finish when the node is stopped. */
  graceMs: number
  /** Time limit of a request in the engine, independent of the gateway. */
  requestTimeoutMs: number
  threads: number | null
  kvTokens: number | null
  /** Memory for weight sets together, beyond which only what serves is held; null for half of the free one. */
  weightBytes: number | null
  maxRunning: number | null
  /** Most tokens of a step with drafts. */
  draftTokens: number
  /** Share of the time of steps that scoring may take from requests. */
  scoringShare: number
  /** Time that a receipt may wait for its scores. */
  scoreTimeoutMs: number
  /** Time between two scores of the probe texts under a weight set. */
  probeMs: number
  /** `auto`: the sparse engine if its addon loads, otherwise ONNX. */
  backend: 'onnx' | 'sparse' | 'gpu' | 'auto'
  /** A part of the name of the GPU; null for the best of the machine. */
  gpu: string | null
  /** Kernel of the sparse engine; null for the fastest of the machine. */
  kernel: KernelName | null
  /** Form in which the sparse engine stores pruned weights; `auto` takes what is faster on this machine. */
  form: FormSetting
  /** Precision of the sparse engine's linears. */
  precision: Precision
  /** Precision of the sparse engine's head. */
  headPrecision: Precision
  /** How the sparse engine stores keys and values. */
  kvPrecision: KvPrecision
  logFormat: 'plain' | 'json' | null
  /** Where spans, metrics and log lines are sent. */
  otel: OtelSettings
}

/**
 * Reads the settings of a node; an empty variable counts as absent.
 *
 * @throws AppError `invalid_request` that names every invalid variable and its expected value
 */
export function readNodeSettings(env: Readonly<Record<string, string | undefined>>): NodeSettings {
  const given = Object.fromEntries(
    Object.entries(env).filter(([, value]) => value !== undefined && value !== ''),
  )
  const result = environment.safeParse(given)
  if (!result.success) {
    const lines = result.error.issues.map((issue) => {
      const name = String(issue.path[0])
      // Secrets themselves never reach a terminal.
      const value = given[name] === undefined || name.includes('SECRET') ? '' : ` is '${given[name]}'`
      return `${name}${value}: ${issue.message}`
    })
    throw new AppError(
      'invalid_request',
      `The environment of the node is invalid.\n${[...new Set(lines)].join('\n')}`,
    )
  }
  const read = result.data
  return {
    model: read.COPAL_MODEL,
    home: resolve(read.COPAL_HOME),
    cacheDir: cacheFolder(read),
    host: read.COPAL_NODE_HOST,
    port: read.COPAL_NODE_PORT,
    nodeId: nodeIdOfSecret(read.COPAL_NODE_SECRET) ?? '',
    advertisedUrl: read.COPAL_NODE_URL ?? null,
    gatewayUrl: read.COPAL_GATEWAY_URL,
    secret: read.COPAL_NODE_SECRET,
    otherSecrets: read.COPAL_NODE_SECRET_ALTERNATE === undefined ? [] : [read.COPAL_NODE_SECRET_ALTERNATE],
    gatewayHeaders: accessHeaders(read.COPAL_ACCESS_CLIENT_ID, read.COPAL_ACCESS_CLIENT_SECRET),
    heartbeatMs: read.COPAL_HEARTBEAT_MS,
    graceMs: read.COPAL_GRACE_MS,
    requestTimeoutMs: read.COPAL_REQUEST_TIMEOUT_MS,
    threads: read.COPAL_THREADS ?? null,
    kvTokens: read.COPAL_KV_TOKENS ?? null,
    weightBytes: read.COPAL_WEIGHT_BYTES ?? null,
    maxRunning: read.COPAL_MAX_RUNNING ?? null,
    draftTokens: read.COPAL_DRAFT_TOKENS,
    scoringShare: read.COPAL_SCORING_SHARE,
    scoreTimeoutMs: read.COPAL_SCORE_TIMEOUT_MS,
    probeMs: read.COPAL_PROBE_MS,
    backend: read.COPAL_BACKEND,
    gpu: read.COPAL_GPU ?? null,
    kernel: read.COPAL_KERNEL ?? null,
    form: read.COPAL_FORM,
    precision: read.COPAL_PRECISION,
    headPrecision: read.COPAL_HEAD_PRECISION,
    kvPrecision: read.COPAL_KV_PRECISION,
    logFormat: read.COPAL_LOG ?? null,
    otel: readOtel(given, nodeIdOfSecret(read.COPAL_NODE_SECRET) ?? ''),
  }
}

/** Reads the standard variables of OpenTelemetry. The gateway decides by default which requests are traced. */
function readOtel(env: Readonly<Record<string, string | undefined>>, id: string): OtelSettings {
  try {
    return readOtelSettings(env, {
      sampler: 'parentbased_always_on',
      resource: { 'service.name': 'copal-node', 'service.instance.id': id },
    })
  } catch (error) {
    if (!(error instanceof OtelVariableError)) throw error
    const { variable, message } = error
    // Headers hold the credentials of the collector.
    const value = variable.endsWith('_HEADERS') ? '' : ` is '${env[variable]}'`
    throw new AppError(
      'invalid_request',
      `The environment of the node is invalid.\n${variable}${value}: ${message}`,
      { cause: error },
    )
  }
}

function accessHeaders(id: string | undefined, secret: string | undefined): Record<string, string> {
  return id && secret ? { 'cf-access-client-id': id, 'cf-access-client-secret': secret } : {}
}
