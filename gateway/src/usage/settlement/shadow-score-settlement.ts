import type { Deps } from '../../contracts/bindings.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { insertShadowScores } from '../../storage/db/queries/shadow-score-queries.ts'
import { attestedRecords } from './attested-records.ts'
import { boundedScore } from './bounded-receipt.ts'

/** Stores the shadow scores of a heartbeat. They are samples: scores that cannot be stored are logged and dropped. */
export async function settleShadowScores(
  deps: Pick<Deps, 'db' | 'nowMs' | 'attestations'>,
  { nodeId, model, shadows = [] }: Heartbeat,
): Promise<void> {
  try {
    const own = shadows.filter((score) => score.model === model.id)
    const attested = await attestedRecords(deps, nodeId, own, 'scores')
    await insertShadowScores(deps.db, attested.map(boundedScore), deps.nowMs())
  } catch (error) {
    console.error(`Cannot store ${shadows.length} shadow scores of node '${nodeId}'; they are lost:`, error)
  }
}
