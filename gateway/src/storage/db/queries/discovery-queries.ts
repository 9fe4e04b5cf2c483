import { and, desc, eq, inArray, isNull, ne, not, sql } from 'drizzle-orm'
import type { PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import type { Database } from '../../../contracts/database.ts'
import { classifiers, domainProposals, domains } from '../schema/domains.ts'
import { apiKeys } from '../schema/keys.ts'
import { models, policies } from '../schema/masks.ts'
import { isAmong } from './is-among.ts'
import type { ModelRow } from './model-queries.ts'

/** A version of the classifier of a model. */
export type ClassifierRow = typeof classifiers.$inferSelect
/** A domain that was found, and what became of it. */
export type ProposalRow = typeof domainProposals.$inferSelect

/** Returns the newest classifier of a model. */
export async function findClassifier(db: Database, model: string): Promise<ClassifierRow | undefined> {
  return selectClassifier(db, model).get()
}

function selectClassifier(db: Database, model: string) {
  return db
    .select()
    .from(classifiers)
    .where(eq(classifiers.model, model))
    .orderBy(desc(classifiers.version))
    .limit(1)
}

/** Stores the next version of a classifier. @returns false if another one has the version already */
export async function insertClassifier(db: Database, row: ClassifierRow): Promise<boolean> {
  const result = await db.insert(classifiers).values(row).onConflictDoNothing()
  return result.meta.changes === 1
}

/** Deletes the versions of a classifier before `version`, and returns their hashes that no other version has. */
export async function forgetClassifiers(db: Database, model: string, version: number): Promise<string[]> {
  const old = await db
    .delete(classifiers)
    .where(and(eq(classifiers.model, model), sql`${classifiers.version} < ${version}`))
    .returning({ sha256: classifiers.sha256 })
  const hashes = old.map(({ sha256 }) => sha256)
  const kept = await db
    .select({ sha256: classifiers.sha256 })
    .from(classifiers)
    .where(isAmong(classifiers.sha256, hashes))
  return hashes.filter((hash) => !kept.some(({ sha256 }) => sha256 === hash))
}

/** Returns the proposals of a model in a state, or of all, the largest first. */
export async function listProposals(
  db: Database,
  filter: { model?: string; state?: ProposalRow['state'] } = {},
): Promise<ProposalRow[]> {
  return db
    .select()
    .from(domainProposals)
    .where(
      and(
        filter.model === undefined ? undefined : eq(domainProposals.model, filter.model),
        filter.state === undefined ? undefined : eq(domainProposals.state, filter.state),
      ),
    )
    .orderBy(desc(domainProposals.texts), domainProposals.id)
}

/** Returns proposals by their ids. */
export async function findProposals(db: Database, ids: readonly string[]): Promise<ProposalRow[]> {
  return db.select().from(domainProposals).where(isAmong(domainProposals.id, ids))
}

/** Replaces the open proposals of a model: those with a known id are changed, others begin, and the rest is removed. */
export async function replaceProposals(
  db: Database,
  model: string,
  rows: readonly ProposalRow[],
): Promise<void> {
  const open = and(eq(domainProposals.model, model), eq(domainProposals.state, 'proposed'))
  const isKept = isAmong(
    domainProposals.id,
    rows.map(({ id }) => id),
  )
  await db.batch([
    db.delete(domainProposals).where(and(open, not(isKept))),
    ...rows.map((row) => {
      const { name, terms, texts, characters, centroid, updatedAt } = row
      return db
        .insert(domainProposals)
        .values(row)
        .onConflictDoUpdate({
          target: domainProposals.id,
          set: { name, terms, texts, characters, centroid, updatedAt },
          setWhere: eq(domainProposals.state, 'proposed'),
        })
    }),
  ])
}

/** Decides an open proposal. @returns false if it is decided already */
export async function decideProposal(
  db: Database,
  id: string,
  decision: Pick<ProposalRow, 'state' | 'domain'>,
  nowMs: number,
): Promise<boolean> {
  const result = await db
    .update(domainProposals)
    .set({ ...decision, updatedAt: nowMs })
    .where(and(eq(domainProposals.id, id), eq(domainProposals.state, 'proposed')))
  return result.meta.changes === 1
}

/** Deletes decided proposals that are older than a time. */
export async function deleteDecidedProposals(db: Database, beforeMs: number): Promise<void> {
  await db
    .delete(domainProposals)
    .where(and(ne(domainProposals.state, 'proposed'), sql`${domainProposals.updatedAt} < ${beforeMs}`))
}

/** Deletes the open proposals that were last changed before a time, except some. */
export async function deleteOpenProposals(
  db: Database,
  { beforeMs, kept }: { beforeMs: number; kept: readonly string[] },
): Promise<void> {
  await db
    .delete(domainProposals)
    .where(
      and(
        eq(domainProposals.state, 'proposed'),
        sql`${domainProposals.updatedAt} < ${beforeMs}`,
        not(isAmong(domainProposals.id, kept)),
      ),
    )
}

/** Registers a domain that was found. @returns false if the name is taken */
export async function insertDomain(
  db: Database,
  domain: { name: string; createdAt: number; owner: string | null },
): Promise<boolean> {
  const result = await db.insert(domains).values(domain).onConflictDoNothing()
  return result.meta.changes === 1
}

/** The domains that a key may use, which decide where its texts go. */
export interface KeyReach {
  tenant: string
  defaultDomain: string
  allowedDomains: string[] | null
}

/** Returns what keys may use, by their ids; revoked keys too. */
export async function findKeyReaches(db: Database, ids: readonly string[]): Promise<Map<string, KeyReach>> {
  return reachesById(await selectKeyReaches(db, ids))
}

/** The facts by which the texts of a model are sorted into domains. */
export interface SortContext {
  /** Undefined for a model that no node ever registered. */
  model: ModelRow | undefined
  overrides: PolicyOverrides | undefined
  /** The newest classifier. */
  classifier: ClassifierRow | undefined
  /** The owner of each domain; null: it is shared. */
  owners: Map<string, string | null>
  /** The domains that the keys of the texts may use. */
  reaches: Map<string, KeyReach>
}

/** Returns what is to be known to sort texts, by one call of the database, because every batch of messages asks for it. */
export async function findSortContext(
  db: Database,
  model: string,
  keyIds: readonly string[],
): Promise<SortContext> {
  const [modelRows, policyRows, classifierRows, domainRows, keyRows] = await db.batch([
    db.select().from(models).where(eq(models.id, model)),
    db.select({ policy: policies.policy }).from(policies).where(eq(policies.model, model)),
    selectClassifier(db, model),
    db.select({ name: domains.name, owner: domains.owner }).from(domains),
    selectKeyReaches(db, keyIds),
  ])
  return {
    model: modelRows[0],
    overrides: policyRows[0]?.policy,
    classifier: classifierRows[0],
    owners: new Map(domainRows.map(({ name, owner }) => [name, owner])),
    reaches: reachesById(keyRows),
  }
}

function selectKeyReaches(db: Database, ids: readonly string[]) {
  return db
    .select({
      id: apiKeys.id,
      tenant: apiKeys.tenant,
      defaultDomain: apiKeys.defaultDomain,
      allowedDomains: apiKeys.allowedDomains,
    })
    .from(apiKeys)
    .where(isAmong(apiKeys.id, ids))
}

function reachesById(rows: readonly ({ id: string } & KeyReach)[]): Map<string, KeyReach> {
  return new Map(rows.map(({ id, ...reach }) => [id, reach]))
}

/** Returns whether the domains of any key's texts are to be found. */
export async function isDiscovering(db: Database): Promise<boolean> {
  const row = await db
    .select({ id: apiKeys.id })
    .from(apiKeys)
    .where(
      and(
        sql`${apiKeys.discoverDomains} = 1`,
        isNull(apiKeys.revokedAt),
        inArray(apiKeys.sampling, ['opt_in', 'always']),
      ),
    )
    .limit(1)
    .get()
  return row !== undefined
}
