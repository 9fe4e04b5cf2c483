import { and, asc, desc, eq, gt, gte, inArray, lt, lte, or, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { audit, auditCheckpoints, auditPending } from '../schema/audit.ts'

/** A row of the audit log. */
export type AuditRow = typeof audit.$inferSelect

/** A row that the log has not numbered yet. */
export type PendingAuditRow = typeof auditPending.$inferSelect

/** The row that a deletion by retention ended with. */
export type AuditCheckpoint = typeof auditCheckpoints.$inferSelect

/** Rows of a statement: each binds twelve values, and D1 allows 100. */
const ROWS_PER_INSERT = 8

/** Which rows of the log are listed. */
export interface AuditFilter {
  /** Number of the row after which the list begins. */
  after: number
  /** Number of the row before which the list ends. */
  before?: number | undefined
  order?: 'oldest' | 'newest'
  actor?: string | undefined
  target?: string | undefined
  sinceMs?: number | undefined
}

/** Returns the newest row; undefined if there is none. */
export async function findLastAuditRow(db: Database): Promise<AuditRow | undefined> {
  return selectLastAuditRow(db).get()
}

/** Returns rows in their order, or the newest first. */
export async function listAuditRows(
  db: Database,
  { after, before, order = 'oldest', actor, target, sinceMs }: AuditFilter,
  limit: number,
): Promise<AuditRow[]> {
  const filter = and(
    gt(audit.id, after),
    before === undefined ? undefined : lt(audit.id, before),
    actor === undefined ? undefined : eq(audit.actor, actor),
    target === undefined ? undefined : eq(audit.target, target),
    sinceMs === undefined ? undefined : gte(audit.createdAt, sinceMs),
  )
  const direction = order === 'newest' ? desc : asc
  return db.select().from(audit).where(filter).orderBy(direction(audit.id)).limit(limit)
}

/** An action that was recorded about a target, and what came of it. */
type RecordedAction = Pick<AuditRow, 'target' | 'after' | 'reason' | 'createdAt'>

/** Returns the last record of an action for each of some targets, by target; rows that are not numbered yet count too. */
export async function findLastActions(
  db: Database,
  action: string,
  targets: readonly string[],
): Promise<Map<string, RecordedAction>> {
  const names = sql`json_each(${JSON.stringify(targets)}) name`
  const newest = sql`(
    select (
      select id from audit where target = name.value and action = ${action} order by id desc limit 1
    ) from ${names})`
  const columns = ({ target, after, reason, createdAt }: typeof audit | typeof auditPending) => ({
    target,
    after,
    reason,
    createdAt,
  })
  const [numbered, pending] = await db.batch([
    db
      .select(columns(audit))
      .from(audit)
      .where(sql`${audit.id} in ${newest}`),
    db
      .select(columns(auditPending))
      .from(auditPending)
      .where(
        and(eq(auditPending.action, action), sql`${auditPending.target} in (select value from ${names})`),
      )
      .orderBy(asc(auditPending.id)),
  ])
  return new Map([...numbered, ...pending].map((row) => [row.target, row]))
}

/** Stores what the log shall record, and returns its number among the pending. */
export async function insertPendingAudit(db: Database, row: Omit<PendingAuditRow, 'id'>): Promise<number> {
  return (await db.insert(auditPending).values(row).returning({ id: auditPending.id }).get()).id
}

/** Completes a pending row when its action has ended. */
export async function settlePendingAudit(
  db: Database,
  id: number,
  result: Pick<PendingAuditRow, 'target' | 'before' | 'after' | 'reason'>,
): Promise<void> {
  await db
    .update(auditPending)
    .set({ ...result, settled: true })
    .where(eq(auditPending.id, id))
}

/**
 * Returns in one call the newest row of the log, and the pending rows that are complete, or older than `abandonedMs` because
 * nothing will complete them, oldest first.
 */
export async function readEndOfAudit(
  db: Database,
  abandonedMs: number,
  limit: number,
): Promise<{ last: AuditRow | undefined; pending: PendingAuditRow[] }> {
  const [[last], pending] = await db.batch([
    selectLastAuditRow(db),
    db
      .select()
      .from(auditPending)
      .where(or(eq(auditPending.settled, true), lt(auditPending.createdAt, abandonedMs)))
      .orderBy(asc(auditPending.id))
      .limit(limit),
  ])
  return { last, pending }
}

function selectLastAuditRow(db: Database) {
  return db.select().from(audit).orderBy(desc(audit.id)).limit(1)
}

/**
 * Appends rows and deletes the pending ones that they are made of, all or nothing.
 *
 * @param pendingIds at most 90
 * @throws when a row has one of the numbers already
 */
export async function appendAuditRows(
  db: Database,
  rows: readonly AuditRow[],
  pendingIds: readonly number[],
): Promise<void> {
  const settled = db.delete(auditPending).where(inArray(auditPending.id, [...pendingIds]))
  const inserts = Array.from({ length: Math.ceil(rows.length / ROWS_PER_INSERT) }, (_, index) =>
    db.insert(audit).values(rows.slice(index * ROWS_PER_INSERT, (index + 1) * ROWS_PER_INSERT)),
  )
  await db.batch([settled, ...inserts])
}

/** Returns the last checkpoint; undefined if nothing was ever deleted. */
export async function findAuditCheckpoint(db: Database): Promise<AuditCheckpoint | undefined> {
  return db.select().from(auditCheckpoints).orderBy(desc(auditCheckpoints.id)).limit(1).get()
}

/** Returns the row that a deletion of rows older than `beforeMs` ends with: the last of the oldest `limit` rows. */
export async function findRetentionEnd(
  db: Database,
  beforeMs: number,
  limit: number,
): Promise<AuditRow | undefined> {
  // The first row that stays ends the deletion, whatever the times of later ones are.
  const firstKept = sql`(select min(${audit.id}) from ${audit} where ${audit.createdAt} >= ${beforeMs})`
  const newest = sql`(select max(${audit.id}) from ${audit})`
  const old = await db
    .select()
    .from(audit)
    .where(and(lt(audit.id, sql`coalesce(${firstKept}, ${newest})`)))
    .orderBy(asc(audit.id))
    .limit(limit)
  return old.at(-1)
}

/** Stores a checkpoint and deletes the rows up to it. */
export async function deleteAuditRows(db: Database, checkpoint: AuditCheckpoint): Promise<void> {
  await db.batch([
    db.insert(auditCheckpoints).values(checkpoint),
    db.delete(audit).where(lte(audit.id, checkpoint.id)),
  ])
}
