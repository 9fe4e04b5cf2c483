import { AppError } from '@copal/shared/errors.ts'
import { parseJson } from '@copal/shared/wire/validate.ts'
import { BODY_HASH_HEADER, sha256, SIGNATURE_HEADER, verify } from '@copal/shared/wire/signature.ts'
import { monotonicMs } from '../../platform/clock.ts'
import type { ReplayGuard } from './replay-guard.ts'

/**
 * Verifies a signed call and returns its JSON value. The signature must be valid, for this node, and not used before; it
 * covers the path as requested and the hash of the body. The body is read only after the signature was verified.
 *
 * @throws AppError `body_too_large`, `invalid_signature`, `invalid_request` when it is not UTF-8 or not JSON,
 * `client_closed_request` when it ends early
 */
export async function readSignedJson(
  request: Request,
  options: {
    nodeId: string
    secrets: readonly string[]
    replays: ReplayGuard
    maxBytes: number
    /** Unix time, with which that of the signature is compared. */
    nowMs: number
  },
): Promise<unknown> {
  const { pathname, search } = new URL(request.url)
  const bodySha256 = request.headers.get(BODY_HASH_HEADER)
  const signature = request.headers.get(SIGNATURE_HEADER)
  if (bodySha256 === null || signature === null) {
    throw new AppError(
      'invalid_signature',
      `Calls to nodes have the headers '${SIGNATURE_HEADER}' and '${BODY_HASH_HEADER}'. A gateway that sends only the ` +
        'first is older than this node: deploy it again.',
    )
  }
  const { nodeId } = options
  const signed = { nodeId, to: 'node', method: request.method, path: pathname + search, bodySha256 } as const
  await verify(options.secrets, signed, signature, options.nowMs)
  options.replays.use(signature, monotonicMs())
  const body = await readBounded(request, options.maxBytes)
  if ((await sha256(body)) !== bodySha256)
    throw new AppError(
      'invalid_signature',
      `The body does not have the hash that '${BODY_HASH_HEADER}' names.`,
    )
  return parseJson(decode(body))
}

async function readBounded(request: Request, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  if (Number(request.headers.get('content-length') ?? 0) > maxBytes) throw tooLarge(maxBytes)
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of unlessBroken(request.body)) {
    size += chunk.length
    if (size > maxBytes) throw tooLarge(maxBytes)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** Yields the chunks of a body. A connection that breaks meanwhile is no fault of the node. */
async function* unlessBroken(body: Request['body']): AsyncGenerator<Uint8Array> {
  try {
    yield* body ?? []
  } catch (cause) {
    const message = 'The connection was closed before the body had arrived.'
    throw new AppError('client_closed_request', message, { cause })
  }
}

function decode(body: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body)
  } catch (cause) {
    throw new AppError('invalid_request', 'The request body is not UTF-8.', { cause })
  }
}

function tooLarge(maxBytes: number): AppError {
  return new AppError(
    'body_too_large',
    `The request body is larger than ${maxBytes} bytes, the most this path takes.`,
  )
}
