import { ignoredFields } from '@copal/shared/wire/inference-fields.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import type { Generation } from '../../contracts/generation.ts'

/** What is hashed changed its shape: answers from before are not found any more. */
const FORMAT = 2

/** Fields that say nothing about the answer. The tier is told in it, and a response repeats all of them. */
const BYSTANDERS = new Set(Object.keys(ignoredFields).filter((name) => name !== 'service_tier'))

/** A request, as far as a key is made of it. */
export type KeyedRequest = Pick<Generation, 'path' | 'request'> & { tenant: string; model: string }

/** Whether the same request gets the same answer again: it draws nothing, or draws it from a seed. */
export function isRepeatable({ path, request }: Pick<Generation, 'path' | 'request'>): boolean {
  return path === '/rpc/embeddings' || request.temperature === 0 || request.seed != null
}

/**
 * Names a request by what its answer depends on beside the mask: a SHA-256 in hex over tenant, model, and every field that
 * may change the answer. Null is as good as leaving a field out, and the order of fields says nothing; inside of them it
 * may, as in a JSON schema.
 */
export async function requestKey({ tenant, path, model, request }: KeyedRequest): Promise<string> {
  const ignored = path === '/rpc/responses' ? new Set<string>() : BYSTANDERS
  const fields = Object.entries(request)
    .filter(([name, value]) => value != null && name !== 'model' && !ignored.has(name))
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
  const text = JSON.stringify([FORMAT, tenant, path, model, fields])
  return sha256(new Uint8Array(new TextEncoder().encode(text)))
}

/** Names the answer that one mask gives to a request. */
export function responseKey(request: string, maskVersion: number): string {
  return `${request}-m${maskVersion}`
}
