import type { DomainSummary } from '@copal/shared/wire/admin-overview.ts'
import { missingObservations } from '../adaptation/drift/detectors/missing-observations.ts'
import type { Deps } from '../contracts/bindings.ts'
import type { ModelRow } from '../storage/db/queries/model-queries.ts'
import { findOwners } from '../storage/db/queries/domain-queries.ts'
import { domainSummaries } from '../usage/series/domain-summaries.ts'

/**
 * Returns the last 24 hours of each domain of a model, with what its drift detectors lack. They read the scored requests of
 * registered domains alone.
 *
 * @param drifting names of the domains with an alert that holds
 */
export async function summariseDomains(
  deps: Pick<Deps, 'db' | 'nowMs'>,
  model: Pick<ModelRow, 'id' | 'activeVersion' | 'domainVersions'>,
  drifting: ReadonlySet<string>,
): Promise<DomainSummary[]> {
  const summaries = await domainSummaries(deps, model, drifting)
  const scored = summaries.filter(({ scoredRequests }) => scoredRequests > 0)
  const served = scored.map(({ name, mask_version: maskVersion }) => ({ name, maskVersion }))
  const names = scored.map(({ name }) => name)
  const [missing, registered] = await Promise.all([
    missingObservations(deps.db, model.id, served),
    findOwners(deps.db, names),
  ])
  return summaries.map(({ scoredRequests, ...summary }) => {
    const isRead = scoredRequests > 0 && registered.has(summary.name)
    return { ...summary, missing_observations: isRead ? (missing.get(summary.name) ?? 0) : null }
  })
}
