import type { DeletedSamples } from '@copal/shared/wire/admin-samples.ts'
import { recordAudit } from '../../audit/record-audit.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { SourceFilter } from '../../contracts/reservoir-object.ts'
import { SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import { listDomains } from '../../storage/db/queries/domain-queries.ts'
import { countExpired } from '../../storage/db/queries/expiry-queries.ts'
import { listKeyIds } from '../../storage/db/queries/key-queries.ts'
import { listMadeOf } from '../../storage/db/queries/made-of-queries.ts'
import {
  forgetPendingDeletion,
  insertPendingDeletion,
  listPendingDeletions,
  type PendingDeletion,
} from '../../storage/db/queries/pending-deletion-queries.ts'
import { insertTombstone } from '../../storage/db/queries/tombstone-queries.ts'
import { listRunningUpdates } from '../../storage/db/queries/update-queries.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'
import { deleteFrozenTexts, listAffectedDatasets } from './domain-deletion.ts'

type SampleDeletionDeps = Pick<Deps, 'db' | 'artifacts' | 'reservoir' | 'nowMs'>

/** Deletions that a run of the cron task finishes at most. */
const DELETIONS_PER_RUN = 20

/**
 * Deletes the texts of a request, a key or a tenant in all domains, and among the texts that have no domain yet.
 *
 * Samples are deleted at once, and queued ones are not stored. Frozen texts are deleted unless an update may read them: then
 * the domain is pending, and {@link finishDeletions} deletes them when the update has ended.
 *
 * @param filter at least one field; texts that match all of them are deleted
 */
export async function deleteSamplesOf(
  deps: SampleDeletionDeps,
  filter: Pick<SourceFilter, 'keyId' | 'tenant' | 'requestId'>,
): Promise<DeletedSamples> {
  const { db, nowMs } = deps
  await insertTombstone(db, { ...filter, createdAt: nowMs() })
  const sources = await sourcesOf(deps, filter)
  const result: DeletedSamples = { domains: [], pending: [], kept: await countExpired(db) }
  const names = [...(await listDomains(db)).map(({ name }) => name), UNASSIGNED]
  for (const domain of names) {
    const deleted = await deps.reservoir(domain).deleteTexts(sources)
    const { hashes, frozen, reader, made } = await deleteUnread(deps, domain, sources)
    if (reader !== undefined) {
      await insertPendingDeletion(db, { ...filter, domain, createdAt: nowMs() })
      result.pending.push({ domain, update: reader })
    }
    if (deleted + hashes.length > 0) result.domains.push({ domain, deleted, deleted_frozen: frozen, ...made })
  }
  return result
}

/** Deletes the frozen texts that deletions have left to updates that have ended since. */
export async function finishDeletions(deps: SampleDeletionDeps): Promise<void> {
  for (const deletion of await listPendingDeletions(deps.db, DELETIONS_PER_RUN)) {
    try {
      await finishDeletion(deps, deletion)
    } catch (error) {
      console.error(`The deletion of frozen texts of '${deletion.domain}' failed and is tried again:`, error)
    }
  }
}

async function finishDeletion(deps: SampleDeletionDeps, deletion: PendingDeletion): Promise<void> {
  const { id, domain, keyId, tenant, requestId, createdAt } = deletion
  const filter = {
    keyId: keyId ?? undefined,
    tenant: tenant ?? undefined,
    requestId: requestId ?? undefined,
  }
  const { frozen, reader, made } = await deleteUnread(deps, domain, await sourcesOf(deps, filter))
  if (reader !== undefined) return
  await recordAudit(deps, {
    actor: SERVICE_ACTOR,
    action: 'samples.deletion_finished',
    target: domain,
    before: { ...filter, since: new Date(createdAt).toISOString() },
    after: { deleted_frozen: frozen, ...made },
  })
  await forgetPendingDeletion(deps.db, id)
}

/**
 * Deletes matching frozen texts of a domain unless an update may read them.
 *
 * @returns the datasets that had such texts and what was made of them, the number of texts that were deleted, and the update
 * that may have read or frozen some meanwhile
 */
async function deleteUnread(deps: SampleDeletionDeps, domain: string, sources: SourceFilter) {
  const hashes = domain === UNASSIGNED ? [] : await listAffectedDatasets(deps, domain, sources)
  const made = await listMadeOf(deps.db, domain, hashes)
  // An update that collects may hold texts that it has not frozen yet.
  const before = (await readers(deps)).find(({ domains }) => hashes.length > 0 || domains.includes(domain))
  if (before) return { hashes, frozen: 0, reader: before.id, made }
  const frozen = domain === UNASSIGNED ? 0 : await deleteFrozenTexts(deps, domain, sources)
  // One that began meanwhile may have frozen texts after they were looked for.
  const late = (await readers(deps)).find(({ domains }) => domains.includes(domain))
  return { hashes, frozen, reader: late?.id, made }
}

async function readers({ db }: Pick<Deps, 'db'>) {
  return (await listRunningUpdates(db)).filter(({ state }) => state !== 'canary')
}

async function sourcesOf(
  { db }: Pick<Deps, 'db'>,
  filter: Pick<SourceFilter, 'keyId' | 'tenant' | 'requestId'>,
): Promise<SourceFilter> {
  return { ...filter, tenantKeyIds: filter.tenant === undefined ? [] : await listKeyIds(db, filter.tenant) }
}
