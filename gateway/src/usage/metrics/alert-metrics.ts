import type { Sample } from '@copal/shared/telemetry/family.ts'
import { alertKind } from '@copal/shared/wire/admin-alerts.ts'
import { ALARM_THRESHOLDS } from '../../contracts/detector-state.ts'
import type { AlertRow } from '../../storage/db/queries/alert-queries.ts'
import type { DetectorRow } from '../../storage/db/queries/detector-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { ProbeRow } from '../../storage/db/queries/probe-queries.ts'
import { versionsInForce, type LabelBounds } from './label-bounds.ts'
import type { MetricSamples } from './metric-samples.ts'

/** Returns the state of drift detectors, the alerts that hold, and the scores of the probe texts. */
export function alertSamples(
  models: readonly ModelRow[],
  {
    detectors,
    alerts,
    probes,
  }: { detectors: readonly DetectorRow[]; alerts: readonly AlertRow[]; probes: readonly ProbeRow[] },
  bounds: LabelBounds,
) {
  const shown = detectors.filter((row) => isShown(row, models, bounds))
  return {
    detectorStatistic: shown.flatMap(({ model, domain, signal, state }): Sample[] => {
      const { up, down } = state.pageHinkley
      return [
        { labels: [model, domain, signal, 'page_hinkley'], value: Math.max(up.sum, down.sum) },
        { labels: [model, domain, signal, 'adwin'], value: state.adwin.ratio },
      ]
    }),
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

/** Returns whether a detector has series: of a named domain, on traffic or on the mask that serves the domain. */
function isShown(
  { model, domain, signal, maskVersion }: DetectorRow,
  models: readonly ModelRow[],
  bounds: LabelBounds,
): boolean {
  if (bounds.domain(model, domain) !== domain) return false
  if (signal === 'dense') return true
  const row = models.find(({ id }) => id === model)
  const serving = row?.domainVersions[domain] ?? row?.activeVersion
  return row !== undefined && serving === maskVersion && versionsInForce(row).includes(maskVersion)
}
