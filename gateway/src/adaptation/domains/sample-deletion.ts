import type { DeletedSamples } from '@copal/shared/wire/admin-samples.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { SourceFilter } from '../../contracts/reservoir-object.ts'
import { listDomains } from '../../storage/db/queries/domain-queries.ts'
import { listKeyIds } from '../../storage/db/queries/key-queries.ts'
import { listMadeOf } from '../../storage/db/queries/made-of-queries.ts'
import { insertTombstone } from '../../storage/db/queries/tombstone-queries.ts'
import { listRunningUpdates } from '../../storage/db/queries/update-queries.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'
import { deleteFrozenTexts, listAffectedDatasets } from './domain-deletion.ts'

/**
 * Deletes the texts of a request, a key or a tenant in all domains, and among the texts that have no domain yet.
 *
 * Samples are deleted at once, and queued ones are not stored. Frozen texts are deleted unless an update may read them: then
 * the domain is pending, and the same call deletes them when the update has ended.
 *
 * @param filter at least one field; texts that match all of them are deleted
 */
export async function deleteSamplesOf(
  deps: Pick<Deps, 'db' | 'artifacts' | 'reservoir' | 'nowMs'>,
  filter: Pick<SourceFilter, 'keyId' | 'tenant' | 'requestId'>,
): Promise<DeletedSamples> {
  const { db, nowMs } = deps
  await insertTombstone(db, { ...filter, createdAt: nowMs() })
  const tenantKeyIds = filter.tenant === undefined ? [] : await listKeyIds(db, filter.tenant)
  const sources = { ...filter, tenantKeyIds }
  const result: DeletedSamples = { domains: [], pending: [] }
  const names = [...(await listDomains(db)).map(({ name }) => name), UNASSIGNED]
  for (const domain of names) {
    const deleted = await deps.reservoir(domain).deleteTexts(sources)
    const hashes = domain === UNASSIGNED ? [] : await listAffectedDatasets(deps, domain, sources)
    const readers = (await listRunningUpdates(db)).filter(({ state }) => state !== 'canary')
    // An update that collects may hold texts that it has not frozen yet.
    const reader = readers.find(({ domains }) => hashes.length > 0 || domains.includes(domain))
    if (reader) result.pending.push({ domain, update: reader.id })
    const made = await listMadeOf(db, domain, hashes)
    const frozen = reader ? 0 : await deleteFrozenTexts(deps, domain, sources)
    // One that began meanwhile may have frozen texts after they were looked for.
    const late = (await listRunningUpdates(db)).find(
      ({ state, domains }) => !reader && state !== 'canary' && domains.includes(domain),
    )
    if (late) result.pending.push({ domain, update: late.id })
    if (deleted + hashes.length > 0) result.domains.push({ domain, deleted, deleted_frozen: frozen, ...made })
  }
  return result
}
