import type { Sample } from '@copal/shared/telemetry/family.ts'
import { alertKind } from '@copal/shared/wire/admin-alerts.ts'
import { ALARM_THRESHOLDS } from '../../contracts/detector-state.ts'
import type { AlertRow } from '../../storage/db/queries/alert-queries.ts'
import type { listDetectorStatistics } from '../../storage/db/queries/detector-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { ProbeRow } from '../../storage/db/queries/probe-queries.ts'
import type { LabelBounds } from './label-bounds.ts'
import type { MetricSamples } from './metric-samples.ts'

/** Returns the state of drift detectors, the alerts that hold, and the scores of the probe texts. */
export function alertSamples(
  models: readonly ModelRow[],
  {
    detectors,
    alerts,
    probes,
  }: {
    detectors: Awaited<ReturnType<typeof listDetectorStatistics>>
    alerts: readonly AlertRow[]
    probes: readonly ProbeRow[]
  },
  bounds: LabelBounds,
) {
  const shown = detectors.filter(({ model, domain }) => bounds.domain(model, domain) === domain)
  return {
    detectorStatistic: shown.flatMap(({ model, domain, signal, pageHinkley, adwin }): Sample[] => [
      { labels: [model, domain, signal, 'page_hinkley'], value: pageHinkley },
      { labels: [model, domain, signal, 'adwin'], value: adwin },
    ]),
    detectorThreshold: shown.flatMap(({ model, domain, signal }): Sample[] => [
      { labels: [model, domain, signal, 'page_hinkley'], value: ALARM_THRESHOLDS.pageHinkley },
      { labels: [model, domain, signal, 'adwin'], value: ALARM_THRESHOLDS.adwin },
    ]),
    alerts: models.flatMap(({ id }) =>
      alertKind.options.map((kind): Sample => {
        const own = alerts.filter(
          (alert) => alert.model === id && alert.kind === kind && alert.endedAt === null,
        )
        return { labels: [id, kind], value: own.length }
      }),
    ),
    probeNll: probes.map(({ nodeId, model, maskVersion, nll }) => ({
      labels: [nodeId, model, maskVersion],
      value: nll,
    })),
    probeMatches: probes.map(({ nodeId, model, maskVersion, mismatches }) => ({
      labels: [nodeId, model, maskVersion],
      value: mismatches === 0 ? 1 : 0,
    })),
  } satisfies Partial<MetricSamples>
}
