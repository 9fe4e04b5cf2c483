import { deleteShadowScores } from '../db/queries/shadow-scores.ts'
import type { Deps } from '../deps.ts'

/** As long as samples. */
const KEEP_MS = 30 * 24 * 60 * 60 * 1000

/** Deletes the scores of shadows that nobody asks for any more. */
export async function deleteOldScores(deps: Pick<Deps, 'db' | 'nowMs'>): Promise<void> {
  await deleteShadowScores(deps.db, deps.nowMs() - KEEP_MS)
}
