import type { CachedResponse, Receipt } from '@copal/shared/wire/receipts.ts'
import { createAttestations } from '../../../../gateway/src/fleet/auth/attestations.ts'
import type { AttestedCall } from '../../../../gateway/src/contracts/node-auth.ts'
import { TEST_NODE_SECRET } from '../setup/secrets.ts'

const attestations = createAttestations([TEST_NODE_SECRET])

/** A heartbeat, receipts or a response to cache, valid or not. */
export interface NodeReport {
  nodeId: string
  [field: string]: unknown
}
/** A receipt or a score. */
type OfRequest = Pick<Receipt, 'requestId' | 'model' | 'domain' | 'account' | 'attestation'>

/** Adds the attestations that the gateway would have issued to the parts of a report that have none. */
export async function withAttestations(told: NodeReport): Promise<object> {
  const { nodeId } = told
  const add = async <T extends { attestation?: string | undefined }>(
    part: T,
    subject: AttestedCall['subject'],
  ): Promise<T> => ({
    ...part,
    attestation: part.attestation ?? (await attestations.issue({ nodeId, subject })),
  })
  const addAll = (parts: unknown) =>
    Promise.all((parts as OfRequest[]).map((part) => add(part, { request: part })))
  if ('tenant' in told) return add({ ...told } as CachedResponse, { answer: told as CachedResponse })
  const { receipts, shadows } = told
  return {
    ...told,
    ...(receipts === undefined ? {} : { receipts: await addAll(receipts) }),
    ...(shadows === undefined ? {} : { shadows: await addAll(shadows) }),
  }
}
