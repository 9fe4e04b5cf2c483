import { and, asc, eq, inArray, isNotNull, ne, sql } from 'drizzle-orm'
import type { DatasetRef } from '@copal/shared/wire/adaptation-jobs.ts'
import type { Database } from '../../../contracts/database.ts'
import { datasets } from '../schema/domains.ts'
import { updateInputs, updates } from '../schema/updates.ts'
import { datasetRefOf } from './dataset-queries.ts'
import { isAmong } from './is-among.ts'
import type { UpdateRow } from './update-queries.ts'

/** Hashes in one parameter, which may have 2 MB. */
const MAX_HASHES = 10_000

/**
 * Stores which datasets of earlier updates an update counts beside its own, in one transaction, and forgets those of the ended
 * updates of its model, which only the update after them needs. In rows of their own: a job that named them all would pass the 2 MB
 * of a row of D1 at some 9,000.
 */
export async function setInputs(
  db: Database,
  { id, model }: Pick<UpdateRow, 'id' | 'model'>,
  hashes: readonly string[],
): Promise<void> {
  const ended = db
    .select({ id: updates.id })
    .from(updates)
    .where(and(eq(updates.model, model), isNotNull(updates.finishedAt), ne(updates.id, id)))
  const inserts = chunksOf(hashes).map((chunk) =>
    db
      .insert(updateInputs)
      .select(sql`select ${id}, value from json_each(${JSON.stringify(chunk)}) where true`)
      .onConflictDoNothing(),
  )
  await db.batch([
    db.delete(updateInputs).where(inArray(updateInputs.updateId, ended)),
    db.delete(updateInputs).where(eq(updateInputs.updateId, id)),
    ...inserts,
  ])
}

/** Returns the datasets of earlier updates that an update counts, oldest first, as they are now. */
export async function listInputs(db: Database, updateId: string): Promise<DatasetRef[]> {
  const { sha256, domain, samples, bytes, createdAt, expiredAt } = datasets
  const rows = await db
    .select({ sha256, domain, samples, bytes, createdAt, expiredAt })
    .from(updateInputs)
    .innerJoin(datasets, eq(datasets.sha256, updateInputs.datasetSha256))
    .where(eq(updateInputs.updateId, updateId))
    .orderBy(asc(createdAt), asc(sha256))
  return rows.map(datasetRefOf)
}

/** Returns the domains of any number of datasets, sorted; unknown datasets are left out. */
export async function listDomainsOf(db: Database, hashes: readonly string[]): Promise<string[]> {
  const found = new Set<string>()
  for (const chunk of chunksOf(hashes)) {
    const rows = await db
      .selectDistinct({ domain: datasets.domain })
      .from(datasets)
      .where(isAmong(datasets.sha256, chunk))
    for (const { domain } of rows) found.add(domain)
  }
  return [...found].sort()
}

function chunksOf(hashes: readonly string[]): string[][] {
  return Array.from({ length: Math.ceil(hashes.length / MAX_HASHES) }, (_, chunk) =>
    hashes.slice(chunk * MAX_HASHES, (chunk + 1) * MAX_HASHES),
  )
}
