import type { DomainSummary } from '@copal/shared/wire/admin-overview.ts'
import { missingObservations } from '../adaptation/drift/detectors/missing-observations.ts'
import type { Deps } from '../contracts/bindings.ts'
import type { ModelRow } from '../storage/db/queries/model-queries.ts'
import { listHeldAlerts } from '../storage/db/queries/alert-queries.ts'
import { findOwners } from '../storage/db/queries/domain-queries.ts'
import { domainSummaries, domainSummary, type TrafficSummary } from '../usage/series/domain-summaries.ts'

type SummariseDeps = Pick<Deps, 'db' | 'nowMs'>
type SummarisedModel = Pick<ModelRow, 'id' | 'activeVersion' | 'domainVersions'>

/**
 * Returns the last 24 hours of each domain of a model, with what its drift detectors lack. They read the scored requests of
 * registered domains alone.
 *
 * @param drifting names of the domains with an alert that holds
 */
export async function summariseDomains(
  deps: SummariseDeps,
  model: SummarisedModel,
  drifting: ReadonlySet<string>,
): Promise<DomainSummary[]> {
  const summaries = await domainSummaries(deps, model, drifting)
  return summaries.map(await readMissing(deps, model, summaries))
}

/** Returns the last 24 hours of one domain of a model, as {@link summariseDomains} does; zeros without traffic. */
export async function summariseDomain(
  deps: SummariseDeps,
  model: SummarisedModel,
  domain: string,
): Promise<DomainSummary> {
  const alerts = await listHeldAlerts(deps.db, model.id)
  const drifting = new Set(alerts.flatMap((alert) => alert.domain ?? []))
  const traffic = await domainSummary(deps, model, domain, drifting)
  const withMissing = await readMissing(deps, model, [traffic])
  return withMissing(traffic)
}

/** Reads what the drift detectors of domains lack. @returns a function that adds it to a summary */
async function readMissing(
  { db }: SummariseDeps,
  { id }: SummarisedModel,
  summaries: readonly TrafficSummary[],
): Promise<(summary: TrafficSummary) => DomainSummary> {
  const scored = summaries.filter(({ scored_requests: count }) => count > 0)
  const served = scored.map(({ name, mask_version: maskVersion }) => ({ name, maskVersion }))
  const names = scored.map(({ name }) => name)
  const [missing, registered] = await Promise.all([
    missingObservations(db, id, served),
    findOwners(db, names),
  ])
  return (summary) => {
    const isRead = summary.scored_requests > 0 && registered.has(summary.name)
    return { ...summary, missing_observations: isRead ? (missing.get(summary.name) ?? 0) : null }
  }
}
