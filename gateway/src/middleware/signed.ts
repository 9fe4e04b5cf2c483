import type { Context } from 'hono'
import { verify, SIGNATURE_HEADER } from '@copal/shared/wire/signature.ts'
import type { AppEnv } from '../context.ts'
import { readBody } from './body.ts'

/**
 * Reads the body of a call from a node and verifies its signature.
 *
 * @throws AppError `body_too_large`, `invalid_signature`
 */
export async function readSigned(c: Context<AppEnv>, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const { deps } = c.var
  const body = await readBody(c.req.raw, maxBytes)
  const { pathname, search } = new URL(c.req.url)
  const request = { method: c.req.method, path: pathname + search, body }
  await verify(deps.nodeSecrets, request, c.req.header(SIGNATURE_HEADER), deps.nowMs())
  return body
}
