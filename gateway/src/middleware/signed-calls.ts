import type { Context } from 'hono'
import type { z } from 'zod'
import { AppError } from '@copal/shared/errors.ts'
import { validate, parseJson } from '@copal/shared/wire/validate.ts'
import {
  BODY_HASH_HEADER,
  claimedNodeId,
  sha256,
  SIGNATURE_HEADER,
  verify,
} from '@copal/shared/wire/signature.ts'
import type { AppEnv } from '../contracts/context.ts'
import { decodeBody, readBody } from '../runtime/body-reader.ts'

/**
 * Verifies that a call is signed by the node that it names, with the hash of its body.
 *
 * @returns that node
 * @throws AppError `invalid_signature`, also for a node that is revoked
 */
export async function requireSigned(c: Context<AppEnv>, bodySha256: string): Promise<string> {
  const { deps } = c.var
  const { pathname, search } = new URL(c.req.url)
  const header = c.req.header(SIGNATURE_HEADER)
  const nodeId = claimedNodeId(header)
  const request = {
    nodeId,
    to: 'gateway',
    method: c.req.method,
    path: pathname + search,
    bodySha256,
  } as const
  await verify(await deps.nodeSecrets(nodeId), request, header, deps.nowMs())
  if (!deps.revokedNodes.has(nodeId)) return nodeId
  throw new AppError(
    'invalid_signature',
    `The secret of node '${nodeId}' is revoked: COPAL_REVOKED_NODES of the gateway names it. Give the node another name, ` +
      'and the secret of that: `npx copal nodes secret <node id>`.',
  )
}

/**
 * Reads what a node tells of itself: its `nodeId` is the node whose secret has signed.
 *
 * @throws AppError `body_too_large`, `invalid_signature`, `invalid_request`
 */
export async function readFromNode<T extends { nodeId: string }>(
  c: Context<AppEnv>,
  schema: z.ZodType<T>,
  maxBytes: number,
): Promise<T> {
  const { nodeId, body } = await readSigned(c, maxBytes)
  const told = validate(schema, parseJson(decodeBody(body)))
  if (told.nodeId === nodeId) return told
  throw new AppError(
    'invalid_signature',
    `The call tells of node '${told.nodeId}' and is signed by node '${nodeId}'. A node speaks for itself alone.`,
    { param: 'nodeId' },
  )
}

/**
 * Reads the body of a call from a node: nothing of it before it is known to be a node's, by the hash that it names.
 *
 * @throws AppError `body_too_large`, `invalid_signature`
 */
export async function readSigned(
  c: Context<AppEnv>,
  maxBytes: number,
): Promise<{ nodeId: string; body: Uint8Array<ArrayBuffer> }> {
  const bodySha256 = c.req.header(BODY_HASH_HEADER)
  if (bodySha256 === undefined) {
    throw new AppError(
      'invalid_signature',
      `Calls to the gateway have the headers '${SIGNATURE_HEADER}' and '${BODY_HASH_HEADER}'. A node that sends only ` +
        'the first is older than the gateway: upgrade it.',
    )
  }
  const nodeId = await requireSigned(c, bodySha256)
  const body = await readBody(c.req.raw, maxBytes)
  if ((await sha256(body)) === bodySha256) return { nodeId, body }
  throw new AppError('invalid_signature', `The body does not have the hash that '${BODY_HASH_HEADER}' names.`)
}
