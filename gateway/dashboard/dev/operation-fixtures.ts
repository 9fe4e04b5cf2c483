/** Responses about updates, masks, nodes, keys and the audit log of an invented service, for looking at the dashboard. */
import type { DecisionEntry, DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import type { ProbesReport } from '@copal/shared/wire/admin-alerts.ts'
import type { AuditEntry, AuditPage } from '@copal/shared/wire/admin-audit.ts'
import type { KeyEntry, TenantEntry } from '@copal/shared/wire/admin-keys.ts'
import type { MaskChurn, MaskLinears } from '@copal/shared/wire/admin-mask-linears.ts'
import type { TrialCourse, TrialCourses } from '@copal/shared/wire/admin-trial-course.ts'
import type { MaskEntry, NodeEntry, StatusReport, UpdateEntry, UpdateJob } from '@copal/shared/wire/admin.ts'
import { auditHash, FIRST_PREVIOUS_HASH } from '@copal/shared/wire/audit-hash.ts'

const MODEL = 'llama-3.2-1b'
const MINUTE_MS = 60_000
const ago = (minutes: number) => new Date(Date.now() - minutes * MINUTE_MS).toISOString()

/** `[version, parent, state]` of the update that made it. */
const LINEAGE: readonly (readonly [number, number | null, UpdateEntry['state']])[] = [
  [1, null, 'promoted'],
  [2, 1, 'promoted'],
  [3, 2, 'failed'],
  [4, 2, 'promoted'],
  [5, 4, 'promoted'],
  [6, 5, 'rolled_back'],
  [7, 5, 'failed'],
  [8, 5, 'promoted'],
  [9, 8, 'promoted'],
  [10, 9, 'failed'],
  [11, 9, 'promoted'],
  [12, 11, 'rolled_back'],
  [13, 11, 'promoted'],
  [14, 13, 'promoted'],
  [15, 14, 'canary'],
]
const LEARNED = [['speech'], ['code'], ['support', 'speech'], ['legal'], ['medical-notes', 'code']]

const ageOf = (version: number) => (15 - version) * 640 + 40

function masks(): { data: MaskEntry[] } {
  return {
    data: LINEAGE.map(([version, parent, state]) => ({
      model: MODEL,
      version,
      sha256: String(version).padStart(64, 'a'),
      parent_version: parent,
      method: 'wanda+swaps',
      pattern: '50%',
      scope: 'row' as const,
      sparsity: 0.5,
      churn: parent === null ? null : 0.012 + (version % 5) * 0.007,
      domains: [...new Set(LEARNED.slice(0, 1 + Math.floor(version / 3)).flat())].sort(),
      bytes: 77_000_000,
      pinned: version === 5,
      swept_at: version === 3 ? ago(4_000) : null,
      active: version === 14,
      previous: version === 13,
      created_at: ago(ageOf(version)),
      promoted_at: state === 'failed' || state === 'canary' ? null : ago(ageOf(version) - 30),
    })),
  }
}

function updateOf(version: number, parent: number | null, state: UpdateEntry['state']): UpdateEntry {
  const hasEnded = state !== 'canary'
  return {
    id: `upd_${String(version).padStart(4, '0')}`,
    model: MODEL,
    domains: LEARNED[version % LEARNED.length] ?? [],
    method: 'wanda+swaps',
    pattern: '50%',
    patterns: {},
    scope: 'row',
    state,
    progress: hasEnded ? 1 : 0.95,
    message: '',
    mask_version: version,
    parent_version: parent,
    candidate: version === 14 ? 2 : 1,
    error:
      state === 'failed'
        ? { code: 'gate_failed', message: `Mask m${version} is rejected, and the active one stays in use.` }
        : null,
    trigger: version % 3 === 0 ? 'drift' : version % 3 === 1 ? 'volume' : 'manual',
    trigger_reason: version % 3 === 0 ? 'The gap of support rose to 0.064 nats a token, above 0.05.' : '',
    created_at: ago(ageOf(version) + 25),
    finished_at: hasEnded ? ago(ageOf(version) - 40) : null,
    job: null,
  }
}

const RUNNING: UpdateEntry = {
  ...updateOf(16, 14, 'calibrating'),
  id: 'upd_8f2c61',
  domains: ['support'],
  mask_version: null,
  finished_at: null,
  created_at: ago(9),
  job: {
    state: 'running',
    progress: 0.43,
    message: 'calibrating support, block 7 of 16',
    node: 'node-2',
    attempt: 1,
  },
}

function updates(): { data: UpdateEntry[] } {
  return { data: [RUNNING, ...LINEAGE.map((row) => updateOf(...row)).toReversed()] }
}

const job = (kind: UpdateJob['kind'], createdMinutes: number, tookMinutes: number): UpdateJob => ({
  kind,
  state: 'done',
  progress: 1,
  node: 'node-1',
  created_at: ago(createdMinutes),
  started_at: ago(createdMinutes),
  reported_at: ago(createdMinutes - tookMinutes),
})

/** One update with its jobs and decisions. */
function update(id: string): UpdateEntry | undefined {
  const found = updates().data.find((each) => each.id === id)
  if (!found) return undefined
  if (found.id === RUNNING.id)
    return {
      ...found,
      jobs: [
        {
          ...job('calibrate', 8.6, 0),
          state: 'running',
          progress: 0.43,
          node: 'node-2',
          reported_at: ago(0.1),
        },
      ],
      decisions: [
        decision(
          'trigger',
          'done',
          9,
          'Started by drift: the gap of support rose to 0.064 nats a token, above 0.05.',
        ),
      ],
    }
  const age = ageOf(found.mask_version ?? 0)
  return {
    ...found,
    jobs: [
      job('calibrate', age + 24, 12),
      job('evaluate', age + 12, 3),
      ...(found.candidate > 1 ? [job('calibrate', age + 9, 2), job('evaluate', age + 7, 3)] : []),
    ],
    decisions: decisionsOf(found, age),
  }
}

function decisionsOf(found: UpdateEntry, age: number): DecisionEntry[] {
  const version = found.mask_version ?? 0
  const isRejected = found.state === 'failed'
  const list = [
    decision(
      'trigger',
      'done',
      age + 25,
      `Started by ${found.trigger}: 18 new segments of ${found.domains.join(', ')}.`,
    ),
  ]
  if (found.candidate > 1)
    list.push(
      decision(
        'gate',
        'retried',
        age + 9,
        "Its perplexity on 'legal' is 1.038 × that of the active mask, with an upper bound of 1.061 ×; at most 1.050 × is allowed.",
        gateFigures(true),
        version,
      ),
    )
  list.push(
    isRejected
      ? decision(
          'gate',
          'failed',
          age + 4,
          "Its perplexity on 'legal' is 1.071 × that of the active mask, with an upper bound of 1.094 ×; at most 1.050 × is allowed.",
          gateFigures(true),
          version,
        )
      : decision(
          'gate',
          'passed',
          age + 4,
          'Its perplexity over all domains is 0.958 × that of the active mask, and with 95 % confidence at most 0.972 ×. No domain loses more than the policy allows.',
          gateFigures(false),
          version,
        ),
  )
  if (isRejected) return list
  list.push(decision('confirm', 'passed', age + 2, "Node 'node-3' selected the same mask.", [], version))
  if (found.state === 'canary') return list
  list.push(
    decision(
      'canary',
      'passed',
      age - 34,
      `Proven not worse than m${found.parent_version} after 36 minutes: 1412 requests with 38204 tokens were scored.`,
      trialFigures(-0.008),
      version,
    ),
    decision('promote', 'done', age - 36, 'Active; 3 of 3 live nodes serve it.', [], version),
  )
  if (found.state === 'rolled_back')
    list.push(
      decision(
        'watch',
        'failed',
        age - 70,
        `Rolled back: its loss on domain 'legal' is at least 0.0561 nats a token above that of m${found.parent_version}, and 0.0488 are allowed.`,
        trialFigures(0.07),
        version,
      ),
    )
  else
    list.push(
      decision(
        'watch',
        'done',
        age - 96,
        'No harm in 60 minutes: 2230 requests with 61120 tokens were scored.',
        trialFigures(-0.01),
        version,
      ),
    )
  return list
}

function decision(
  kind: DecisionEntry['kind'],
  verdict: DecisionEntry['verdict'],
  minutes: number,
  reason: string,
  figures: DecisionFigure[] = [],
  version: number | null = null,
): DecisionEntry {
  return { kind, verdict, reason, mask_version: version, actor: 'copal', created_at: ago(minutes), figures }
}

function figure(name: string, changes: Partial<DecisionFigure>): DecisionFigure {
  return {
    name,
    domain: null,
    holdout: null,
    tokens: null,
    value: null,
    lower: null,
    upper: null,
    limit: null,
    passed: true,
    ...changes,
  }
}

function gateFigures(isWorse: boolean): DecisionFigure[] {
  const parent = 'perplexity / parent'
  const legal = isWorse
    ? { value: 1.071, lower: 1.048, upper: 1.094, passed: false }
    : { value: 0.991, lower: 0.972, upper: 1.011 }
  return [
    figure('finite loss', {}),
    figure('finite logits', {}),
    figure('repetition', { value: 0.11, limit: 0.6 }),
    figure('entropy', { value: 2.4, limit: 7.1 }),
    figure('perplexity / parent, weighted', {
      value: 0.958,
      lower: 0.944,
      upper: isWorse ? 1.002 : 0.972,
      limit: 1,
      passed: !isWorse,
    }),
    figure(parent, {
      domain: 'speech',
      holdout: 'b'.repeat(64),
      tokens: 16_384,
      value: 0.931,
      lower: 0.914,
      upper: 0.949,
      limit: 1.05,
    }),
    figure(parent, {
      domain: 'code',
      holdout: 'b'.repeat(64),
      tokens: 12_288,
      value: 1.004,
      lower: 0.99,
      upper: 1.018,
      limit: 1.05,
    }),
    figure(parent, { domain: 'legal', holdout: 'b'.repeat(64), tokens: 9_200, limit: 1.05, ...legal }),
    figure(parent, {
      value: 1.01,
      lower: 0.98,
      upper: 1.04,
      limit: 1.05,
      note: 'together: medical-notes, recipes',
    }),
    figure('perplexity / best', {
      domain: 'code',
      holdout: 'b'.repeat(64),
      tokens: 12_288,
      value: 1.012,
      lower: 0.995,
      upper: 1.03,
      limit: 1.1,
      note: 'm8',
    }),
    figure('perplexity / dense', {
      domain: '(general)',
      holdout: 'h-general',
      tokens: 32_768,
      value: 1.21,
      lower: 1.2,
      upper: 1.22,
      limit: 1.5,
    }),
  ]
}

function trialFigures(gap: number): DecisionFigure[] {
  return [
    figure('loss', {
      tokens: 38_204,
      value: gap / 2,
      lower: gap / 2 - 0.006,
      upper: gap / 2 + 0.006,
      limit: 0.00995,
      note: 'nats a prompt token, 1412 requests',
    }),
    figure('loss', {
      domain: 'legal',
      tokens: 6_120,
      value: gap,
      lower: gap - 0.014,
      upper: gap + 0.014,
      limit: 0.0488,
      passed: gap < 0.05,
    }),
    figure('failed requests', { value: 0.001, lower: 0, upper: 0.011, limit: 0.021 }),
    figure('slow first tokens', { value: 0.02, lower: 0.004, upper: 0.05, limit: 0.14 }),
  ]
}

/** The course of a canary; of a mask that was rolled back, the watch that proved harm too. */
function trials(id: string): TrialCourses | undefined {
  const found = update(id)
  if (!found || found.mask_version === null || found.state === 'failed')
    return found && { update: id, trials: [] }
  const age = ageOf(found.mask_version)
  const base = { mask_version: found.mask_version, beside_version: found.parent_version ?? 0, limit: 0.00995 }
  const canary: TrialCourse = {
    ...base,
    kind: 'canary',
    running: found.state === 'canary',
    min_tokens: 20_000,
    points: course(found.state === 'canary' ? 420 : 1_412, -0.006, age),
  }
  const watch: TrialCourse = {
    ...base,
    kind: 'watch',
    running: false,
    min_tokens: null,
    points: course(2_230, found.state === 'rolled_back' ? 0.035 : -0.007, age - 36),
  }
  return { update: id, trials: found.state === 'canary' ? [canary] : [canary, watch] }
}

function course(requests: number, gap: number, age: number): TrialCourse['points'] {
  return Array.from({ length: 60 }, (_, index) => {
    const scored = Math.max(1, Math.round(requests * ((index + 1) / 60) ** 2))
    const half = Math.min(0.5, 0.62 / Math.sqrt(scored) + 3 / scored)
    const value = gap + (0.06 * Math.sin(index * 1.7)) / Math.sqrt(scored)
    return {
      at: ago(age - (index + 1) * 0.6),
      requests: scored,
      tokens: scored * 27,
      gap: value,
      lower: Math.max(-0.5, value - half),
      upper: Math.min(0.5, value + half),
    }
  })
}

const KINDS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
const linearsOf = (valueOf: (layer: number, kind: number) => number) =>
  Array.from({ length: 16 }, (_, layer) =>
    KINDS.map((kind, index) => ({ layer, kind, value: valueOf(layer, index) })),
  ).flat()

function linears(version: number): MaskLinears {
  return {
    model: MODEL,
    version,
    linears: linearsOf(
      (layer, kind) => 0.5 + 0.12 * Math.sin(layer / 3 + kind) - (layer === 0 ? 0.2 : 0),
    ).map(({ value, ...linear }) => ({ ...linear, rows: 2_048, columns: 2_048, sparsity: value })),
  }
}

function churn(version: number, other: number): MaskChurn {
  const scale = other === 0 ? 0.5 : 0.01 * Math.abs(version - other)
  return {
    model: MODEL,
    version,
    other,
    churn: scale,
    linears: linearsOf(
      (layer, kind) => scale * (0.4 + 1.2 * Math.abs(Math.sin(layer * 0.7 + kind * 1.3))),
    ).map(({ value, ...linear }) => ({ ...linear, churn: Math.min(1, value) })),
  }
}

function node(index: number, changes: Partial<NodeEntry> = {}): NodeEntry {
  return {
    id: `node-${index}`,
    url: `http://10.0.0.${index}:9000`,
    model: MODEL,
    alive: true,
    draining: false,
    drained_by_operator: false,
    active_version: 14,
    weight_sets: [
      { version: 14, state: 'ready', requests: 2, bytes: 1_430_000_000, error: null },
      { version: 0, state: 'ready', requests: 0, bytes: 2_470_000_000, error: null },
      { version: 13, state: 'ready', requests: 0, bytes: 1_430_000_000, error: null },
    ],
    running: 2,
    waiting: 0,
    leases: 2,
    seen_ms_ago: 800,
    kv_tokens_used: 21_400,
    kv_tokens_total: 65_536,
    device: 'AMD EPYC 9B14, 8 threads, avx512_bf16',
    tokens_per_second: 41.3,
    ...changes,
  }
}

function nodes(): NodeEntry[] {
  return [
    node(1),
    node(2, { running: 4, waiting: 1, leases: 5, kv_tokens_used: 60_100, tokens_per_second: 72.9 }),
    node(3, {
      weight_sets: [
        { version: 13, state: 'ready', requests: 1, bytes: 1_430_000_000, error: null },
        { version: 14, state: 'loading', requests: 0, bytes: null, error: null },
      ],
      active_version: 13,
      device: null,
      tokens_per_second: null,
    }),
    node(4, { draining: true, drained_by_operator: true, running: 1, leases: 1 }),
    node(5, { alive: false, seen_ms_ago: 754_000, running: 0, leases: 0, tokens_per_second: 0 }),
  ]
}

function status(isEmpty: boolean): StatusReport {
  const updateOfCanary = updates().data.find(({ state }) => state === 'canary')
  return {
    version: '0.1.0',
    models: isEmpty
      ? []
      : [
          {
            id: MODEL,
            active_version: 14,
            previous_version: 13,
            sparsity: 0.5,
            context_length: 8_192,
            converged: false,
            canary: {
              mask_version: 15,
              share: 0.1,
              since: ago(22),
              update_id: updateOfCanary?.id ?? null,
              evidence: null,
            },
            shadow: null,
            watch: null,
          },
        ],
    nodes: isEmpty ? [] : nodes(),
    updates_running: 1,
  }
}

function probes(): ProbesReport {
  const probe = (name: string, version: number, nll: number, expected: number | null) => ({
    node: name,
    mask_version: version,
    nll,
    expected,
    matches: expected === null || Math.abs(nll - expected) < 0.001,
    measured_at: ago(2.5),
  })
  return {
    model: MODEL,
    probes: [
      probe('node-1', 14, 2.4131, 2.4131),
      probe('node-2', 14, 2.9417, 2.4131),
      probe('node-4', 14, 2.4131, 2.4131),
      probe('node-3', 13, 2.4302, null),
    ],
  }
}

const NO_LIMITS = {
  requests_per_minute: null,
  tokens_per_minute: null,
  tokens_per_month: null,
  concurrent_requests: null,
}
const KEY_NAMES = [
  'chat-frontend',
  'batch-eval',
  'call-centre',
  'legal-search',
  '<script>alert(1)</script>',
  'grafana',
]

function keys(): { data: KeyEntry[] } {
  return {
    data: KEY_NAMES.map((name, index) => ({
      id: `key_${String(index + 1).padStart(6, '0')}`,
      name,
      tenant: index === 3 ? 'acme' : 'default',
      prefix: `ck_${'a7f3k9'.slice(index % 3)}`,
      scopes: index === 5 ? ['read-metrics'] : index === 3 ? ['inference', 'admin'] : ['inference'],
      default_domain: index === 2 ? 'speech' : 'default',
      discover_domains: index !== 2,
      allowed_domains: null,
      allowed_models: null,
      sampling: index === 1 ? 'never' : index === 2 ? 'always' : 'opt_in',
      limits:
        index === 0 ? { ...NO_LIMITS, requests_per_minute: 600, tokens_per_month: 50_000_000 } : NO_LIMITS,
      created_at: ago(50_000 - index * 6_000),
      expires_at: index === 1 ? ago(-3.4 * 1_440) : null,
      previous_valid_until: index === 2 ? ago(-610) : null,
    })),
  }
}

function tenants(): { data: TenantEntry[] } {
  return {
    data: ['acme', 'default'].map((name, index) => ({
      name,
      keys: index === 0 ? 1 : 5,
      limits:
        index === 0 ? { ...NO_LIMITS, tokens_per_month: 200_000_000, concurrent_requests: 32 } : NO_LIMITS,
      sampling: index === 0 ? 'opt_in' : 'always',
      created_at: ago(90_000),
    })),
  }
}

function usage(days: number) {
  const from = new Date(Date.now() - (days - 1) * 86_400_000).toISOString().slice(0, 10)
  return {
    from,
    days,
    data: KEY_NAMES.slice(0, 5).map((name, index) => {
      const tokens = Array.from({ length: days }, (_, day) =>
        Math.round((1.2e6 / (index + 1)) * (1 + 0.5 * Math.sin(day / 2 + index)) * (day % 7 > 4 ? 0.3 : 1)),
      )
      return {
        key: `key_${String(index + 1).padStart(6, '0')}`,
        name,
        tenant: index === 3 ? 'acme' : 'default',
        prefix: 'ck_a7f',
        revoked: false,
        tokens: index === 0 ? tokens.map((count) => count * 2) : tokens,
        total: tokens.reduce((sum, count) => sum + count, 0) * (index === 0 ? 2 : 1),
      }
    }),
  }
}

const ACTIONS = [
  ['copal', 'decision.promote', `${MODEL}/m14`, { verdict: 'done' }, 'Active; 3 of 3 live nodes serve it.'],
  [
    'admin-3f9c01ab',
    'PATCH /admin/keys/:id',
    'key_000001',
    { status: 200, state: { sampling: 'opt_in' } },
    '',
  ],
  ['node:node-5', 'node.lost', 'node-5', null, ''],
  ['key:key_000004', 'POST /admin/keys', '', { status: 403, error: 'insufficient_permissions' }, ''],
  ['admin-3f9c01ab', 'PUT /admin/nodes/:id/drain', 'node-4', { status: 200 }, ''],
  [
    'copal',
    'decision.gate',
    `${MODEL}/m10`,
    { verdict: 'failed' },
    "Its perplexity on 'legal' is 1.071 × that of the active mask.",
  ],
] as const
let log: Promise<AuditEntry[]> | undefined

async function makeLog(): Promise<AuditEntry[]> {
  const rows: AuditEntry[] = []
  for (let id = 1; id <= 260; id += 1) {
    const [actor, action, target, after, reason] = ACTIONS[id % ACTIONS.length] ?? ACTIONS[0]
    const row = {
      id,
      actor,
      action,
      target,
      before: action.startsWith('PATCH') ? { sampling: 'never' } : null,
      after,
      reason,
      request_id: actor === 'copal' ? null : `req-${id}`,
      created_at: Date.now() - (261 - id) * 23 * MINUTE_MS,
      previous_hash: rows.at(-1)?.hash ?? FIRST_PREVIOUS_HASH,
    }
    rows.push({ ...row, hash: await auditHash(row), sealed: true })
  }
  return rows
}

async function audit(query: URLSearchParams): Promise<AuditPage> {
  const all = await (log ??= makeLog())
  const limit = Number(query.get('limit') ?? 100)
  const isNewest = query.get('order') === 'newest'
  const before = Number(query.get('before') ?? Infinity)
  const rows = (isNewest ? all.toReversed() : all).filter(
    (row) =>
      row.id < before &&
      row.id > Number(query.get('after') ?? 0) &&
      (query.get('actor') ?? row.actor) === row.actor &&
      (query.get('target') ?? row.target) === row.target,
  )
  const data = rows.slice(0, limit)
  const next = data.length < limit ? null : (data.at(-1)?.id ?? null)
  return {
    data,
    checkpoint: null,
    next_after: isNewest ? null : next,
    ...(isNewest ? { next_before: next } : {}),
  }
}

const WORDS =
  'A sparse mask keeps the weights that matter most for the text it has seen . When the traffic changes , so does the mask : it is selected again , checked on held-out text , and tried on a tenth of the conversations before it serves all .'.split(
    ' ',
  )

/** Events of an answer, one a token. */
export function* answer(model: string): Generator<string> {
  const isDense = model.endsWith('@dense')
  const version = /mask-(\d+)$/.exec(model)?.[1] ?? '0'
  const words = isDense ? [...WORDS.slice(0, 21), ...WORDS.slice(25)] : WORDS
  const head = {
    id: 'chat-1',
    object: 'chat.completion.chunk',
    created: 1,
    model,
    system_fingerprint: `copal-${MODEL}-m${version}`,
  }
  for (const [index, word] of words.entries()) {
    const token = `${index === 0 ? '' : ' '}${word}`
    const logprob = -5.2 * Math.abs(Math.sin(index * 2.3 + (isDense ? 0.3 : 0))) ** 3
    const content = [{ token, logprob, bytes: [], top_logprobs: [] }]
    yield JSON.stringify({
      ...head,
      choices: [
        { index: 0, delta: { content: token }, logprobs: { content, refusal: null }, finish_reason: null },
      ],
    })
  }
  yield JSON.stringify({ ...head, choices: [{ index: 0, delta: {}, logprobs: null, finish_reason: 'stop' }] })
  yield JSON.stringify({
    ...head,
    choices: [],
    usage: { prompt_tokens: 12, completion_tokens: words.length, total_tokens: 12 + words.length },
  })
  yield '[DONE]'
}

/** The response to a `GET`; undefined where there is none. */
export function respond({ pathname: path, searchParams }: URL, isEmpty: boolean): unknown {
  const none = { data: [] }
  const id = /^\/admin\/updates\/([^/]+)(\/trials)?$/.exec(path)
  if (id?.[1] !== undefined) return id[2] ? trials(id[1]) : update(id[1])
  const picture = /^\/admin\/masks\/(\d+)\/(linears|churn\/(\d+))$/.exec(path)
  if (picture)
    return picture[2] === 'linears'
      ? linears(Number(picture[1]))
      : churn(Number(picture[1]), Number(picture[3]))
  switch (path) {
    case '/admin/updates':
      return isEmpty ? none : updates()
    case '/admin/masks':
      return isEmpty ? none : masks()
    case '/admin/status':
      return status(isEmpty)
    case '/admin/probes':
      return isEmpty ? { model: MODEL, probes: [] } : probes()
    case '/admin/keys':
      return isEmpty ? none : keys()
    case '/admin/tenants':
      return tenants()
    case '/admin/usage':
      return isEmpty ? { ...usage(30), data: [] } : usage(Number(searchParams.get('days') ?? 30))
    case '/admin/audit':
      return isEmpty ? { data: [], checkpoint: null, next_after: null } : audit(searchParams)
    default:
      return undefined
  }
}
