import { and, asc, desc, eq, gte, isNotNull, isNull, lt } from 'drizzle-orm'
import type { AlertKind } from '@copal/shared/wire/admin-alerts.ts'
import type { Database } from '../../../contracts/database.ts'
import { alerts } from '../schema/detectors.ts'
import { isAmong } from './is-among.ts'

/** An alert as stored. */
export type AlertRow = typeof alerts.$inferSelect

/** Which alerts to list. */
export interface AlertFilter {
  model?: string | undefined
  kind?: AlertKind | undefined
  /** True: only those that hold. */
  active?: boolean
  limit?: number
}

const MAX_LISTED = 200
/** More alerts than the domains and nodes of a service have. */
const MAX_HELD = 2_000

/** Returns alerts: those that hold first, then the newest. */
export async function listAlerts(
  db: Database,
  { model, kind, active = false, limit = MAX_LISTED }: AlertFilter = {},
): Promise<AlertRow[]> {
  return db
    .select()
    .from(alerts)
    .where(
      and(
        model === undefined ? undefined : eq(alerts.model, model),
        kind === undefined ? undefined : eq(alerts.kind, kind),
        active ? isNull(alerts.endedAt) : undefined,
      ),
    )
    .orderBy(asc(isNotNull(alerts.endedAt)), desc(alerts.raisedAt), desc(alerts.id))
    .limit(limit)
}

/** Returns all alerts that hold, of one model or of all. */
export async function listHeldAlerts(db: Database, model?: string): Promise<AlertRow[]> {
  return listAlerts(db, { model, active: true, limit: MAX_HELD })
}

/** Returns the alerts of a model that were raised in a time, oldest first; of one domain or of all. */
export async function listAlertsBetween(
  db: Database,
  model: string,
  fromMs: number,
  toMs: number,
  domain?: string,
): Promise<AlertRow[]> {
  return db
    .select()
    .from(alerts)
    .where(
      and(
        eq(alerts.model, model),
        gte(alerts.raisedAt, fromMs),
        lt(alerts.raisedAt, toMs),
        domain === undefined ? undefined : eq(alerts.domain, domain),
      ),
    )
    .orderBy(asc(alerts.raisedAt))
    .limit(MAX_LISTED)
}

/** Raises alerts. An alert is not raised again while one of the same kind and subject holds. */
export async function raiseAlerts(db: Database, rows: readonly AlertRow[]): Promise<void> {
  const [first, ...rest] = rows.map((row) => db.insert(alerts).values(row).onConflictDoNothing())
  if (first) await db.batch([first, ...rest])
}

/** Ends alerts that hold. */
export async function endAlerts(db: Database, ids: readonly string[], nowMs: number): Promise<void> {
  if (ids.length === 0) return
  await db
    .update(alerts)
    .set({ endedAt: nowMs })
    .where(and(isAmong(alerts.id, ids), isNull(alerts.endedAt)))
}

/** Deletes alerts that ended before a time. */
export async function deleteAlerts(db: Database, beforeMs: number): Promise<void> {
  await db.delete(alerts).where(lt(alerts.endedAt, beforeMs))
}
