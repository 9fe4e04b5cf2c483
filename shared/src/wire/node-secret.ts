import { z } from 'zod'
import { hmac } from './hmac.ts'

/** The name of a node, unique in the fleet. */
export const nodeId = z
  .string()
  .regex(/^[A-Za-z0-9._-]{1,64}$/, "expected 1 to 64 letters, digits, '.', '_' or '-'")

/** Domain separation: everything else derived from the gateway's secret has another label. */
const LABEL = 'copal node secret 1'

/**
 * Derives the secret of one node, `<node id>:<64 hex>`: HMAC-SHA256 of its id under the gateway's NODE_SECRET. Its holder
 * can act as this node and no other, and cannot derive the gateway's secret from it.
 */
export async function nodeSecret(gatewaySecret: string, id: string): Promise<string> {
  return `${id}:${await hmac(gatewaySecret, `${LABEL}\n${id}`)}`
}

/** Returns the node that a secret belongs to; undefined where it is not the secret of a node. */
export function nodeIdOfSecret(secret: string): string | undefined {
  return /^([A-Za-z0-9._-]{1,64}):[0-9a-f]{64}$/.exec(secret)?.[1]
}
