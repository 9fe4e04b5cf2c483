import type { CachedResponse, Receipt } from '@copal/shared/wire/node-rpc.ts'
import { createAttestations } from '../../../../gateway/src/fleet/auth/attestations.ts'
import type { AttestedFact } from '../../../../gateway/src/contracts/node-auth.ts'
import { TEST_NODE_SECRET } from '../setup/secrets.ts'

const attestations = createAttestations([TEST_NODE_SECRET])

/** A heartbeat, receipts or an answer, well-formed or not. */
export interface Told {
  nodeId: string
  [field: string]: unknown
}
/** A receipt or a score. */
type OfRequest = Pick<Receipt, 'requestId' | 'model' | 'domain' | 'account' | 'attestation'>

/** What a node tells, with the attestations that it was given of all that it tells of; those that it has stay. */
export async function withAttestations(told: Told): Promise<object> {
  const { nodeId } = told
  const add = async <T extends { attestation?: string | undefined }>(
    part: T,
    what: AttestedFact['what'],
  ): Promise<T> => ({
    ...part,
    attestation: part.attestation ?? (await attestations.issue({ nodeId, what })),
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
