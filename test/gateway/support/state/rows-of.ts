import { asc, desc, eq } from 'drizzle-orm'
import { env } from 'cloudflare:workers'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import type { PendingAuditRow } from '../../../../gateway/src/storage/db/queries/audit-queries.ts'
import type { BatchRow } from '../../../../gateway/src/storage/db/queries/batch-queries.ts'
import type { DecisionRow } from '../../../../gateway/src/storage/db/queries/decision-queries.ts'
import type { JobRow } from '../../../../gateway/src/storage/db/queries/job-queries.ts'
import { auditPending } from '../../../../gateway/src/storage/db/schema/audit.ts'
import { batches, jobs } from '../../../../gateway/src/storage/db/schema/updates.ts'
import { decisions } from '../../../../gateway/src/storage/db/schema/masks.ts'

const db = openDatabase(env.DB)

/** Returns the jobs of an update, oldest first. */
export async function jobRowsOf(updateId: string): Promise<JobRow[]> {
  return db.select().from(jobs).where(eq(jobs.updateId, updateId)).orderBy(asc(jobs.createdAt), asc(jobs.id))
}

/** Returns the batches of an update. */
export async function batchRowsOf(updateId: string): Promise<BatchRow[]> {
  return db.select().from(batches).where(eq(batches.updateId, updateId))
}

/** Returns the decisions of a model, newest first. */
export async function decisionRowsOf(model: string): Promise<DecisionRow[]> {
  return db.select().from(decisions).where(eq(decisions.model, model)).orderBy(desc(decisions.id))
}

/** Returns the rows of the audit log that are not numbered yet, oldest first. */
export async function pendingAuditRows(): Promise<PendingAuditRow[]> {
  return db.select().from(auditPending).orderBy(asc(auditPending.id))
}
