import { DAY_MS } from '@copal/shared/day.ts'
import { isCallsUsedUp } from '../../../calls/call-budget.ts'
import { inRandomOrder } from '../../../runtime/random-order.ts'
import type { Deps } from '../../../contracts/bindings.ts'
import { endAlerts, listHeldAlerts, type AlertRow } from '../../../storage/db/queries/alert-queries.ts'
import {
  findDetectorCursor,
  listDetectorStates,
  listObservations,
  storeDetectorAdvance,
} from '../../../storage/db/queries/detector-queries.ts'
import { listModels, type ModelRow } from '../../../storage/db/queries/model-queries.ts'
import { listPastUpdates } from '../../../storage/db/queries/trigger-queries.ts'
import { trialsInForce } from '../../../storage/db/trials-in-force.ts'
import { isOver, type ServedNow } from '../alerts/alert-ends.ts'
import { readObservations } from './read-observations.ts'
import { MIN_TOKENS, OBSERVATIONS_PER_MINUTE, SIGNALS } from './signals.ts'

type DetectorDeps = Pick<Deps, 'db' | 'nowMs'>

const MINUTE_MS = 60_000
/** Time after the end of a minute by which all its receipts are stored, even if the clocks of isolates differ. */
const SETTLE_MS = 30_000
/** Maximum minutes that a run reads: after an outage it catches up by ten minutes a minute. */
const MAX_MINUTES = 10
/** Older minutes are not read any more: the alarm would come too late. */
const MAX_LAG_MS = DAY_MS

/**
 * Reads the receipts of the minutes that have ended into the detectors, and raises and ends their alerts. A task of the cron
 * trigger. Receipts count once: each is in one minute by the time at which it was stored, a minute is read when it is over, and
 * of two runs that read the same minutes only the first one's result is stored.
 */
export async function advanceDetectors(deps: DetectorDeps): Promise<void> {
  for (const model of inRandomOrder(await listModels(deps.db))) {
    try {
      await advanceModel(deps, model)
      await endOverAlerts(deps, model)
    } catch (error) {
      if (isCallsUsedUp(error)) throw error
      console.error(`The drift detectors of model '${model.id}' failed; the next run tries again:`, error)
    }
  }
}

async function advanceModel({ db, nowMs }: DetectorDeps, { id: model }: ModelRow): Promise<void> {
  const now = nowMs()
  const closedMs = Math.floor((now - SETTLE_MS) / MINUTE_MS) * MINUTE_MS
  const fromCursorMs = await findDetectorCursor(db, model)
  // The first run of a model starts with the minutes that one run reads, and so does one whose clock was set back by more since.
  const isFirst = fromCursorMs === 0 || fromCursorMs - closedMs > MAX_MINUTES * MINUTE_MS
  const fromMs = isFirst ? closedMs - MAX_MINUTES * MINUTE_MS : Math.max(fromCursorMs, closedMs - MAX_LAG_MS)
  const toMs = Math.min(closedMs, fromMs + MAX_MINUTES * MINUTE_MS)
  if (toMs <= fromMs) return
  const observations = await listObservations(
    db,
    model,
    { fromMs, toMs },
    {
      minTokens: MIN_TOKENS,
      perMinute: OBSERVATIONS_PER_MINUTE,
      dense: SIGNALS.dense.bounds,
      gap: SIGNALS.gap.bounds,
    },
  )
  const names = [...new Set(observations.map(({ domain }) => domain))]
  const [known, held] =
    names.length === 0
      ? [[], []]
      : await Promise.all([listDetectorStates(db, model, names), listHeldAlerts(db, model)])
  const read = readObservations({ model, known, held, observations, nowMs: now })
  await storeDetectorAdvance(db, { model, fromCursorMs, throughMs: toMs, ...read, nowMs: now })
}

/** Ends the drift alerts whose cause is gone. */
async function endOverAlerts({ db, nowMs }: DetectorDeps, model: ModelRow): Promise<void> {
  const held = await listHeldAlerts(db, model.id)
  const ofDomains = held.filter(({ domain }) => domain !== null)
  if (ofDomains.length === 0) return
  const names = [...new Set(ofDomains.flatMap(({ domain }) => domain ?? []))]
  const [updates, states] = await Promise.all([
    listPastUpdates(db, model.id),
    listDetectorStates(db, model.id, names),
  ])
  const served = new Set([
    model.activeVersion,
    ...Object.values(trialsInForce(model)).map(({ version }) => version),
  ])
  const now: ServedNow = {
    isServed: (domain, version) => served.has(version) || model.domainVersions.get(domain) === version,
    lastLearntMs: (domain) =>
      updates.find(({ domains, state }) => state === 'promoted' && domains.includes(domain))?.finishedAt ??
      undefined,
    lastReadMs: ({ kind, domain, maskVersion }: AlertRow) =>
      states.find(
        (each) =>
          each.domain === domain &&
          (kind === 'input_drift' ? each.signal === 'dense' : each.maskVersion === maskVersion),
      )?.updatedAt,
    nowMs: nowMs(),
  }
  await endAlerts(
    db,
    ofDomains.filter((alert) => isOver(alert, now)).map(({ id }) => id),
    now.nowMs,
  )
}
