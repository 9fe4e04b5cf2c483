import type { DetectorEntry } from '@copal/shared/wire/admin-alerts.ts'
import { ALARM_THRESHOLDS } from '../../../contracts/detector-state.ts'
import type { DetectorRow } from '../../../storage/db/queries/detector-queries.ts'
import { Adwin } from './adwin.ts'
import { PageHinkley } from './page-hinkley.ts'
import { SIGNALS } from './signals.ts'

/** Describes stored detectors of one model for the admin API: two entries for each row, one a detector. */
export function detectorEntries(rows: readonly DetectorRow[]): DetectorEntry[] {
  return rows.flatMap(({ domain, maskVersion, signal, requests, state }) => {
    const rules = SIGNALS[signal]
    const window = new Adwin(state.adwin, rules)
    const common = {
      domain,
      mask_version: maskVersion,
      signal,
      observations: requests,
      mean: window.mean ?? null,
    }
    const { pageHinkleyMs, adwinMs } = state.alarms
    return [
      {
        ...common,
        detector: 'page_hinkley' as const,
        statistic: new PageHinkley(state.pageHinkley, rules).statistic,
        threshold: ALARM_THRESHOLDS.pageHinkley,
        alarmed_at: timeOf(pageHinkleyMs),
      },
      {
        ...common,
        detector: 'adwin' as const,
        statistic: state.adwin.ratio,
        threshold: ALARM_THRESHOLDS.adwin,
        alarmed_at: timeOf(adwinMs),
      },
    ]
  })
}

function timeOf(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString()
}
