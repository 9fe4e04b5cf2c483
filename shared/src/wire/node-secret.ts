import { z } from 'zod'
import { hmac } from './hmac.ts'

/** A node's name, its own in the fleet. */
export const nodeId = z
  .string()
  .regex(/^[A-Za-z0-9._-]{1,64}$/, "1 to 64 letters, digits, '.', '_' or '-' are expected")

/** Whatever else is derived from the gateway's secret begins otherwise. */
const LABEL = 'copal node secret 1'

/**
 * The secret of one node, `<node id>:<64 hex>`: HMAC-SHA256 of its id under the gateway's NODE_SECRET. Who has it can
 * speak for this node and no other, and cannot find the gateway's from it.
 */
export async function nodeSecret(gatewaySecret: string, id: string): Promise<string> {
  return `${id}:${await hmac(gatewaySecret, `${LABEL}\n${id}`)}`
}

/** Whose secret this is; undefined for one that is no node's, as the gateway's. */
export function nodeIdOfSecret(secret: string): string | undefined {
  return /^([A-Za-z0-9._-]{1,64}):[0-9a-f]{64}$/.exec(secret)?.[1]
}
