import { describe, expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import type { DomainHistory, PastUpdate } from '../../../../gateway/src/adaptation/triggers/domain-history.ts'
import type { DomainFacts } from '../../../../gateway/src/adaptation/triggers/due-domain.ts'
import {
  describeStart,
  planUpdate,
  type PlanInput,
} from '../../../../gateway/src/adaptation/triggers/plan-update.ts'

/** A Wednesday, 12:00 UTC. */
const NOW = Date.UTC(2026, 10, 25, 12)
const MINUTE = 60_000
/** A segment has 512 tokens of 4 characters. */
const SEGMENT = 2_048
const POLICY = {
  ...PRESETS.production.triggers,
  new_segments: 16,
  max_gap: 0.5,
  cooldown_minutes: 60,
  max_per_day: 6,
  max_domains: 8,
}
const HISTORY: DomainHistory = { lastStartMs: undefined, failures: 0, retryAtMs: undefined }

function domain(
  name: string,
  changes: Partial<DomainFacts> & { segments?: number; gap?: number } = {},
): DomainFacts {
  const { segments = 16, gap, ...facts } = changes
  return {
    domain: name,
    isCounted: true,
    isExact: true,
    newCharacters: segments * SEGMENT,
    takeableBytes: segments * SEGMENT,
    heldOut: { latest: undefined, reservoir: 3_000 * 4 },
    scored:
      gap === undefined ? undefined : { tokens: 10_000, nllMasked: 30_000 + gap * 10_000, nllDense: 30_000 },
    alerts: [],
    trafficTokens: 1_000,
    history: undefined,
    createdAtMs: 0,
    ...facts,
  }
}

function plan(domains: DomainFacts[], changes: Partial<PlanInput> = {}) {
  return planUpdate({
    nowMs: NOW,
    policy: POLICY,
    policySetMs: 0,
    demand: { samples: 16, length: 512 },
    windowTokens: 512,
    updates: [],
    updateCount: 0,
    dryRuns: [],
    obstacle: undefined,
    domains,
    ...changes,
  })
}

function update(changes: Partial<PastUpdate> = {}): PastUpdate {
  return {
    id: 'upd_1',
    domains: ['legal'],
    state: 'promoted',
    trigger: 'volume',
    createdAt: NOW - 120 * MINUTE,
    finishedAt: NOW - 110 * MINUTE,
    ...changes,
  }
}

const names = (domains: readonly { domain: string }[]) => domains.map((each) => each.domain)

test('a domain whose texts were not counted yet is not said to have none', () => {
  const { domains, next } = plan([
    domain('legal', {
      isCounted: false,
      segments: 0,
      gap: 1,
      takeableBytes: 0,
      heldOut: { latest: undefined, reservoir: 0 },
    }),
  ])
  expect(domains).toMatchObject([
    { due: undefined, reason: 'its texts were not counted yet', missingHeldOut: 0 },
  ])
  expect(next).toEqual([])
})

describe('a domain is due', () => {
  test('by volume from 16 segments on that were never counted', () => {
    const { domains, next } = plan([domain('legal'), domain('code', { segments: 15 })])
    expect(domains.map(({ domain: name, due, reason }) => [name, due, reason])).toEqual([
      ['legal', 'volume', '16 new segments, and 16 are enough'],
      ['code', undefined, '15 of 16 new segments'],
    ])
    expect(names(next)).toEqual(['legal'])
  })

  test('by drift while an alert of it holds, as far as the policy wants', () => {
    const changed = { kind: 'input_drift', reference: 3.4, level: 3.9 } as const
    const costly = { kind: 'gap_drift', reference: 0.3, level: 0.45 } as const
    const domains = [
      domain('input', { segments: 4, alerts: [changed] }),
      domain('gap', { segments: 4, alerts: [changed, costly] }),
      domain('quiet', { segments: 4 }),
    ]
    const dueBy = (drift: 'any' | 'gap' | 'off') =>
      plan(domains, { policy: { ...POLICY, drift } })
        .domains.filter(({ due }) => due === 'drift')
        .map(({ domain: name, reason }): [string, string] => [name, reason])
        .toSorted(([one], [other]) => one.localeCompare(other))
    const gap = ['gap', 'what pruning costs it rose: it is 0.45 nats a token, and was 0.30; 4 new segments']
    expect(dueBy('any')).toEqual([
      gap,
      ['input', 'its traffic changed: its dense loss is 3.90 nats a token, and was 3.40; 4 new segments'],
    ])
    expect(dueBy('gap')).toEqual([gap])
    expect(dueBy('off')).toEqual([])
  })

  test('by drift where the gap is above the limit, enough was scored, and there is text to learn from', () => {
    const facts = [
      domain('drifted', { segments: 4, gap: 0.51 }),
      domain('good', { segments: 4, gap: 0.5 }),
      domain('unscored', {
        segments: 4,
        scored: { tokens: 2_047, nllMasked: 2_047 * 9, nllDense: 0 },
      }),
      domain('empty', { segments: 3, gap: 2 }),
    ]
    const { domains } = plan(facts)
    const found = Object.fromEntries(domains.map(({ domain: name, due, reason }) => [name, [due, reason]]))
    expect(found.drifted).toEqual([
      'drift',
      'its scored gap is 0.510 nats a token, above 0.5; 4 new segments',
    ])
    expect(found.good?.[0]).toBeUndefined()
    expect(found.unscored?.[0]).toBeUndefined()
    expect(found.empty).toEqual([
      undefined,
      'its scored gap is 2.000 nats a token, above 0.5; 3 new segments, but about 512 tokens of new text are missing for an update',
    ])
  })

  test('by the schedule once since its last update, and however late the minute is', () => {
    // 03:00 every night; now is noon.
    const policy = { ...POLICY, schedule: '0 3 * * *' }
    const at = (lastStartMs: number) => domain('legal', { segments: 4, history: { ...HISTORY, lastStartMs } })
    const three = Date.UTC(2026, 10, 25, 3)
    const due = (facts: DomainFacts, changes: Partial<PlanInput> = {}) =>
      plan([facts], { policy, ...changes }).domains[0]?.due
    expect(due(at(three - MINUTE))).toBe('schedule')
    expect(due(at(three))).toBeUndefined()
    expect(due(at(three + MINUTE))).toBeUndefined()
    // A schedule that was set after three this morning begins tomorrow.
    expect(due(at(0), { policySetMs: three + MINUTE })).toBeUndefined()
    expect(due(domain('empty', { segments: 0 }))).toBeUndefined()
  })

  test('only with enough text of which no key gives more than its share', () => {
    const facts = domain('one key', { segments: 40, takeableBytes: 3 * SEGMENT })
    expect(plan([facts]).domains[0]).toMatchObject({
      due: undefined,
      newSegments: 40,
      reason:
        '40 new segments, and 16 are enough, but about 512 tokens of new text are missing for an update',
    })
  })

  test('only with enough held-out text, and the plan says how much is missing', () => {
    const facts = domain('legal', { heldOut: { latest: undefined, reservoir: 500 * 4 } })
    expect(plan([facts]).domains[0]).toMatchObject({
      due: undefined,
      missingHeldOut: 140,
      reason:
        '16 new segments, and 16 are enough, but 140 tokens of held-out text are missing to judge a mask',
    })
  })

  test('with little held-out text only together with one that has more', () => {
    const small = domain('small', { heldOut: { latest: undefined, reservoir: 800 * 4 } })
    const alone = plan([small])
    expect(alone.next).toEqual([])
    expect(alone.domains[0]).toMatchObject({
      due: undefined,
      missingHeldOut: 224,
      reason: expect.stringContaining(
        '224 tokens of held-out text are missing to judge a mask by this domain alone',
      ),
    })
    expect(names(plan([small, domain('legal')]).next)).toEqual(['legal', 'small'])
  })
})

describe('failed updates', () => {
  test('keep a domain out of the plan, which says until when; the others go on', () => {
    const retryAtMs = NOW + 30 * MINUTE
    const history = { ...HISTORY, lastStartMs: 1, failures: 2, retryAtMs }
    const { domains, next } = plan([domain('legal', { history }), domain('code')])
    expect(names(next)).toEqual(['code'])
    expect(domains.find((each) => each.domain === 'legal')?.reason).toBe(
      '16 new segments, and 16 are enough, but its last 2 updates left no mask in use, so it waits until 2026-11-25 12:30 UTC',
    )
  })

  test('of a domain that failed twice are not shared with others', () => {
    const history = { ...HISTORY, lastStartMs: 1, failures: 2, retryAtMs: NOW - 1 }
    const bad = domain('bad', { history, segments: 100 })
    expect(names(plan([bad, domain('code')]).next)).toEqual(['bad'])
    expect(
      names(plan([{ ...bad, newCharacters: 16 * SEGMENT, trafficTokens: 1 }, domain('code')]).next),
    ).toEqual(['code'])
  })
})

describe('the next update', () => {
  test('merges due domains, those first whose gap × traffic share × new text is largest', () => {
    const facts = [
      domain('idle', { gap: 0.4, trafficTokens: 100, segments: 20 }),
      domain('busy', { gap: 0.4, trafficTokens: 900, segments: 20 }),
      domain('far', { gap: 0.8, trafficTokens: 900, segments: 20 }),
      domain('new text', { gap: 0.4, trafficTokens: 900, segments: 30 }),
    ]
    const { domains, next } = plan(facts)
    expect(names(next)).toEqual(['far', 'new text', 'busy', 'idle'])
    expect(domains[0]?.gain).toBeCloseTo(0.8 * (900 / 2_800) * 20, 9)
    expect(domains.map(({ trafficShare }) => trafficShare)).toEqual(
      [900, 900, 900, 100].map((n) => n / 2_800),
    )
  })

  test('expects of a domain that nobody scored the largest gap, and of one without traffic an average share', () => {
    const facts = [
      domain('scored', { gap: 0.4 }),
      domain('fresh', { trafficTokens: 0 }),
      domain('other', { segments: 0 }),
    ]
    const [first, second] = plan(facts).domains
    expect([first?.gain, second?.gain]).toEqual([
      expect.closeTo((0.4 / 3) * 16, 9),
      expect.closeTo((0.4 / 3) * 16, 9),
    ])
  })

  test('takes at most max_domains, and the last place is for the domain that waits longest', () => {
    const facts = Array.from({ length: 10 }, (_, index) =>
      domain(`d${index}`, {
        segments: 100 - index,
        history: { ...HISTORY, lastStartMs: index === 9 ? 1 : 1_000 + index },
      }),
    )
    const policy = { ...POLICY, max_domains: 3 }
    expect(names(plan(facts, { policy }).next)).toEqual(['d0', 'd1', 'd9'])
    const one = { ...POLICY, max_domains: 1, max_per_day: 1_000 }
    const led = [0, 1, 2, 3, 4].map((updateCount) => names(plan(facts, { policy: one, updateCount }).next)[0])
    expect(led).toEqual(['d0', 'd0', 'd0', 'd9', 'd0'])
  })

  test('serves each of 50 due domains within 50 updates, however little traffic it has', () => {
    const starts = new Map<string, number>(
      Array.from({ length: 50 }, (_, index) => [`d${index}`, 0] as const),
    )
    const served = new Set<string>()
    for (let round = 1; round <= 50; round += 1) {
      const facts = [...starts].map(([name, lastStartMs], index) =>
        domain(name, { trafficTokens: 10 ** (5 - (index % 6)), history: { ...HISTORY, lastStartMs } }),
      )
      for (const name of names(plan(facts, { policy: { ...POLICY, max_domains: 2 } }).next)) {
        served.add(name)
        starts.set(name, round)
      }
    }
    expect(served.size).toBe(50)
  })

  test('is described with what made each domain due', () => {
    const { next } = plan([domain('legal', { segments: 20 }), domain('code', { segments: 4, gap: 0.9 })])
    expect(describeStart(next)).toEqual({
      trigger: 'volume',
      reason:
        "'legal': 20 new segments, and 16 are enough. 'code': its scored gap is 0.900 nats a token, above 0.5; 4 new segments.",
    })
  })
})

describe('an update may start', () => {
  const startOf = (changes: Partial<PlanInput>) => plan([domain('legal')], changes).start

  test('an hour after the last one ended, whoever started it', () => {
    const at = (finishedAt: number, trigger: PastUpdate['trigger'] = 'manual') =>
      startOf({ updates: [update({ finishedAt, trigger })] })
    expect(at(NOW - 59 * MINUTE)).toMatchObject({
      atMs: NOW + MINUTE,
      waitsFor: '60 minutes must pass after the last update',
    })
    expect(at(NOW - 60 * MINUTE)).toMatchObject({ waitsFor: undefined })
    const soon = { policy: { ...POLICY, cooldown_minutes: 1 }, updates: [update({ finishedAt: NOW })] }
    expect(startOf(soon).waitsFor).toBe('1 minute must pass after the last update')
  })

  test('not beside another one', () => {
    const updates = [update({ id: 'upd_9', state: 'evaluating', finishedAt: null, trigger: 'manual' })]
    expect(startOf({ updates })).toMatchObject({ atMs: undefined, waitsFor: 'update upd_9 is at the gate' })
  })

  test('as often a day as the policy allows; those of operators do not count', () => {
    const policy = { ...POLICY, max_per_day: 2, cooldown_minutes: 0 }
    const started = (hoursAgo: number, trigger: PastUpdate['trigger'] = 'volume') =>
      update({ createdAt: NOW - hoursAgo * 60 * MINUTE, trigger })
    expect(startOf({ policy, updates: [started(1), started(5)] })).toMatchObject({
      startedToday: 2,
      atMs: NOW + 19 * 60 * MINUTE,
      waitsFor: '2 updates started in the last 24 hours, and 2 may',
    })
    expect(startOf({ policy, updates: [started(1), started(24)] }).waitsFor).toBeUndefined()
    expect(startOf({ policy, updates: [started(1), started(5, 'manual')] }).waitsFor).toBeUndefined()
  })

  test.each([
    ['22:00-06:00', 23, Date.UTC(2026, 10, 26, 6)],
    ['22:00-06:00', 5, Date.UTC(2026, 10, 25, 6)],
    ['22:00-06:00', 6, undefined],
    ['22:00-06:00', 21, undefined],
    ['09:30-17:00', 12, Date.UTC(2026, 10, 25, 17)],
    ['09:30-17:00', 9, undefined],
    ['09:30-17:00', 17, undefined],
    ['09:30-17:00', 18, undefined],
  ])('outside the quiet hours %s; at %i:00 it waits until %s', (quiet_hours, hour, endMs) => {
    const nowMs = Date.UTC(2026, 10, 25, hour)
    const start = startOf({ nowMs, policy: { ...POLICY, quiet_hours } })
    expect([start.waitsFor, start.atMs]).toEqual(
      endMs === undefined ? [undefined, nowMs] : [`${quiet_hours} UTC are quiet hours`, endMs],
    )
  })

  test('after quiet hours that begin before the cool-down ends', () => {
    const nowMs = Date.UTC(2026, 10, 25, 21, 30)
    const updates = [update({ finishedAt: nowMs - 10 * MINUTE })]
    const start = startOf({ nowMs, updates, policy: { ...POLICY, quiet_hours: '22:00-06:00' } })
    expect(start.atMs).toBe(Date.UTC(2026, 10, 26, 6))
  })

  test('not while triggers are off, or something is in the way', () => {
    expect(startOf({ policy: { ...POLICY, enabled: false } })).toMatchObject({
      atMs: undefined,
      waitsFor: "triggers are off ('triggers.enabled' is false)",
    })
    expect(startOf({ obstacle: "no node of 'm' is alive" })).toMatchObject({
      atMs: undefined,
      waitsFor: "no node of 'm' is alive",
    })
  })

  test('in a dry run as if the ones before had started', () => {
    const policy = { ...POLICY, dry_run: true, max_per_day: 2 }
    expect(startOf({ policy, dryRuns: [NOW - 10 * MINUTE] })).toMatchObject({ atMs: NOW + 50 * MINUTE })
    expect(startOf({ policy, dryRuns: [NOW - 70 * MINUTE, NOW - 700 * MINUTE] })).toMatchObject({
      startedToday: 2,
    })
    // Outside a dry run they are nothing.
    expect(startOf({ dryRuns: [NOW - 10 * MINUTE] })).toMatchObject({ waitsFor: undefined, startedToday: 0 })
  })
})
