import type { DomainSummary, OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import { alerts } from './alerts.ts'
import { maskOf } from './masks.ts'
import { nodeOf } from './nodes.ts'
import { ago, DOMAINS, MODEL } from './service.ts'
import { RUNNING_ID, runningUpdate, updateId } from './updates.ts'

/** The overview of a service with traffic. */
export function overview(): OverviewReport {
  return {
    at: new Date().toISOString(),
    version: '0.1.0',
    model: {
      id: MODEL,
      parameters: 1_235_814_400,
      active_version: 14,
      previous_version: 13,
      active_since: ago(250),
      mask: maskOf(14) ?? null,
      weight_bytes: 1_430_000_000,
      dense_bytes: 2_470_000_000,
      converged: true,
    },
    health: { problems: ['1 alert is active'], text: '1 alert is active.' },
    models: [MODEL],
    nodes: [nodeOf(1), nodeOf(2), nodeOf(3)],
    traffic: {
      requests_per_second: 3.42,
      tokens_per_second: 1_240,
      running: 6,
      waiting: 0,
      first_token_ms_p95: 212,
      failed_share: 0.0012,
      tokens_trend: Array.from({ length: 60 }, (_, minute) =>
        Math.round(50_000 + 22_000 * Math.sin(minute / 9) + ((minute * 7_919) % 9_000)),
      ),
    },
    domains: DOMAINS.map(summaryOf),
    domain_count: DOMAINS.length,
    updates: [runningUpdate()],
    canary: null,
    decisions: [
      [
        'trigger',
        'done',
        'The gap of support rose to 0.064 nats a token, above 0.05.',
        RUNNING_ID,
        ['support'],
        6.5,
        null,
      ],
      [
        'watch',
        'passed',
        'Mask 14 was watched for an hour: speech gained 1.4 %, no domain lost more than 0.3 %.',
        updateId(14),
        ['speech'],
        185,
        14,
      ],
      [
        'policy',
        'done',
        'gate.max_regression from 1.05 to 1.02; canary.share from 0.1 to 0.2; triggers.new_segments from 16 to 128; triggers.max_gap from 0.5 to 0.05; influence.max_key_share from 0.1 to 0.05; discovery.accept_texts from null to 400.',
        null,
        [],
        200,
        null,
      ],
      ['promote', 'done', 'Mask 14 is live for all.', updateId(14), ['speech'], 250, 14],
      [
        'canary',
        'passed',
        'Canary at 10 %: 38,211 tokens, gap to mask 13 between −2.1 % and −0.4 %.',
        updateId(14),
        ['speech'],
        264,
        14,
      ],
      ['gate', 'passed', '6 of 6 domains within their bounds.', updateId(14), ['speech'], 282, 14],
      [
        'gate',
        'retried',
        'code lost 2.3 %, above 1.5 %: another candidate is selected with more weight for code.',
        updateId(14),
        ['speech'],
        290,
        14,
      ],
      [
        'roll_back',
        'done',
        'Mask 12 was rolled back to mask 11 by admin: support complained.',
        updateId(12),
        ['support'],
        2_000,
        12,
      ],
    ].map(([kind, verdict, reason, id, about, minutes, version]) => ({
      kind,
      verdict,
      reason,
      mask_version: version,
      update: id,
      domains: about,
      actor: 'copal',
      created_at: ago(Number(minutes)),
    })) as OverviewReport['decisions'],
    alerts: alerts().alerts.filter(({ ended_at }) => ended_at === null),
  }
}

/** The last 24 hours of a domain that the overview does not list. */
export function trafficOf(name: string): DomainSummary {
  return summaryOf({ name, share: 0.001, gap: 0.03 })
}

function summaryOf({ name, share, gap }: (typeof DOMAINS)[number]): DomainSummary {
  return {
    name,
    traffic_share: share,
    requests: Math.round(120_000 * share),
    scored_requests: gap === null ? 0 : Math.round(60_000 * share),
    gap: gap === null ? null : { mean: gap, lower: gap - 0.006, upper: gap + 0.006 },
    gap_trend: Array.from({ length: 8 }, (_, part) =>
      gap === null ? null : gap * (name === 'support' ? 0.4 + part * 0.09 : 1 + 0.1 * Math.sin(part)),
    ),
    drifting: name === 'support',
    mask_version: name === 'legal' ? 15 : 14,
    missing_observations: name === 'recipes' ? 62 : 0,
  }
}

/** The overview of a service that just started. */
export function emptyOverview(): OverviewReport {
  const full = overview()
  return {
    ...full,
    model: {
      ...full.model,
      active_version: 0,
      previous_version: null,
      active_since: null,
      mask: null,
      weight_bytes: null,
    },
    health: { problems: [], text: 'All is well.' },
    nodes: [nodeOf(1, { active_version: 0, running: 0, leases: 0 })],
    traffic: {
      requests_per_second: 0,
      tokens_per_second: 0,
      running: 0,
      waiting: 0,
      first_token_ms_p95: null,
      failed_share: null,
      tokens_trend: Array.from({ length: 60 }, () => 0),
    },
    domains: [],
    updates: [],
    decisions: [],
    alerts: [],
  }
}
