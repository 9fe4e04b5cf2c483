import { DAY_MS } from '@copal/shared/day.ts'
import type { Deps } from '../../../contracts/bindings.ts'
import { deleteAlerts } from '../../../storage/db/queries/alert-queries.ts'
import { deleteDetectorStates } from '../../../storage/db/queries/detector-queries.ts'
import { deleteProbeScores } from '../../../storage/db/queries/probe-queries.ts'

/** Days that an alert is kept after its end, so that charts of three months show it. */
const ALERT_DAYS = 92
/** Days that detectors and scores are kept after they last changed: their mask, domain or node is gone. */
const STATE_DAYS = 30

/** Deletes old alerts, and detectors and scores of the probe texts that have not changed for long. */
export async function deleteOldDrift({ db, nowMs }: Pick<Deps, 'db' | 'nowMs'>): Promise<void> {
  await deleteAlerts(db, nowMs() - ALERT_DAYS * DAY_MS)
  await deleteDetectorStates(db, nowMs() - STATE_DAYS * DAY_MS)
  await deleteProbeScores(db, nowMs() - STATE_DAYS * DAY_MS)
}
