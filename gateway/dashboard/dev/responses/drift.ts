import type { DriftReport } from '@copal/shared/wire/admin.ts'
import type { TriggersReport } from '@copal/shared/wire/admin-triggers.ts'
import { ago, DOMAINS, MODEL } from './service.ts'
import { RUNNING_ID, runningUpdate } from './updates.ts'

/** Live drift and the R matrix. */
export function drift(): DriftReport {
  const columns = DOMAINS.slice(0, 4).map(({ name }) => name)
  const stages = [0, 9, 10, 11, 13, 14]
  const bases = [7.2, 4.1, 11.8, 8.9]
  return {
    model: MODEL,
    active_version: 14,
    traffic: DOMAINS.slice(0, 5).map(({ name, gap }) => ({
      domain: name,
      mask_version: 14,
      requests: 400,
      tokens: 90_000,
      nll_masked: 1.95 + (gap ?? 0),
      nll_dense: 1.95,
      gap: gap ?? 0,
    })),
    r: {
      domains: columns,
      stages: stages.map((mask_version, index) => ({
        mask_version,
        calibrated_domains: index === 0 ? [] : columns.slice(0, Math.min(columns.length, index)),
      })),
      perplexity: stages.map((_stage, stage) =>
        columns.map((_column, column) =>
          stage > 0 && column > stage + 1
            ? null
            : (bases[column] ?? 1) *
              (stage === 0 ? 1 : 1.09 - 0.012 * stage + 0.01 * ((column * 3 + stage) % 4)),
        ),
      ),
      holdouts: columns.map((domain) => ({ domain, version: 3, sha256: 'b'.repeat(64) })),
      backward_transfer: { mean: -0.08, max: 0.02 },
      forgetting: [],
    },
  }
}

/** Which domains are due for an update. */
export function triggers(): TriggersReport {
  return {
    model: MODEL,
    enabled: true,
    dry_run: false,
    running: runningUpdate(),
    waits_for: `Update ${RUNNING_ID} runs.`,
    next_start_at: null,
    next_schedule_at: ago(-5 * 60),
    started_today: 2,
    next_domains: ['support'],
    node_share: 0.3,
    domains: DOMAINS.map(({ name, share, gap }) => ({
      domain: name,
      new_segments: Math.round(180 * share),
      gap,
      traffic_share: share,
      gain: (gap ?? 0) * 10,
      due: name === 'support' ? ('drift' as const) : null,
      reason:
        name === 'support'
          ? 'its scored gap is 0.064 nats a token, above 0.05'
          : `${Math.round(180 * share)} of 128 new segments`,
      missing_holdout_tokens: name === 'recipes' ? 330 : 0,
      failures: 0,
      not_before: null,
    })),
  }
}
