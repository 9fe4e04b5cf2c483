import { and, eq, inArray, isNull } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { jobs, updates } from '../schema/updates.ts'

/** A job for nodes, as stored. */
export type JobRow = typeof jobs.$inferSelect

const OPEN_STATES = ['queued', 'running'] as const

/** Stores jobs in one transaction, except those whose id exists. */
export async function insertJobs(db: Database, rows: readonly (typeof jobs.$inferInsert)[]): Promise<void> {
  const [first, ...rest] = rows.map((row) => db.insert(jobs).values(row).onConflictDoNothing())
  if (first) await db.batch([first, ...rest])
}

/** Returns one job. */
export async function findJob(db: Database, id: string): Promise<JobRow | undefined> {
  return db.select().from(jobs).where(eq(jobs.id, id)).get()
}

/** Returns jobs by id; at most 90 ids. */
export async function findJobs(db: Database, ids: readonly string[]): Promise<JobRow[]> {
  if (ids.length === 0) return []
  return db
    .select()
    .from(jobs)
    .where(inArray(jobs.id, [...ids]))
}

/** The columns without payload and result, which grow with the datasets that count: 90 updates have tens of megabytes of them. */
const STATE_COLUMNS = {
  id: jobs.id,
  updateId: jobs.updateId,
  kind: jobs.kind,
  state: jobs.state,
  progress: jobs.progress,
  message: jobs.message,
  nodeId: jobs.nodeId,
  attempts: jobs.attempts,
  createdAt: jobs.createdAt,
  handedAt: jobs.handedAt,
  seenAt: jobs.seenAt,
}
/** A job without its payload and its result. */
export type JobState = Pick<JobRow, keyof typeof STATE_COLUMNS>

/** Returns the states of the jobs of updates, oldest first; at most 90 updates. */
export async function listJobStates(db: Database, updateIds: readonly string[]): Promise<JobState[]> {
  if (updateIds.length === 0) return []
  return db
    .select(STATE_COLUMNS)
    .from(jobs)
    .where(inArray(jobs.updateId, [...updateIds]))
    .orderBy(jobs.createdAt, jobs.id)
}

/** Returns the open jobs of a model's running updates, oldest first. */
export async function listOpenJobs(db: Database, model: string): Promise<JobRow[]> {
  const rows = await db
    .select({ job: jobs })
    .from(jobs)
    .innerJoin(updates, eq(updates.id, jobs.updateId))
    .where(and(eq(jobs.model, model), inArray(jobs.state, [...OPEN_STATES]), isNull(updates.finishedAt)))
    .orderBy(jobs.createdAt, jobs.id)
  return rows.map(({ job }) => job)
}

/**
 * Changes a job that is open and still in the same attempt as `job`.
 *
 * @returns false if it is not
 */
export async function changeJob(
  db: Database,
  job: Pick<JobRow, 'id' | 'attempts'>,
  patch: Partial<typeof jobs.$inferInsert>,
): Promise<boolean> {
  const result = await db
    .update(jobs)
    .set(patch)
    .where(and(eq(jobs.id, job.id), eq(jobs.attempts, job.attempts), inArray(jobs.state, [...OPEN_STATES])))
  return result.meta.changes === 1
}

/** Queues a done job again, because its result is gone, and stores its losses. */
export async function requeueJob(
  db: Database,
  job: Pick<JobRow, 'id' | 'attempts'>,
  losses: Pick<JobRow, 'stalls' | 'bestProgress'>,
): Promise<void> {
  await db
    .update(jobs)
    .set({
      ...losses,
      state: 'queued',
      progress: 0,
      message: '',
      result: null,
      nodeId: null,
      handedAt: null,
      seenAt: null,
    })
    .where(and(eq(jobs.id, job.id), eq(jobs.attempts, job.attempts), eq(jobs.state, 'done')))
}

/** Cancels the open jobs of an update. */
export async function cancelJobsOf(db: Database, updateId: string): Promise<void> {
  await db
    .update(jobs)
    .set({ state: 'cancelled' })
    .where(and(eq(jobs.updateId, updateId), inArray(jobs.state, [...OPEN_STATES])))
}
