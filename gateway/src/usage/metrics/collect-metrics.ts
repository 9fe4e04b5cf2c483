import type { Deps } from '../../contracts/bindings.ts'
import { listCacheCounts } from '../../storage/db/queries/cache-count-queries.ts'
import { listModels } from '../../storage/db/queries/model-queries.ts'
import { sumDrift, sumUsage } from '../../storage/db/queries/usage-total-queries.ts'
import type { MetricFamily } from '../../telemetry/exposition.ts'
import { cacheFamilies } from './cache-metrics.ts'
import { driftFamilies } from './drift-metrics.ts'
import { fleetFamilies } from './fleet-metrics.ts'
import { rejectionFamily, usageFamilies } from './request-metrics.ts'
import { shadowFamilies, verdictFamilies } from './trial-metrics.ts'

/** Collects every metric of the service: traffic, drift, response caches, the fleet and its trials. */
export async function collectMetrics({ db, fleet }: Pick<Deps, 'db' | 'fleet'>): Promise<MetricFamily[]> {
  const [usage, drift, settled, caches, models, snapshot, rejections] = await Promise.all([
    sumUsage(db),
    sumDrift(db),
    sumDrift(db, { asSettled: true }),
    listCacheCounts(db),
    listModels(db),
    fleet.snapshot(),
    fleet.rejectionCounts(),
  ])
  return [
    ...usageFamilies(usage),
    rejectionFamily(rejections),
    ...driftFamilies(drift, settled),
    ...cacheFamilies(caches),
    ...fleetFamilies(models, snapshot),
    ...verdictFamilies(models),
    ...(await shadowFamilies(db, models)),
  ]
}

/** Collects the metrics of one tenant's traffic. */
export async function collectTenantMetrics(
  { db, fleet }: Pick<Deps, 'db' | 'fleet'>,
  tenant: string,
): Promise<MetricFamily[]> {
  const [usage, drift, settled, caches, rejections] = await Promise.all([
    sumUsage(db, tenant),
    sumDrift(db, { tenant }),
    sumDrift(db, { tenant, asSettled: true }),
    listCacheCounts(db, tenant),
    fleet.rejectionCounts(),
  ])
  return [
    ...usageFamilies(usage),
    rejectionFamily(rejections.filter((rejection) => rejection.tenant === tenant)),
    ...driftFamilies(drift, settled),
    ...cacheFamilies(caches),
  ]
}
