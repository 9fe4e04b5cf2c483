import type { ShadowScore } from '@copal/shared/wire/heartbeat.ts'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import type { Deps } from '../../contracts/bindings.ts'

/**
 * Returns the records whose attestation shows that the node was called with their request. The others are logged and
 * dropped.
 *
 * @param what the kind of the records, for the log
 */
export async function attestedRecords<T extends Receipt | ShadowScore>(
  deps: Pick<Deps, 'attestations'>,
  nodeId: string,
  records: readonly T[],
  what: string,
): Promise<Omit<T, 'attestation'>[]> {
  const checked = await Promise.all(
    records.map(async ({ attestation, ...rest }) => ({
      rest,
      isGood: await deps.attestations.isFor(attestation, { nodeId, what: { request: rest } }),
    })),
  )
  const bad = checked.filter(({ isGood }) => !isGood).map(({ rest }) => rest.requestId)
  if (bad.length > 0)
    console.error(
      `${bad.length} of ${records.length} ${what} of node '${nodeId}' count for nothing: they are of requests that it was not called with, ` +
        `or not like that. The first is ${bad[0]}.`,
    )
  return checked.filter(({ isGood }) => isGood).map(({ rest }) => rest)
}
