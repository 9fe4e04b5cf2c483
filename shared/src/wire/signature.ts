import { AppError } from '../errors.ts'

/** Header that carries the signature: `t=<unix milliseconds>,v1=<hex HMAC-SHA256>`. */
export const SIGNATURE_HEADER = 'x-copal-signature'

/** How far the clocks of gateway and node may differ, and how long a signature can be replayed. */
const MAX_SKEW_MS = 60_000

/**
 * What a signature covers. `path` holds the query; `body` is the exact bytes sent, or `bodySha256` their hash
 * in lower-case hex where the body is streamed and checked against that hash.
 */
export type SignedRequest = { method: string; path: string } & (
  | { body: Uint8Array<ArrayBuffer> }
  | { bodySha256: string }
)

/**
 * Signs one call between gateway and node with their shared secret.
 *
 * @returns the value for {@link SIGNATURE_HEADER}.
 */
export async function sign(secret: string, request: SignedRequest, nowMs: number): Promise<string> {
  const mac = await crypto.subtle.sign('HMAC', await importKey(secret), await message(request, nowMs))
  return `t=${nowMs},v1=${hex(new Uint8Array(mac))}`
}

/**
 * Verifies in constant time that `header` signs `request`, and that it is fresh.
 *
 * @throws AppError `invalid_signature`
 */
export async function verify(
  secret: string,
  request: SignedRequest,
  header: string | null | undefined,
  nowMs: number,
): Promise<void> {
  const match = /^t=(\d{1,15}),v1=([0-9a-f]{64})$/.exec(header ?? '')
  if (!match?.[1] || !match[2]) {
    throw new AppError('invalid_signature', `A valid '${SIGNATURE_HEADER}' header is required.`)
  }
  const signedAtMs = Number(match[1])
  if (Math.abs(nowMs - signedAtMs) > MAX_SKEW_MS) {
    throw new AppError(
      'invalid_signature',
      'The signature is too old or from the future. Compare the clocks of gateway and node.',
    )
  }
  const mac = Uint8Array.from(match[2].match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
  const valid = await crypto.subtle.verify(
    'HMAC',
    await importKey(secret),
    mac,
    await message(request, signedAtMs),
  )
  if (!valid)
    throw new AppError(
      'invalid_signature',
      'The signature does not match. Gateway and node must share COPAL_NODE_SECRET.',
    )
}

/** SHA-256 in lower-case hex. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)))
}

async function message(request: SignedRequest, atMs: number): Promise<Uint8Array<ArrayBuffer>> {
  const bodySha256 = 'body' in request ? await sha256(request.body) : request.bodySha256
  const text = `${atMs}\n${request.method.toUpperCase()}\n${request.path}\n${bodySha256}`
  // Copied, since Workers' types leave open which kind of buffer the encoder returns.
  return new Uint8Array(new TextEncoder().encode(text))
}

function importKey(secret: string): ReturnType<typeof crypto.subtle.importKey> {
  return crypto.subtle.importKey(
    'raw',
    new TextEncoder().encode(secret),
    { name: 'HMAC', hash: 'SHA-256' },
    false,
    ['sign', 'verify'],
  )
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}
