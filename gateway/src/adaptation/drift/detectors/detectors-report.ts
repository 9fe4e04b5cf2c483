import type { DetectorEntry } from '@copal/shared/wire/admin-alerts.ts'
import type { DetectorRow } from '../../../storage/db/queries/detector-queries.ts'
import { Adwin } from './adwin.ts'
import { PAGE_HINKLEY, PageHinkley } from './page-hinkley.ts'
import { SIGNALS } from './signals.ts'

/** Describes stored detectors for the admin API and metrics: two entries for each row, one a detector. */
export function detectorEntries(rows: readonly DetectorRow[]): (DetectorEntry & { model: string })[] {
  return rows.flatMap(({ model, domain, maskVersion, signal, requests, state }) => {
    const rules = SIGNALS[signal]
    const window = new Adwin(state.adwin, rules)
    const common = {
      model,
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
        threshold: PAGE_HINKLEY.threshold,
        alarmed_at: timeOf(pageHinkleyMs),
      },
      {
        ...common,
        detector: 'adwin' as const,
        statistic: state.adwin.ratio,
        threshold: 1,
        alarmed_at: timeOf(adwinMs),
      },
    ]
  })
}

function timeOf(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString()
}
