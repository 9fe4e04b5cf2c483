import { and, eq, isNotNull, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { decisions, models } from '../schema/masks.ts'
import { updates } from '../schema/updates.ts'
import type { ModelRow } from './model-queries.ts'
import type { UpdateRow } from './update-queries.ts'

/**
 * Makes the mask of an update serve its domain, while the update is promoting and the mask that it was compared with is
 * active. Repeating it changes nothing.
 */
export async function setOwnMask(
  db: Database,
  { id, model, ownDomain, parentVersion }: UpdateRow,
  version: number,
): Promise<void> {
  if (ownDomain === null) return
  const promoting = sql`exists (select 1 from ${updates} where ${updates.id} = ${id} and ${updates.state} = 'promoting')`
  const isSet = sql`exists (select 1 from json_each(${models.domainVersions}) own where own.key = ${ownDomain} and own.value = ${version})`
  await db
    .update(models)
    .set({
      domainVersions: sql`json_patch(${models.domainVersions}, ${JSON.stringify({ [ownDomain]: version })})`,
      revision: sql`${models.revision} + 1`,
    })
    .where(
      and(eq(models.id, model), eq(models.activeVersion, parentVersion ?? 0), promoting, sql`not ${isSet}`),
    )
}

/**
 * Lets the shared mask serve some domains again and stores the decisions, in one transaction, by compare-and-set.
 *
 * @returns false if the model has another revision; then nothing is changed
 */
export async function clearOwnMasks(
  db: Database,
  { id, revision }: Pick<ModelRow, 'id' | 'revision'>,
  domains: readonly string[],
  because: readonly Omit<typeof decisions.$inferInsert, 'id' | 'model'>[],
): Promise<boolean> {
  const unchanged = and(eq(models.id, id), eq(models.revision, revision))
  const stored = because.map(
    ({ updateId = null, maskVersion, kind, verdict, reason, figures = [], actor, createdAt }) =>
      db.insert(decisions).select(
        sql`select null, ${id}, ${updateId}, ${maskVersion}, ${kind}, ${verdict}, ${reason}, ${JSON.stringify(figures)}, ${actor}, ${createdAt}
          where exists (select 1 from ${models} where ${unchanged})`,
      ),
  )
  const nulls = JSON.stringify(Object.fromEntries(domains.map((domain) => [domain, null])))
  const change = db
    .update(models)
    .set({ domainVersions: sql`json_patch(${models.domainVersions}, ${nulls})`, revision: revision + 1 })
    .where(unchanged)
  const [first, ...rest] = stored
  const results = first ? await db.batch([first, ...rest, change]) : [await change]
  return results.at(-1)?.meta.changes === 1
}

/** Returns the domains for which a mask of their own was sought beside one active mask. */
export async function listSoughtDomains(
  db: Database,
  model: string,
  activeVersion: number,
): Promise<Set<string>> {
  const rows = await db
    .selectDistinct({ domain: updates.ownDomain })
    .from(updates)
    .where(
      and(eq(updates.model, model), eq(updates.parentVersion, activeVersion), isNotNull(updates.ownDomain)),
    )
  return new Set(rows.flatMap(({ domain }) => domain ?? []))
}
