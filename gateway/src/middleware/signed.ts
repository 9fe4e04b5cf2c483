import type { Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { BODY_HASH_HEADER, sha256, SIGNATURE_HEADER, verify } from '@copal/shared/wire/signature.ts'
import type { AppEnv } from '../context.ts'
import { readBody } from './body.ts'

/**
 * Verifies that a call is signed by a node with the hash of its body.
 *
 * @throws AppError `invalid_signature`
 */
export async function requireSigned(c: Context<AppEnv>, bodySha256: string): Promise<void> {
  const { deps } = c.var
  const { pathname, search } = new URL(c.req.url)
  const request = { method: c.req.method, path: pathname + search, bodySha256 }
  await verify(deps.nodeSecrets, request, c.req.header(SIGNATURE_HEADER), deps.nowMs())
}

/**
 * Reads the body of a call from a node: nothing of it before it is known to be a node's, by the hash that it names.
 *
 * @throws AppError `body_too_large`, `invalid_signature`
 */
export async function readSigned(c: Context<AppEnv>, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const bodySha256 = c.req.header(BODY_HASH_HEADER)
  if (bodySha256 === undefined) {
    throw new AppError(
      'invalid_signature',
      `Calls to the gateway have the headers '${SIGNATURE_HEADER}' and '${BODY_HASH_HEADER}'. A node that sends only ` +
        'the first is older than the gateway: upgrade it.',
    )
  }
  await requireSigned(c, bodySha256)
  const body = await readBody(c.req.raw, maxBytes)
  if ((await sha256(body)) === bodySha256) return body
  throw new AppError('invalid_signature', `The body does not have the hash that '${BODY_HASH_HEADER}' names.`)
}
