import { and, desc, eq, gt, inArray, sql, sum } from 'drizzle-orm'
import type { Database } from '../../../contracts/database.ts'
import { decisions, policies } from '../schema/masks.ts'
import { updates } from '../schema/updates.ts'
import { metricCounts, usageTotals } from '../schema/usage.ts'
import type { DecisionRow } from './decision-queries.ts'

/** Updates of which domains' histories are made. */
const MAX_UPDATES = 500

/** Returns the latest updates of a model, newest first, without what only their steps read. */
export async function listPastUpdates(db: Database, model: string) {
  const { id, domains, state, trigger, ownDomain, createdAt, finishedAt } = updates
  return db
    .select({ id, domains, state, trigger, ownDomain, createdAt, finishedAt })
    .from(updates)
    .where(eq(updates.model, model))
    .orderBy(desc(createdAt), desc(sql`rowid`))
    .limit(MAX_UPDATES)
}

/** Returns how many updates of a model are recorded, from the counts by state that triggers of the database keep. */
export async function countUpdatesOf(db: Database, model: string): Promise<number> {
  const { metric, labels, value } = metricCounts
  const row = await db
    .select({ updates: sum(value).mapWith(Number) })
    .from(metricCounts)
    .where(and(eq(metric, 'updates'), sql`json_extract(${labels}, '$[0]') = ${model}`))
    .get()
  return row?.updates ?? 0
}

/** Returns the decisions of dry runs of a model since a time, newest first. */
export async function listDryRuns(
  db: Database,
  model: string,
  sinceMs: number,
  limit = MAX_UPDATES,
): Promise<DecisionRow[]> {
  return db
    .select()
    .from(decisions)
    .where(
      and(
        eq(decisions.model, model),
        gt(decisions.createdAt, sinceMs),
        eq(decisions.kind, 'trigger'),
        eq(decisions.verdict, 'dry_run'),
      ),
    )
    .orderBy(desc(decisions.id))
    .limit(limit)
}

/** Returns when the policy of a model was set; 0 if it never was. */
export async function findPolicySetMs(db: Database, model: string): Promise<number> {
  const row = await db
    .select({ updatedAt: policies.updatedAt })
    .from(policies)
    .where(eq(policies.model, model))
    .get()
  return row?.updatedAt ?? 0
}

/** Returns the settled tokens of each domain under some masks of a model. */
export async function sumTokensUnder(
  db: Database,
  model: string,
  versions: readonly number[],
): Promise<Map<string, number>> {
  const { domain, promptTokens, completionTokens, maskVersion } = usageTotals
  const rows = await db
    .select({
      domain,
      prompt: sum(promptTokens).mapWith(Number),
      completion: sum(completionTokens).mapWith(Number),
    })
    .from(usageTotals)
    .where(and(eq(usageTotals.model, model), inArray(maskVersion, [...versions])))
    .groupBy(domain)
  return new Map(rows.map((row) => [row.domain, row.prompt + row.completion]))
}
