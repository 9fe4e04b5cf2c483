import { env, exports } from 'cloudflare:workers'
import type { ErrorBody } from '@copal/shared/errors.ts'
import type { Heartbeat, HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { signedHeaders } from '@copal/shared/wire/signature.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { insertKey, type NewKeyRow } from '../../../../gateway/src/storage/db/queries/key-queries.ts'
import { digestOf, generateKey, pepperedHash } from '../../../../gateway/src/keys/key-secret.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'
import { fetchDocumented } from './documented.ts'
import { TEST_ADMIN_KEY, TEST_KEY_PEPPER, TEST_NODE_SECRET } from '../setup/secrets.ts'
import { withAttestations, type NodeReport } from './attested-reports.ts'

/** Origin of the Worker under test. */
export const ORIGIN = 'http://gateway'

/** Stores a fresh API key and returns it with its id. */
export async function createKey(options: Partial<NewKeyRow> = {}): Promise<{ id: string; key: string }> {
  const { key, prefix } = generateKey()
  const { id } = await insertKey(openDatabase(env.DB), {
    id: `key_${crypto.randomUUID()}`,
    name: 'test',
    hash: await pepperedHash(TEST_KEY_PEPPER, await digestOf(key)),
    peppered: true,
    prefix,
    defaultDomain: 'default',
    sampling: 'opt_in',
    createdAt: Date.now(),
    ...options,
  })
  return { id, key }
}

/** Posts to the public API. Sends `body` as JSON unless it is a string. */
export function post(
  key: string,
  path: string,
  body: unknown,
  init: { signal?: AbortSignal; headers?: Record<string, string> } = {},
): Promise<Response> {
  return fetchDocumented(
    new Request(ORIGIN + path, {
      method: 'POST',
      ...init,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...init.headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    }),
  )
}

/** Gets a path with a bearer token. */
export function get(path: string, token: string = TEST_ADMIN_KEY): Promise<Response> {
  return fetchDocumented(new Request(ORIGIN + path, { headers: { authorization: `Bearer ${token}` } }))
}

/** Returns the error of a response. Throws when the body is none. */
export async function errorOf(response: Response): Promise<ErrorBody['error']> {
  return (await response.json<ErrorBody>()).error
}

const signedMs = new Set<number>()

/** Returns the time, or the next millisecond that is not taken, as nodes sign: equal calls have signatures of their own. */
export function signingTime(): number {
  let ms = Date.now()
  while (signedMs.has(ms)) ms += 1
  signedMs.add(ms)
  return ms
}

/** Calls the gateway as a node, with attestations. `as` signs as another node, `send` uses other bindings. */
export async function signedPost(
  path: string,
  told: NodeReport,
  {
    as = told.nodeId,
    secret,
    send = (request) => exports.default.fetch(request),
  }: { as?: string; secret?: string; send?: (request: Request) => Response | Promise<Response> } = {},
): Promise<Response> {
  const body = new Uint8Array(new TextEncoder().encode(JSON.stringify(await withAttestations(told))))
  const signed = { nodeId: as, to: 'gateway', method: 'POST', path, body } as const
  const headers = await signedHeaders(
    secret ?? (await nodeSecret(TEST_NODE_SECRET, as)),
    signed,
    signingTime(),
  )
  return send(new Request(ORIGIN + path, { method: 'POST', headers, body }))
}

/** Sends a heartbeat and returns the response. */
export async function sendHeartbeat(
  node: { id: string; url: string },
  model: string,
  changes: Partial<Heartbeat> = {},
): Promise<HeartbeatResponse> {
  const response = await signedPost('/internal/nodes/heartbeat', heartbeatOf(node, model, changes))
  if (!response.ok) throw new Error(`the heartbeat was rejected: ${await response.text()}`)
  return response.json<HeartbeatResponse>()
}

/** Returns a receipt of a request that generated five tokens. */
export function receiptOf(requestId: string, changes: Partial<Receipt> = {}): Receipt {
  return {
    requestId,
    model: 'tiny',
    domain: 'default',
    maskVersion: 0,
    promptTokens: 10,
    completionTokens: 5,
    finishReason: 'stop',
    queueMs: 1,
    timeToFirstTokenMs: 12,
    totalMs: 40,
    drift: null,
    ...changes,
  }
}

/** Polls until `probe` returns something. */
export async function until<T>(what: string, probe: () => Promise<T | undefined>): Promise<T> {
  for (let tries = 0; tries < 4_800; tries += 1) {
    const found = await probe()
    if (found !== undefined) return found
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
  throw new Error(`timed out waiting for ${what}`)
}
