import { ignoredFields } from '@copal/shared/wire/inference-fields.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import type { Generation } from '../../contracts/generation.ts'

/** Version of the hashed content. Increment it when that changes: responses cached before are then no longer found. */
const KEY_FORMAT = 2

/**
 * Fields that do not affect the response. `service_tier` does: the response repeats it. Responses of `/v1/responses`
 * repeat every field, so for them no field is ignored.
 */
const IRRELEVANT_FIELDS = new Set(
  [...Object.keys(ignoredFields), 'prediction'].filter((name) => name !== 'service_tier'),
)

/** The parts of a request that its cache key depends on. */
export type KeyedRequest = Pick<Generation, 'path' | 'request'> & { tenant: string; model: string }

/** Returns whether the same request gives the same response again: it samples no tokens, or samples them from a seed. */
export function isRepeatable({ path, request }: Pick<Generation, 'path' | 'request'>): boolean {
  return path === '/rpc/embeddings' || request.temperature === 0 || request.seed != null
}

/**
 * Returns the cache key of a request, without the mask: a SHA-256 in hex over tenant, path, model, and every field that
 * may change the response. A null field counts as absent. The order of top-level fields does not matter; the order
 * inside them may, as in a JSON schema.
 */
export async function requestKey({ tenant, path, model, request }: KeyedRequest): Promise<string> {
  const ignored = path === '/rpc/responses' ? new Set<string>() : IRRELEVANT_FIELDS
  const fields = Object.entries(request)
    .filter(([name, value]) => value != null && name !== 'model' && !ignored.has(name))
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
  const text = JSON.stringify([KEY_FORMAT, tenant, path, model, fields])
  return sha256(new Uint8Array(new TextEncoder().encode(text)))
}

/** Returns the key of a request's response under one mask. */
export function responseKey(request: string, maskVersion: number): string {
  return `${request}-m${maskVersion}`
}
