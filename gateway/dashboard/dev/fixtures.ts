/** Responses of an invented service, for looking at the dashboard without one. */
import type { DomainEntry, DriftReport, NodeEntry, UpdateEntry, MaskEntry } from '@copal/shared/wire/admin.ts'
import type { AlertsReport, DetectorsReport } from '@copal/shared/wire/admin-alerts.ts'
import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import type { ProposalEntry } from '@copal/shared/wire/admin-proposals.ts'
import type { ReviewEntry } from '@copal/shared/wire/admin-review.ts'
import type { MaskSeries, SeriesReport } from '@copal/shared/wire/admin-series.ts'
import type { TriggersReport } from '@copal/shared/wire/admin-triggers.ts'

const MODEL = 'llama-3.2-1b'
const NAMES = ['speech', 'code', 'support', 'legal', 'medical-notes', 'recipes']
const SHARES = [0.41, 0.33, 0.12, 0.08, 0.05, 0.01]
const GAPS = [0.021, 0.035, 0.064, 0.012, 0.028, null]

/** A time before now, ISO 8601. */
const ago = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString()

/** Repeatable numbers between 0 and 1. */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296
    return state / 4_294_967_296
  }
}

const domainNames = (count: number) =>
  Array.from({ length: count }, (_, index) => NAMES[index] ?? `domain-${index + 1}`)

function mask(version: number): MaskEntry {
  return {
    model: MODEL,
    version,
    sha256: String(version).padStart(64, 'a'),
    parent_version: version > 1 ? version - 1 : null,
    method: 'wanda+swaps',
    pattern: '50%',
    scope: 'row',
    sparsity: 0.5,
    churn: 0.031,
    domains: ['speech', 'code'],
    bytes: 77_000_000,
    pinned: false,
    active: version === 14,
    previous: version === 13,
    created_at: ago(400),
    promoted_at: ago(250),
  }
}

function node(index: number, alive = true): NodeEntry {
  return {
    id: `node-${index}`,
    url: `http://10.0.0.${index}:9000`,
    model: MODEL,
    alive,
    draining: false,
    drained_by_operator: false,
    active_version: 14,
    weight_sets: [{ version: 14, state: 'ready', requests: 2 }],
    running: 2,
    waiting: 0,
    leases: 2,
    seen_ms_ago: 800,
  }
}

