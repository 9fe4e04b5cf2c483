import type { SeriesMark } from '@copal/shared/wire/admin-series.ts'
import type { Database } from '../../contracts/database.ts'
import { listAlertsBetween, type AlertRow } from '../../storage/db/queries/alert-queries.ts'
import { listMarkedDecisions, type MarkedDecision } from '../../storage/db/queries/mark-queries.ts'
import type { PeriodRange } from '../../storage/db/queries/period-queries.ts'

/** Marks of decisions, the newest; a chart of more is unreadable. */
const MAX_MARKS = 200

/** Returns what happened to the masks of a model in a time, oldest first: promotions, roll-backs, canaries, gates and alerts. */
export async function seriesMarks(
  db: Database,
  { model, domain }: { model: string; domain: string | undefined },
  { from, until }: PeriodRange,
): Promise<SeriesMark[]> {
  const times = { fromMs: from * 1000, toMs: until * 1000 }
  const kinds = ['promote', 'roll_back', 'canary', 'gate', 'confirm'] as const
  const [decisions, alerts] = await Promise.all([
    listMarkedDecisions(db, { model, domain, kinds }, times, MAX_MARKS),
    listAlertsBetween(db, model, times.fromMs, times.toMs, domain),
  ])
  return [...decisions.flatMap((decision) => decisionMark(decision) ?? []), ...alerts.map(alertMark)].sort(
    (a, b) => (a.at < b.at ? -1 : 1),
  )
}

/** Returns the mark of a decision; undefined for one that charts do not mark. */
function decisionMark({ verdict, reason, ...decision }: MarkedDecision): SeriesMark | undefined {
  const mask = decision.maskVersion === null ? 'A mask' : `m${decision.maskVersion}`
  const mark = (kind: SeriesMark['kind'], text: string): SeriesMark => ({
    at: new Date(decision.createdAt).toISOString(),
    kind,
    mask_version: decision.maskVersion,
    domain: decision.ownDomain,
    update: decision.updateId,
    text,
  })
  if (decision.kind === 'promote')
    return verdict === 'done' ? mark('promoted', `${mask} became active: ${reason}`) : undefined
  if (decision.kind === 'roll_back') return mark('rolled_back', `${mask} was rolled back: ${reason}`)
  if (decision.kind === 'canary')
    return mark('canary', `The canary of ${mask} ${verdict === 'passed' ? 'passed' : 'failed'}: ${reason}`)
  return verdict === 'failed' ? mark('gate_failed', `The gate rejected ${mask}: ${reason}`) : undefined
}

function alertMark({ raisedAt, maskVersion, domain, message }: AlertRow): SeriesMark {
  const at = new Date(raisedAt).toISOString()
  return { at, kind: 'alert', mask_version: maskVersion, domain, update: null, text: message }
}
