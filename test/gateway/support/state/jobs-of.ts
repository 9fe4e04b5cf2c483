import { asc, eq } from 'drizzle-orm'
import { env } from 'cloudflare:workers'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import type { JobRow } from '../../../../gateway/src/storage/db/queries/job-queries.ts'
import { jobs } from '../../../../gateway/src/storage/db/schema/updates.ts'

/** Returns the jobs of an update, oldest first. */
export async function jobRowsOf(updateId: string): Promise<JobRow[]> {
  return openDatabase(env.DB)
    .select()
    .from(jobs)
    .where(eq(jobs.updateId, updateId))
    .orderBy(asc(jobs.createdAt), asc(jobs.id))
}
