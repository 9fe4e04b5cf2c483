import { and, eq, gte, inArray, or, sql } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { masks } from '../schema/masks.ts'
import { batches, updates } from '../schema/updates.ts'
import { isAmong } from './is-among.ts'

/**
 * Returns what was made of some datasets of a domain: the updates that calibrated on them, and the masks that were chosen with
 * the domain's statistics since then, as `model@mask-version`.
 */
export async function listMadeOf(
  db: Database,
  domain: string,
  hashes: readonly string[],
): Promise<{ updates: string[]; masks: string[] }> {
  if (hashes.length === 0) return { updates: [], masks: [] }
  const counted = db
    .select({ id: batches.updateId })
    .from(batches)
    .where(isAmong(batches.datasetSha256, hashes))
  const owned = sql`exists (select 1 from json_each(${updates.datasets}) as own
    where own.value in (select value from json_each(${JSON.stringify(hashes)})))`
  const users = await db
    .select({ id: updates.id })
    .from(updates)
    .where(or(inArray(updates.id, counted), owned))
    .orderBy(updates.createdAt)
  const ids = users.map(({ id }) => id)
  const chosen = await db
    .selectDistinct({ model: masks.model, version: masks.version })
    .from(masks)
    .innerJoin(updates, and(eq(updates.model, masks.model), gte(masks.createdAt, updates.createdAt)))
    .where(
      and(
        isAmong(updates.id, ids),
        sql`exists (select 1 from json_each(${masks.domains}) as used where used.value = ${domain})`,
      ),
    )
    .orderBy(masks.model, masks.version)
  return { updates: ids, masks: chosen.map(({ model, version }) => `${model}@mask-${version}`) }
}
