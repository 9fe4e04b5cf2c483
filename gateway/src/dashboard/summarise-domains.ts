import type { DomainSummary } from '@copal/shared/wire/admin-overview.ts'
import { missingObservations } from '../adaptation/drift/detectors/missing-observations.ts'
import type { Deps } from '../contracts/bindings.ts'
import type { ModelRow } from '../storage/db/queries/model-queries.ts'
import { domainSummaries } from '../usage/series/domain-summaries.ts'

/**
 * Returns the last 24 hours of each domain of a model, with what its drift detectors lack.
 *
 * @param drifting names of the domains with an alert that holds
 */
export async function summariseDomains(
  deps: Pick<Deps, 'db' | 'nowMs'>,
  model: Pick<ModelRow, 'id' | 'activeVersion' | 'domainVersions'>,
  drifting: ReadonlySet<string>,
): Promise<DomainSummary[]> {
  const summaries = await domainSummaries(deps, model, drifting)
  const served = summaries.map(({ name }) => ({
    name,
    maskVersion: model.domainVersions.get(name) ?? model.activeVersion,
  }))
  const missing = await missingObservations(deps.db, model.id, served)
  return summaries.map((summary) => ({ ...summary, missing_observations: missing.get(summary.name) ?? 0 }))
}
