import type { Context } from 'hono'
import type { z } from 'zod'
import { AppError } from '@copal/shared/errors.ts'
import { validate, parseJson } from '@copal/shared/wire/validate.ts'
import {
  BODY_HASH_HEADER,
  claimedNodeId,
  replayedError,
  sha256,
  SIGNATURE_HEADER,
  signatureUse,
  verify,
} from '@copal/shared/wire/signature.ts'
import type { AppEnv } from '../contracts/context.ts'
import type { SignatureUse } from '../contracts/fleet-object.ts'
import { decodeBody, readBody } from '../runtime/body-reader.ts'

/**
 * Verifies that a call is signed by the node that it names, over the hash of its body.
 *
 * @returns the id of that node
 * @throws AppError `invalid_signature`, also for a revoked node
 */
export async function requireSignature(c: Context<AppEnv>, bodySha256: string): Promise<string> {
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
    `The secret of node '${nodeId}' was revoked by the gateway's COPAL_REVOKED_NODES. Give the node another name and ` +
      "that name's secret: `npx copal nodes secret <node id>`.",
  )
}

/** Returns the use of a verified call's signature. Calls of the Fleet object that change its state take it with them. */
export function signatureOf(c: Context<AppEnv>): SignatureUse {
  return signatureUse(c.req.header(SIGNATURE_HEADER))
}

/**
 * Checks that a verified call is made for the first time. The Fleet object remembers the signatures of all isolates.
 *
 * @throws AppError `invalid_signature`
 */
export async function requireFirstUse(c: Context<AppEnv>): Promise<void> {
  // Not repeated after a failure: the first attempt may have used the signature.
  if (!(await c.var.deps.fleet.useSignature(signatureOf(c)))) throw replayedError()
}

/**
 * Reads and validates a report that a node sends about itself: its `nodeId` must be the node whose secret signed it.
 *
 * @throws AppError `body_too_large`, `invalid_signature`, `invalid_request`
 */
export async function readNodeReport<T extends { nodeId: string }>(
  c: Context<AppEnv>,
  schema: z.ZodType<T>,
  maxBytes: number,
): Promise<T> {
  const { nodeId, body } = await readSignedBody(c, maxBytes)
  const report = validate(schema, parseJson(decodeBody(body)))
  if (report.nodeId === nodeId) return report
  throw new AppError(
    'invalid_signature',
    `The body names node '${report.nodeId}' but is signed by node '${nodeId}'. A node can only report for itself.`,
    { param: 'nodeId' },
  )
}

/**
 * Reads the body of a call from a node. The signature is verified over the hash in the header before any of the body is
 * read.
 *
 * @throws AppError `body_too_large`, `invalid_signature`
 */
export async function readSignedBody(
  c: Context<AppEnv>,
  maxBytes: number,
): Promise<{ nodeId: string; body: Uint8Array<ArrayBuffer> }> {
  const bodySha256 = c.req.header(BODY_HASH_HEADER)
  if (bodySha256 === undefined) {
    throw new AppError(
      'invalid_signature',
      `The header '${BODY_HASH_HEADER}' is missing; calls to the gateway need it beside '${SIGNATURE_HEADER}'. A node ` +
        'that does not send it is older than the gateway: upgrade the node.',
    )
  }
  const nodeId = await requireSignature(c, bodySha256)
  const body = await readBody(c.req.raw, maxBytes)
  if ((await sha256(body)) === bodySha256) return { nodeId, body }
  throw new AppError(
    'invalid_signature',
    `The body does not match the hash in '${BODY_HASH_HEADER}'. Sign the body as it is sent.`,
  )
}
