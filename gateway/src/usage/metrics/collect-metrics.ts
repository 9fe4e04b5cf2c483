import type { MetricFamily } from '@copal/shared/telemetry/family.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { listHeldAlerts } from '../../storage/db/queries/alert-queries.ts'
import { findCacheCounts } from '../../storage/db/queries/cache-count-queries.ts'
import { listDetectorStatistics } from '../../storage/db/queries/detector-queries.ts'
import { listMetricCounts } from '../../storage/db/queries/metric-count-queries.ts'
import {
  averageJobProgress,
  countDecisions,
  countFailedInARow,
  countUpdates,
  listMaskSparsities,
  listNamedDomains,
  listNewestGates,
  sumCacheCounts,
  sumUsageOfService,
  sumUsageOfTenant,
} from '../../storage/db/queries/metric-total-queries.ts'
import { listModels } from '../../storage/db/queries/model-queries.ts'
import { listProbeScores, MAX_PROBE_AGE_MS } from '../../storage/db/queries/probe-queries.ts'
import { listRunningUpdates } from '../../storage/db/queries/update-queries.ts'
import { alertSamples } from './alert-metrics.ts'
import { cacheSamples } from './cache-metrics.ts'
import { countSamples } from './count-metrics.ts'
import { driftSamples } from './drift-metrics.ts'
import { dispatchSamples, fleetSamples, sparsitySamples } from './fleet-metrics.ts'
import { createLabelBounds, MAX_DOMAINS } from './label-bounds.ts'
import { familiesOf, tenantFamiliesOf } from './metric-samples.ts'
import { rejectionSamples, usageSamples } from './request-metrics.ts'
import { shadowSamples, trialSamples } from './trial-metrics.ts'
import { updateSamples } from './update-metrics.ts'
import { boundRows } from './usage-rows.ts'

type MetricDeps = Pick<Deps, 'db' | 'fleet' | 'nowMs'>

/** Collects every metric of the service. What it reads does not grow with requests or tenants. */
export async function collectMetrics({ db, fleet, nowMs }: MetricDeps): Promise<MetricFamily[]> {
  const [models, named, usage, snapshot, rejections, dispatch, counts, caches, sparsities, alerts, updates] =
    await Promise.all([
      listModels(db),
      listNamedDomains(db, MAX_DOMAINS),
      sumUsageOfService(db),
      fleet.snapshot(),
      fleet.rejectionCounts(),
      fleet.dispatchMetrics(),
      listMetricCounts(db),
      sumCacheCounts(db),
      listMaskSparsities(db),
      collectAlerts(db, nowMs()),
      collectUpdates(db),
    ])
  const bounds = createLabelBounds(models, named, usage)
  const rows = boundRows(usage, bounds)
  return familiesOf({
    ...usageSamples(rows),
    ...rejectionSamples(rejections),
    ...driftSamples(rows),
    ...cacheSamples(caches),
    ...fleetSamples(models, snapshot),
    ...sparsitySamples(models, sparsities),
    ...dispatchSamples(dispatch),
    ...trialSamples(models),
    ...(await shadowSamples(db, models)),
    ...countSamples(counts, new Set(named.map(({ domain }) => domain))),
    ...updateSamples(updates, bounds, nowMs()),
    ...alertSamples(models, alerts, bounds),
  })
}

async function collectUpdates(db: Deps['db']) {
  const [counts, failedInARow, running, progress, decisions, gates] = await Promise.all([
    countUpdates(db),
    countFailedInARow(db),
    listRunningUpdates(db),
    averageJobProgress(db),
    countDecisions(db),
    listNewestGates(db),
  ])
  return { counts, failedInARow, running, progress, decisions, gates }
}

async function collectAlerts(db: Deps['db'], nowMs: number) {
  const [detectors, alerts, probes] = await Promise.all([
    listDetectorStatistics(db),
    listHeldAlerts(db),
    listProbeScores(db, undefined, nowMs - MAX_PROBE_AGE_MS),
  ])
  return { detectors, alerts, probes }
}

/** Collects the metrics of one tenant's traffic. */
export async function collectTenantMetrics(
  { db, fleet }: MetricDeps,
  tenant: string,
): Promise<MetricFamily[]> {
  const [models, usage, caches, rejections] = await Promise.all([
    listModels(db),
    sumUsageOfTenant(db, tenant),
    findCacheCounts(db, tenant),
    fleet.rejectionCounts(),
  ])
  // Its own domains are bounded where they are counted.
  const own = usage.map(({ model, domain }) => ({ model, domain }))
  const rows = boundRows(usage, createLabelBounds(models, own, usage))
  return tenantFamiliesOf(
    {
      ...usageSamples(rows),
      ...rejectionSamples(rejections.filter((rejection) => rejection.tenant === tenant)),
      ...driftSamples(rows),
      ...cacheSamples(caches),
    },
    tenant,
  )
}
