import type { NodeEntry, UpdateEntry } from '@copal/shared/wire/admin.ts'
import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'

type Domain = OverviewReport['domains'][number]

/** An overview of a service in which all is well, with changes. */
export function overviewWith(changes: Partial<OverviewReport> = {}): OverviewReport {
  return {
    at: '2026-11-28T12:00:00Z',
    version: '1',
    model: {
      id: 'm',
      parameters: 1_000,
      active_version: 14,
      previous_version: 13,
      active_since: '2026-11-28T11:30:00Z',
      mask: null,
      weight_bytes: null,
      dense_bytes: null,
      converged: true,
    },
    health: { problems: [], text: 'All is well.' },
    models: ['m'],
    nodes: [nodeOf('node-1'), nodeOf('node-2')],
    traffic: {
      requests_per_second: 1,
      tokens_per_second: 100,
      running: 0,
      waiting: 0,
      first_token_ms_p95: null,
      failed_share: 0,
      tokens_trend: [0, 1],
    },
    domains: [domainOf('code', 0.03), domainOf('speech', 0.02), domainOf('poetry', null)],
    domain_count: 3,
    updates: [],
    canary: null,
    decisions: [],
    alerts: [],
    ...changes,
  }
}

/** A live node, with changes. */
export function nodeOf(id: string, changes: Partial<NodeEntry> = {}): NodeEntry {
  return {
    id,
    url: `http://${id}`,
    model: 'm',
    alive: true,
    draining: false,
    drained_by_operator: false,
    active_version: 14,
    weight_sets: [{ version: 14, state: 'ready', requests: 0 }],
    running: 2,
    waiting: 0,
    leases: 2,
    seen_ms_ago: 500,
    ...changes,
  }
}

/** A domain with a cost of pruning, nats a token. */
export function domainOf(name: string, gap: number | null): Domain {
  return {
    name,
    traffic_share: 0.5,
    requests: 10,
    scored_requests: gap === null ? 0 : 5,
    gap: gap === null ? null : { mean: gap, lower: gap - 0.01, upper: gap + 0.01 },
    mask_version: 14,
    gap_trend: [],
    drifting: false,
    missing_observations: 0,
  }
}

/** An update that started ten minutes before the overview. */
export function updateOf(changes: Partial<UpdateEntry> = {}): UpdateEntry {
  return {
    id: 'u1',
    model: 'm',
    domains: ['code'],
    method: 'wanda',
    pattern: '50%',
    patterns: {},
    scope: 'row',
    state: 'calibrating',
    progress: 0.5,
    message: '',
    mask_version: null,
    parent_version: 14,
    candidate: 1,
    error: null,
    trigger: 'drift',
    trigger_reason: '',
    created_at: '2026-11-28T11:50:00Z',
    finished_at: null,
    job: null,
    ...changes,
  }
}

/** An alert that holds. */
export function alertOf(id: string): OverviewReport['alerts'][number] {
  return {
    id,
    kind: 'gap_drift',
    model: 'm',
    domain: 'code',
    mask_version: 14,
    node: null,
    message: 'It costs more.',
    raised_at: '2026-11-28T11:59:00Z',
    ended_at: null,
  }
}