function update(state: UpdateEntry['state']): UpdateEntry {
  return {
    id: 'upd_8f2c61',
    model: MODEL,
    domains: ['support'],
    method: 'wanda+swaps',
    pattern: '50%',
    patterns: {},
    scope: 'row',
    state,
    progress: 0.43,
    message: 'Calibrating layer 12 of 28',
    mask_version: null,
    parent_version: 14,
    candidate: 1,
    error: null,
    trigger: 'drift',
    trigger_reason: 'The gap of support rose to 0.064 nats a token, above 0.05.',
    created_at: ago(6.5),
    finished_at: null,
    job: { state: 'running', progress: 0.5, message: 'layer 12 of 28', node: 'node-2', attempt: 1 },
  }
}

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
      mask: mask(14),
      weight_bytes: 1_430_000_000,
      dense_bytes: 2_470_000_000,
      converged: true,
    },
    models: [MODEL],
    nodes: [node(1), node(2), node(3)],
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
    domains: NAMES.map((name, index) => ({
      name,
      traffic_share: SHARES[index] ?? 0,
      requests: Math.round(120_000 * (SHARES[index] ?? 0)),
      gap:
        typeof GAPS[index] === 'number'
          ? { mean: GAPS[index], lower: GAPS[index] - 0.006, upper: GAPS[index] + 0.006 }
          : null,
      gap_trend: Array.from({ length: 8 }, (_, part) =>
        typeof GAPS[index] === 'number'
          ? GAPS[index] * (name === 'support' ? 0.4 + part * 0.09 : 1 + 0.1 * Math.sin(part))
          : null,
      ),
      drifting: name === 'support',
    })),
    updates: [update('calibrating')],
    canary: null,
    decisions: [
      [
        'trigger',
        'done',
        'The gap of support rose to 0.064 nats a token, above 0.05.',
        'upd_8f2c61',
        ['support'],
        6.5,
        null,
      ],
      [
        'watch',
        'passed',
        'Mask 14 was watched for an hour: speech gained 1.4 %, no domain lost more than 0.3 %.',
        'upd_77aa10',
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
      ['promote', 'done', 'Mask 14 is live for all.', 'upd_77aa10', ['speech'], 250, 14],
      [
        'canary',
        'passed',
        'Canary at 10 %: 38,211 tokens, gap to mask 13 between −2.1 % and −0.4 %.',
        'upd_77aa10',
        ['speech'],
        264,
        14,
      ],
      ['gate', 'passed', '6 of 6 domains within their bounds.', 'upd_77aa10', ['speech'], 282, 14],
      [
        'gate',
        'retried',
        'code lost 2.3 %, above 1.5 %: another candidate is selected with more weight for code.',
        'upd_77aa10',
        ['speech'],
        290,
        14,
      ],
      [
        'roll_back',
        'done',
        'Mask 12 was rolled back to mask 11 by admin: support complained.',
        'upd_600001',
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
    nodes: [{ ...node(1), active_version: 0, running: 0, leases: 0 }],
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

/** Series of domains over a span of seconds. */
export function series(spanS: number, count: number, domain?: string): SeriesReport {
  const width = spanS <= 7_200 ? 60 : spanS <= 90_000 ? 300 : spanS <= 8 * 86_400 ? 3_600 : 86_400
  const end = Math.ceil(Date.now() / 1000 / width) * width
  const starts = Array.from({ length: Math.round(spanS / width) }, (_, index) => end - spanS + index * width)
  const promotedAt = starts.findIndex((start) => start * 1000 > Date.now() - 250 * 60_000)
  const all = domainNames(count)
    .filter((name) => domain === undefined || name === domain)
    .flatMap((name, index) => [
      maskSeries(name, index, 13, starts, 0, Math.max(1, promotedAt + 1)),
      ...(promotedAt >= 0 ? [maskSeries(name, index, 14, starts, promotedAt, starts.length)] : []),
    ])
  return {
    model: MODEL,
    width,
    starts,
    series: all,
    marks: [
      {
        at: ago(250),
        kind: 'promoted',
        mask_version: 14,
        domain: null,
        update: 'upd_77aa10',
        text: 'Mask 14 is live for all.',
      },
      {
        at: ago(264),
        kind: 'canary',
        mask_version: 14,
        domain: null,
        update: 'upd_77aa10',
        text: 'Canary of mask 14 at 10 %.',
      },
      {
        at: ago(700),
        kind: 'gate_failed',
        mask_version: 13,
        domain: 'code',
        update: 'upd_660000',
        text: 'The gate rejected a mask: code lost 2.3 %.',
      },
      {
        at: ago(1_000),
        kind: 'rolled_back',
        mask_version: 12,
        domain: null,
        update: 'upd_600001',
        text: 'Mask 12 was rolled back to mask 11.',
      },
      {
        at: ago(9),
        kind: 'alert',
        mask_version: 14,
        domain: 'support',
        update: null,
        text: 'Pruning costs support more than a day ago.',
      },
    ],
  }
}

function maskSeries(
  domain: string,
  index: number,
  version: number,
  starts: readonly number[],
  from: number,
  to: number,
): MaskSeries {
  const random = randomFrom(index * 31 + version + domain.length)
  const periods = Array.from({ length: to - from }, (_, at) => from + at)
  const base = 1.9 + (domain.length % 5) * 0.12
  const points = periods.map((at) => {
    const isKnown = random() > 0.04 && !(at > 40 && at < 52)
    const dense = base + 0.08 * Math.sin(at / 20) + 0.05 * (random() - 0.5)
    const gap =
      (version === 13 ? 0.045 : 0.024) +
      (domain === 'support' ? 0.03 * (at / starts.length) : 0) +
      0.006 * (random() - 0.5)
    return { isKnown, dense, gap, half: 0.004 + 0.004 * random() }
  })
  const estimate = (mean: (point: (typeof points)[number]) => number, factor = 1) => ({
    mean: points.map((point) => (point.isKnown ? mean(point) : null)),
    lower: points.map((point) => (point.isKnown ? mean(point) - factor * point.half : null)),
    upper: points.map((point) => (point.isKnown ? mean(point) + factor * point.half : null)),
  })
  const counts = (scale: number) => periods.map(() => Math.round(scale * (0.6 + random())))
  return {
    domain,
    mask_version: version,
    periods,
    requests: counts(120 / (index + 1)),
    failed: counts(0.1),
    prompt_tokens: counts(30_000 / (index + 1)),
    completion_tokens: counts(12_000 / (index + 1)),
    first_token_ms: { p50: counts(90), p95: counts(200) },
    scored_requests: counts(20),
    scored_tokens: counts(5_000),
    dense: estimate(({ dense }) => dense, 8),
    pruned: estimate(({ dense, gap }) => dense + gap, 8),
    gap: estimate(({ gap }) => gap),
    not_scored: {
      not_sampled: counts(80),
      too_short: counts(4),
      budget: counts(8),
      evicted: counts(2),
      failed: counts(0),
    },
  }
}

/** Domains with their samples. */
export function domains(): { data: DomainEntry[] } {
  return {
    data: NAMES.map((name, index) => ({
      name,
      samples: Math.round(2_000 * (SHARES[index] ?? 0)) + 40,
      characters: Math.round(4_000_000 * (SHARES[index] ?? 0)),
      new_samples: Math.round(300 * (SHARES[index] ?? 0)),
      seen: Math.round(90_000 * (SHARES[index] ?? 0)),
      holdout_samples: 64,
      holdout_tokens: 16_384,
      holdout_frozen: index < 4,
      holdout_version: index < 4 ? 3 : null,
      owner: name === 'medical-notes' ? 'clinic' : null,
      review_samples: name === 'support' ? 3 : 0,
      own_mask: name === 'legal' ? 15 : null,
      calibrated_datasets: index < 4 ? 5 - index : 0,
      last_sample_at: ago(3 + index * 40),
    })),
  }
}

/** Live drift and the R matrix. */
export function drift(): DriftReport {
  const columns = NAMES.slice(0, 4)
  const stages = [0, 9, 10, 11, 13, 14]
  const bases = [7.2, 4.1, 11.8, 8.9]
  return {
    model: MODEL,
    active_version: 14,
    traffic: NAMES.slice(0, 5).map((domain, index) => ({
      domain,
      mask_version: 14,
      requests: 400,
      tokens: 90_000,
      nll_masked: 1.95 + (GAPS[index] ?? 0),
      nll_dense: 1.95,
      gap: GAPS[index] ?? 0,
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
    running: update('calibrating'),
    waits_for: 'Update upd_8f2c61 runs.',
    next_start_at: null,
    next_schedule_at: new Date(Date.now() + 5 * 3_600_000).toISOString(),
    started_today: 2,
    next_domains: ['support'],
    node_share: 0.3,
    domains: NAMES.map((domain, index) => ({
      domain,
      new_segments: Math.round(180 * (SHARES[index] ?? 0)),
      gap: GAPS[index] ?? null,
      traffic_share: SHARES[index] ?? 0,
      gain: (GAPS[index] ?? 0) * 10,
      due: domain === 'support' ? ('drift' as const) : null,
      reason:
        domain === 'support'
          ? 'The gap of 0.064 nats a token is above 0.05.'
          : `${Math.round(180 * (SHARES[index] ?? 0))} of 128 new segments; the gap of ${GAPS[index] ?? 0} nats a token is below 0.05.`,
      missing_holdout_tokens: index > 3 ? 3_200 : 0,
      failures: 0,
      not_before: null,
    })),
  }
}

/** States of detectors. */
export function detectors(): DetectorsReport {
  return {
    model: MODEL,
    detectors: NAMES.slice(0, 5).flatMap((domain) =>
      (['dense', 'gap'] as const).flatMap((signal) =>
        (['page_hinkley', 'adwin'] as const).map((detector) => ({
          domain,
          mask_version: signal === 'dense' ? 0 : 14,
          signal,
          detector,
          observations: 1_834,
          statistic: domain === 'support' && signal === 'gap' ? 13.2 : 2.1 + domain.length * 0.7,
          threshold: 12,
          mean: signal === 'dense' ? 1.95 : 0.031,
          alarmed_at: domain === 'support' && signal === 'gap' ? ago(9) : null,
        })),
      ),
    ),
  }
}

/** Texts that are set aside. */
export function review(): { data: ReviewEntry[] } {
  return {
    data: [4.91, 4.4, 4.02].map((nll, index) => ({
      id: String(index).repeat(64),
      key: 'key_4fa1',
      tenant: 'shop',
      side: index === 2 ? ('holdout' as const) : ('pool' as const),
      nll,
      characters: 812 + index * 200,
      preview:
        [
          'Sehr geehrte Damen und Herren, meine Bestellung [number] ist nicht angekommen. Bitte prüfen Sie den Stand.',
          '<script>alert(1)</script> is what the customer wrote into the form, and nothing else of use.',
          'lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore',
        ][index] ?? '',
    })),
  }
}

/** Proposed domains. */
export function proposals(): { data: ProposalEntry[] } {
  return {
    data: [
      {
        id: 'prop_1',
        model: MODEL,
        name: 'travel-booking',
        terms: ['flight', 'hotel', 'booking', 'check-in', 'luggage'],
        texts: 214,
        characters: 180_000,
        state: 'proposed',
        domain: null,
        preview: [
          'I need to move my flight from [date] to the next morning, and keep the seats.',
          'Does the hotel have a late check-in? We land at 23:40.',
        ],
        created_at: ago(700),
        updated_at: ago(30),
      },
      {
        id: 'prop_2',
        model: MODEL,
        name: 'poetry',
        terms: ['verse', 'rhyme', 'stanza'],
        texts: 61,
        characters: 40_000,
        state: 'proposed',
        domain: null,
        preview: ['Write a sonnet about the sea in November.'],
        created_at: ago(3_700),
        updated_at: ago(300),
      },
    ],
  }
}
