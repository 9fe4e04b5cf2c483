import type { Deps } from '../../contracts/bindings.ts'
import { deleteOpenProposals } from '../../storage/db/queries/discovery-queries.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'

/** Time within which the texts of a stored proposal are marked as its own. */
const MARKING_MS = 5 * 60 * 1000

/** Deletes the open proposals, which have words of their texts, that have no text any more: all are deleted or have expired. */
export async function forgetEmptyProposals({
  db,
  reservoir,
  nowMs,
}: Pick<Deps, 'db' | 'reservoir' | 'nowMs'>): Promise<void> {
  const beforeMs = nowMs() - MARKING_MS
  const sizes = await reservoir(UNASSIGNED).proposalSizes()
  await deleteOpenProposals(db, { beforeMs, kept: Object.keys(sizes) })
}
