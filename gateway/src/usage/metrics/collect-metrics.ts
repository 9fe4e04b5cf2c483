import type { MetricFamily } from '@copal/shared/telemetry/family.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { listHeldAlerts } from '../../storage/db/queries/alert-queries.ts'
import { findCacheCounts } from '../../storage/db/queries/cache-count-queries.ts'
import { listDetectorStatistics } from '../../storage/db/queries/detector-queries.ts'
import { listMetricCounts } from '../../storage/db/queries/metric-count-queries.ts'
import {
  averageJobProgress,
  countFailedInARow,
  findDatabaseSize,
  listNamedDomains,
  listNewestGates,
  listSparsities,
  sumCacheCounts,
  sumUsage,
} from '../../storage/db/queries/metric-total-queries.ts'
import { listModels } from '../../storage/db/queries/model-queries.ts'
import { listProbeScores, MAX_PROBE_AGE_MS } from '../../storage/db/queries/probe-queries.ts'
import { listRunningUpdates } from '../../storage/db/queries/update-queries.ts'
import { alertSamples } from './alert-metrics.ts'
import { cacheSamples } from './cache-metrics.ts'
import { countSamples } from './count-metrics.ts'
import { driftSamples } from './drift-metrics.ts'
import { dispatchSamples, fleetSamples, sparsitySamples } from './fleet-metrics.ts'
import { createLabelBounds, masksInForce, MAX_DOMAINS } from './label-bounds.ts'
import { familiesOf, tenantFamiliesOf } from './metric-samples.ts'
import { rejectionSamples, usageSamples } from './request-metrics.ts'
import { shadowSamples, trialSamples } from './trial-metrics.ts'
import { updateSamples } from './update-metrics.ts'
import { boundRows } from './usage-rows.ts'

type MetricDeps = Pick<Deps, 'db' | 'fleet' | 'nowMs'>

/** Collects every metric of the service. The number of rows that it reads does not grow with requests, tenants, masks or updates. */
export async function collectMetrics({ db, fleet, nowMs }: MetricDeps): Promise<MetricFamily[]> {
  const models = await listModels(db)
  const inForce = masksInForce(models)
  const [named, usage, snapshot, rejections, dispatch, counts, caches, sparsities, alerts, updates, size] =
    await Promise.all([
      listNamedDomains(db, MAX_DOMAINS),
      sumUsage(db, inForce),
      fleet.snapshot(),
      fleet.rejectionCounts(),
      fleet.dispatchMetrics(),
      listMetricCounts(db),
      sumCacheCounts(db),
      listSparsities(db, inForce),
      collectAlerts(db, nowMs()),
      collectUpdates(db),
      findDatabaseSize(db),
    ])
  const bounds = createLabelBounds(named)
  const rows = boundRows(usage, bounds)
  return familiesOf({
    ...usageSamples(rows),
    ...rejectionSamples(rejections),
    ...driftSamples(rows),
    ...cacheSamples(caches),
    ...fleetSamples(models, snapshot),
    ...sparsitySamples(sparsities),
    ...dispatchSamples(dispatch),
    ...trialSamples(models),
    ...(await shadowSamples(db, models)),
    ...countSamples(counts, new Set(named.map(({ domain }) => domain))),
    ...updateSamples(updates, nowMs()),
    ...alertSamples(models, alerts, bounds),
    databaseSize: [{ labels: [], value: size }],
  })
}

async function collectUpdates(db: Deps['db']) {
  const [failedInARow, running, progress, gates] = await Promise.all([
    countFailedInARow(db),
    listRunningUpdates(db),
    averageJobProgress(db),
    listNewestGates(db),
  ])
  return { failedInARow, running, progress, gates }
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
  const [usage, caches, rejections] = await Promise.all([
    sumUsage(db, masksInForce(await listModels(db)), tenant),
    findCacheCounts(db, tenant),
    fleet.rejectionCounts(),
  ])
  // Its own domains are bounded where they are counted.
  const own = usage.map(({ model, domain }) => ({ model, domain }))
  const rows = boundRows(usage, createLabelBounds(own))
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
