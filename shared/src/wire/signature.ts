import { AppError } from '../errors.ts'
import { hex, hmac, isHmac } from './hmac.ts'

/**
 * Header that carries the signature: `t=<unix milliseconds>,node=<id>,to=<node or gateway>,v3=<hex HMAC-SHA256>`. Whoever
 * calls whom, it names the node, whose secret signs.
 */
export const SIGNATURE_HEADER = 'x-copal-signature'

/**
 * Header of a call: the SHA-256 of the body, which the signature covers. By it who is called knows whose a body is before
 * any of it is held.
 */
export const BODY_HASH_HEADER = 'x-copal-body-sha256'

/** How far the clocks of gateway and node may differ, and how long a signature is good for. */
export const MAX_SKEW_MS = 60_000

/**
 * What a signature covers. `path` holds the query; `body` is the exact bytes sent, or `bodySha256` their hash
 * in lower-case hex where the body is streamed and checked against that hash.
 */
export type SignedRequest = {
  /** The node that calls the gateway, or is called by it. */
  nodeId: string
  /** Who is called. */
  to: 'node' | 'gateway'
  method: string
  path: string
} & ({ body: Uint8Array<ArrayBuffer> } | { bodySha256: string })

/**
 * Signs one call between the gateway and a node with the secret of that node.
 *
 * @returns the value for {@link SIGNATURE_HEADER}.
 */
export async function sign(secret: string, request: SignedRequest, nowMs: number): Promise<string> {
  const atMs = Math.floor(nowMs)
  const mac = await hmac(secret, await signedText(request, atMs))
  return `t=${atMs},node=${request.nodeId},to=${request.to},v3=${mac}`
}

/** The headers that sign a call. */
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
 * The node that a signature names, whose secret is to be asked for: nothing is proven by that.
 *
 * @throws AppError `invalid_signature`
 */
export function claimedNodeId(header: string | null | undefined): string {
  return parseHeader(header).nodeId
}

/**
 * Verifies in constant time that `header` signs `request` for whom it reached, and that it is fresh.
 *
 * @param secrets of the node; any of them may have signed: two, while a secret is being replaced
 * @throws AppError `invalid_signature` that says what is wrong: the clock, the recipient, or the signature itself
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
      `The call was signed ${when} by the clock here; at most ${MAX_SKEW_MS / 1000} s are accepted. ` +
        'Set the clocks of gateway and node (NTP).',
    )
  }
  if (to !== request.to || nodeId !== request.nodeId) {
    const who = (called: string, node: string) => (called === 'node' ? `node '${node}'` : 'the gateway')
    throw new AppError(
      'invalid_signature',
      `The call is signed for ${who(to, nodeId)} and reached ${who(request.to, request.nodeId)}. Each node needs a ` +
        'secret and an address (COPAL_NODE_URL) of its own.',
    )
  }
  const signed = await signedText(request, atMs)
  for (const secret of secrets) if (await isHmac(secret, signed, mac)) return
  throw new AppError(
    'invalid_signature',
    `The signature does not match. As COPAL_NODE_SECRET node '${nodeId}' needs what 'npx copal nodes secret ${nodeId}' ` +
      "makes of the gateway's NODE_SECRET, and what lies between them must change neither path nor body.",
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
      ? 'The call is signed as before nodes had secrets of their own (v2). Upgrade gateway and nodes, and give each node ' +
          "its secret: 'Upgrading' in docs/operations.md."
      : `A valid '${SIGNATURE_HEADER}' header is required.`,
  )
}

/** SHA-256 in lower-case hex. */
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
