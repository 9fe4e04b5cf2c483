import { AppError } from '../errors.ts'

/** Header that carries the signature: `t=<unix milliseconds>,to=<who is called>,v2=<hex HMAC-SHA256>`. */
export const SIGNATURE_HEADER = 'x-copal-signature'

/**
 * Header of a call: the SHA-256 of the body, which the signature covers. By it who is called knows whose a body is before
 * any of it is held.
 */
export const BODY_HASH_HEADER = 'x-copal-body-sha256'

/** How far the clocks of gateway and node may differ, and how long a signature is good for. */
export const MAX_SKEW_MS = 60_000

const GATEWAY = 'gateway'
const encoder = new TextEncoder()

/**
 * What a signature covers. `path` holds the query; `body` is the exact bytes sent, or `bodySha256` their hash
 * in lower-case hex where the body is streamed and checked against that hash.
 */
export type SignedRequest = {
  /** The id of the node that is called; without it the gateway is. */
  nodeId?: string | undefined
  method: string
  path: string
} & ({ body: Uint8Array<ArrayBuffer> } | { bodySha256: string })

/**
 * Signs one call between gateway and node with their shared secret.
 *
 * @returns the value for {@link SIGNATURE_HEADER}.
 */
export async function sign(secret: string, request: SignedRequest, nowMs: number): Promise<string> {
  const atMs = Math.floor(nowMs)
  const mac = await crypto.subtle.sign('HMAC', await importKey(secret), await message(request, atMs))
  return `t=${atMs},to=${recipient(request)},v2=${hex(new Uint8Array(mac))}`
}

/** The headers that sign a call. */
export async function signedHeaders(
  secret: string,
  request: SignedRequest,
  nowMs: number,
): Promise<Record<string, string>> {
  const { nodeId, method, path } = request
  const bodySha256 = await bodyHash(request)
  return {
    [SIGNATURE_HEADER]: await sign(secret, { nodeId, method, path, bodySha256 }, nowMs),
    [BODY_HASH_HEADER]: bodySha256,
  }
}

/**
 * Verifies in constant time that `header` signs `request` for whom it reached, and that it is fresh.
 *
 * @param secrets any of them may have signed: two, while a secret is being replaced
 * @throws AppError `invalid_signature` that says what is wrong: the clock, the recipient, or the signature itself
 */
export async function verify(
  secrets: readonly string[],
  request: SignedRequest,
  header: string | null | undefined,
  nowMs: number,
): Promise<void> {
  const match = /^t=(\d{1,15}),to=([A-Za-z0-9._:-]{1,80}),v2=([0-9a-f]{64})$/.exec(header ?? '')
  if (!match?.[1] || !match[2] || !match[3]) {
    throw new AppError('invalid_signature', `A valid '${SIGNATURE_HEADER}' header is required.`)
  }
  const signedAtMs = Number(match[1])
  const ageS = Math.round((nowMs - signedAtMs) / 1000)
  if (Math.abs(nowMs - signedAtMs) > MAX_SKEW_MS) {
    const when = ageS > 0 ? `${ageS} s ago` : `${-ageS} s in the future`
    throw new AppError(
      'invalid_signature',
      `The call was signed ${when} by the clock here; at most ${MAX_SKEW_MS / 1000} s are accepted. ` +
        'Set the clocks of gateway and node (NTP).',
    )
  }
  const expected = recipient(request)
  if (match[2] !== expected) {
    throw new AppError(
      'invalid_signature',
      `The call is signed for '${match[2]}' and reached '${expected}'. Each node needs an id and an address ` +
        '(COPAL_NODE_URL) of its own.',
    )
  }
  const mac = Uint8Array.from(match[3].match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
  const signed = await message(request, signedAtMs)
  for (const secret of secrets)
    if (await crypto.subtle.verify('HMAC', await importKey(secret), mac, signed)) return
  throw new AppError(
    'invalid_signature',
    'The signature does not match. Gateway and node must share COPAL_NODE_SECRET, and what lies between them must ' +
      'change neither path nor body.',
  )
}

/** SHA-256 in lower-case hex. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)))
}

function recipient({ nodeId }: SignedRequest): string {
  return nodeId === undefined ? GATEWAY : `node:${nodeId}`
}

async function bodyHash(request: SignedRequest): Promise<string> {
  return 'body' in request ? sha256(request.body) : request.bodySha256
}

async function message(request: SignedRequest, atMs: number): Promise<Uint8Array<ArrayBuffer>> {
  const bodySha256 = await bodyHash(request)
  const text = [atMs, recipient(request), request.method.toUpperCase(), request.path, bodySha256].join('\n')
  // Copied, since Workers' types leave open which kind of buffer the encoder returns.
  return new Uint8Array(encoder.encode(text))
}

type HmacKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>

/** Imported secrets: there are two at most, while one is replaced, but in tests. */
const keys = new Map<string, HmacKey>()
const MOST_KEYS = 8

async function importKey(secret: string): Promise<HmacKey> {
  const known = keys.get(secret)
  if (known) return known
  const algorithm = { name: 'HMAC', hash: 'SHA-256' }
  const raw = encoder.encode(secret)
  const key = await crypto.subtle.importKey('raw', raw, algorithm, false, ['sign', 'verify'])
  if (keys.size >= MOST_KEYS) keys.clear()
  keys.set(secret, key)
  return key
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** Bytes in lower-case hex. */
export function hex(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += HEX[byte]
  return text
}
