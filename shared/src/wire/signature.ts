import { AppError } from '../errors.ts'
import { hex, hmac, isHmac } from './hmac.ts'

/**
 * Header of the signature: `t=<unix milliseconds>,node=<id>,to=<node or gateway>,v3=<hex HMAC-SHA256>`. In both directions
 * it names the node, whose secret signs.
 */
export const SIGNATURE_HEADER = 'x-copal-signature'

/**
 * Header of the body's SHA-256, which the signature covers. It lets the recipient authenticate a call before it reads the
 * body.
 */
export const BODY_HASH_HEADER = 'x-copal-body-sha256'

/** Maximum difference between the clocks of gateway and node; also how long a signature is valid. */
export const MAX_SKEW_MS = 60_000

/**
 * The parts of a call that a signature covers. `path` includes the query. `body` is the exact bytes sent; where the body is
 * streamed, `bodySha256` is their hash in lower-case hex, which the recipient checks.
 */
export type SignedRequest = {
  /** The node that calls the gateway or is called by it. */
  nodeId: string
  /** The recipient. */
  to: 'node' | 'gateway'
  method: string
  path: string
} & ({ body: Uint8Array<ArrayBuffer> } | { bodySha256: string })

/**
 * Signs a call between the gateway and a node with the secret of that node.
 *
 * @returns the value of {@link SIGNATURE_HEADER}
 */
export async function sign(secret: string, request: SignedRequest, nowMs: number): Promise<string> {
  const atMs = Math.floor(nowMs)
  const mac = await hmac(secret, await signedText(request, atMs))
  return `t=${atMs},node=${request.nodeId},to=${request.to},v3=${mac}`
}

/** Returns the headers that sign a call. */
export async function signedHeaders(
  secret: string,
  request: SignedRequest,
  nowMs: number,
): Promise<Record<string, string>> {
  const { nodeId, to, method, path } = request
  const bodySha256 = await bodyHash(request)
  return {
    [SIGNATURE_HEADER]: await sign(secret, { nodeId, to, method, path, bodySha256 }, nowMs),
    [BODY_HASH_HEADER]: bodySha256,
  }
}

/**
 * Returns the node that a signature names, so that its secret can be looked up. This proves nothing yet.
 *
 * @throws AppError `invalid_signature`
 */
export function claimedNodeId(header: string | null | undefined): string {
  return parseHeader(header).nodeId
}

/**
 * Returns the time and the HMAC of a signature, by which a second use of it is recognised. Verify it first.
 *
 * @throws AppError `invalid_signature`
 */
export function signatureUse(header: string | null | undefined): {
  nodeId: string
  mac: string
  signedAtMs: number
} {
  const { nodeId, mac, atMs } = parseHeader(header)
  return { nodeId, mac, signedAtMs: atMs }
}

/** Creates the error of a call whose signature was used before. */
export function replayedError(): AppError {
  return new AppError('invalid_signature', 'This call was made before. Sign every call anew.')
}

/**
 * Verifies in constant time that `header` signs `request` for this recipient, and that the signature is fresh.
 *
 * @param secrets of the node; two while a secret is being replaced, and either may have signed
 * @throws AppError `invalid_signature` that says whether the clock, the recipient or the signature is wrong
 */
export async function verify(
  secrets: readonly string[],
  request: SignedRequest,
  header: string | null | undefined,
  nowMs: number,
): Promise<void> {
  const { atMs, nodeId, to, mac } = parseHeader(header)
  const ageS = Math.round((nowMs - atMs) / 1000)
  if (Math.abs(nowMs - atMs) > MAX_SKEW_MS) {
    const when = ageS > 0 ? `${ageS} s ago` : `${-ageS} s in the future`
    throw new AppError(
      'invalid_signature',
      `The call was signed ${when} according to the recipient's clock; the maximum is ${MAX_SKEW_MS / 1000} s. ` +
        'Synchronise the clocks of gateway and node (NTP).',
    )
  }
  if (to !== request.to || nodeId !== request.nodeId) {
    const recipient = (side: string, node: string) => (side === 'node' ? `node '${node}'` : 'the gateway')
    throw new AppError(
      'invalid_signature',
      `The call is signed for ${recipient(to, nodeId)} but reached ${recipient(request.to, request.nodeId)}. Give each ` +
        'node a secret and an address (COPAL_NODE_URL) of its own.',
    )
  }
  const signed = await signedText(request, atMs)
  for (const secret of secrets) if (await isHmac(secret, signed, mac)) return
  throw new AppError(
    'invalid_signature',
    `The signature does not match. Set COPAL_NODE_SECRET of node '${nodeId}' to the output of ` +
      `'npx copal nodes secret ${nodeId}' for the gateway's NODE_SECRET, and make sure that no proxy between them changes ` +
      'the path or the body.',
  )
}

function parseHeader(header: string | null | undefined) {
  const match =
    /^t=(\d{1,15}),node=([A-Za-z0-9._-]{1,64}),to=(node|gateway),v3=([0-9a-f]{64})$/.exec(header ?? '') ?? []
  const [, at, nodeId, to, mac] = match
  if (at && nodeId && to && mac) return { atMs: Number(at), nodeId, to, mac }
  throw new AppError(
    'invalid_signature',
    /,v2=/.test(header ?? '')
      ? 'The call has a signature of an earlier version (v2). Upgrade gateway and nodes, and give each node its own secret: ' +
          "see 'Upgrading' in docs/operations.md."
      : `The call has no valid '${SIGNATURE_HEADER}' header. Only the gateway and its nodes may call this path.`,
  )
}

/** Returns the SHA-256 of bytes, in lower-case hex. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)))
}

async function bodyHash(request: SignedRequest): Promise<string> {
  return 'body' in request ? sha256(request.body) : request.bodySha256
}

async function signedText(request: SignedRequest, atMs: number): Promise<string> {
  const { nodeId, to, method, path } = request
  return [atMs, nodeId, to, method.toUpperCase(), path, await bodyHash(request)].join('\n')
}
