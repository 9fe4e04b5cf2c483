import type { AlertsReport, DetectorsReport } from '@copal/shared/wire/admin-alerts.ts'
import { ago, DOMAINS, MODEL } from './service.ts'

/** The thresholds of the gateway's detectors. */
const ALARM_THRESHOLDS = { page_hinkley: 50, adwin: 1 } as const

/** Alerts, one of which holds. */
export function alerts(): AlertsReport {
  return {
    alerts: [
      {
        id: 'alt_1',
        kind: 'gap_drift',
        model: MODEL,
        domain: 'support',
        mask_version: 14,
        node: null,
        message:
          'Pruning costs support 6.6 % perplexity, 2.5 % a day ago. An update of the domain has started.',
        raised_at: ago(9),
        ended_at: null,
      },
      {
        id: 'alt_0',
        kind: 'input_drift',
        model: MODEL,
        domain: 'code',
        mask_version: null,
        node: null,
        message: 'The texts of code changed: their dense loss rose from 1.92 to 2.21 nats a token.',
        raised_at: ago(3_000),
        ended_at: ago(1_400),
      },
    ],
  }
}

/** States of detectors. */
export function detectors(): DetectorsReport {
  return {
    model: MODEL,
    detectors: DOMAINS.slice(0, 5).flatMap(({ name: domain }) =>
      (['dense', 'gap'] as const).flatMap((signal) =>
        (['page_hinkley', 'adwin'] as const).map((detector) => ({
          domain,
          mask_version: signal === 'dense' ? 0 : 14,
          signal,
          detector,
          observations: 1_834,
          statistic:
            (domain === 'support' && signal === 'gap' ? 1.1 : 0.1 + domain.length * 0.05) *
            ALARM_THRESHOLDS[detector],
          threshold: ALARM_THRESHOLDS[detector],
          mean: signal === 'dense' ? 1.95 : 0.031,
          alarmed_at: domain === 'support' && signal === 'gap' ? ago(9) : null,
        })),
      ),
    ),
  }
}
