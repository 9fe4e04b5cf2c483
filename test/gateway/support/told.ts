import type { KeptAnswer, Receipt } from '@copal/shared/wire/node-rpc.ts'
import { createTickets, type Given } from '../../../gateway/src/fleet/auth/attestations.ts'
import { TEST_NODE_SECRET } from './secrets.ts'

const tickets = createTickets([TEST_NODE_SECRET])

/** A heartbeat, receipts or an answer, well-formed or not. */
export interface Told {
  nodeId: string
  [field: string]: unknown
}
/** A receipt or a score. */
type OfRequest = Pick<Receipt, 'requestId' | 'model' | 'domain' | 'account' | 'ticket'>

/** What a node tells, with the tickets that it was given of all that it tells of; those that it has stay. */
export async function withTickets(told: Told): Promise<object> {
  const { nodeId } = told
  const add = async <T extends { ticket?: string | undefined }>(
    part: T,
    what: Given['what'],
  ): Promise<T> => ({
    ...part,
    ticket: part.ticket ?? (await tickets.issue({ nodeId, what })),
  })
  const addAll = (parts: unknown) =>
    Promise.all((parts as OfRequest[]).map((part) => add(part, { request: part })))
  if ('tenant' in told) return add({ ...told } as KeptAnswer, { answer: told as KeptAnswer })
  const { receipts, shadows } = told
  return {
    ...told,
    ...(receipts === undefined ? {} : { receipts: await addAll(receipts) }),
    ...(shadows === undefined ? {} : { shadows: await addAll(shadows) }),
  }
}
