import type { ShadowScore } from '@copal/shared/wire/heartbeat.ts'
import type { Receipt } from '@copal/shared/wire/receipts.ts'
import { attestedTime } from '../../fleet/auth/attestations.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { RequestOrigin } from '../../contracts/node-auth.ts'

/**
 * Returns the records whose attestation shows that the node was called with their request, with the time of the call and
 * the origin of the request as far as the attestation tells it. The others are logged and dropped.
 *
 * @param what the kind of the records, for the log
 */
export async function attestedRecords<T extends Receipt | ShadowScore>(
  deps: Pick<Deps, 'attestations'>,
  nodeId: string,
  records: readonly T[],
  what: string,
): Promise<(Omit<T, 'attestation'> & RequestOrigin & { attestedAtMs: number })[]> {
  const checked = await Promise.all(
    records.map(async ({ attestation, ...rest }) => ({
      rest: { ...rest, attestedAtMs: attestedTime(attestation ?? '') },
      origin: await deps.attestations.read(attestation, { nodeId, subject: { request: rest } }),
    })),
  )
  const rejected = checked.filter(({ origin }) => !origin).map(({ rest }) => rest.requestId)
  if (rejected.length > 0)
    console.error(
      `${rejected.length} of ${records.length} ${what} of node '${nodeId}' are ignored: their attestations do not match ` +
        `or have expired, so the node was not called with these requests of late. The first is ${rejected[0]}.`,
    )
  return checked.flatMap(({ rest, origin }) => (origin ? { ...rest, ...origin } : []))
}
