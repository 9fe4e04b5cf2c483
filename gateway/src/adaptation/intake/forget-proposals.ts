import type { Deps } from '../../contracts/bindings.ts'
import { deleteOpenProposals } from '../../storage/db/queries/discovery-queries.ts'

/** Time within which the texts of a stored proposal are marked as its own. */
const MARKING_MS = 5 * 60 * 1000

/**
 * Deletes the open proposals that have no text any more, because all are deleted or have expired: proposals have words of their texts.
 *
 * @param withTexts the ids of those that have texts
 */
export async function forgetEmptyProposals(
  { db, nowMs }: Pick<Deps, 'db' | 'nowMs'>,
  withTexts: readonly string[],
): Promise<void> {
  await deleteOpenProposals(db, { beforeMs: nowMs() - MARKING_MS, kept: withTexts })
}
