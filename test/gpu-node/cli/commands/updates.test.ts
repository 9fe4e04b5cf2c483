import { expect, test } from 'vitest'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { copal } from '../../../support/doubles/copal-command.ts'

const MESSAGE =
  "There are 3 samples of 'law', and 16 are needed: import texts with 'POST /admin/domains/law/texts', or ask for fewer."
const UPDATE: UpdateEntry = {
  id: 'upd_0123456789abcdef',
  model: 'tiny',
  domains: ['law', 'mail'],
  method: 'copal',
  pattern: '0.5',
  patterns: {},
  scope: 'row',
  state: 'failed',
  progress: 0.1,
  message: 'failed',
  mask_version: null,
  parent_version: null,
  candidate: 1,
  error: { code: 'insufficient_samples', message: MESSAGE },
  trigger: 'manual',
  trigger_reason: '',
  created_at: '2026-11-27T00:00:00.000Z',
  finished_at: '2026-11-27T00:01:00.000Z',
  job: null,
}
const TOLD = MESSAGE.replace('POST /admin/domains/law/texts', 'npx copal domains import law <file>')

test('one update is shown with its whole message, which names commands', async () => {
  const { stdout } = await copal(UPDATE, ['updates', UPDATE.id])
  expect(stdout).toContain(`\nstate    failed\n`)
  expect(stdout).toContain(`\nmessage  ${TOLD}\n`)
})

test('one update says in which state it ended, and how its mask can be forced where it can be', async () => {
  const show = async (change: Partial<UpdateEntry>) =>
    (await copal({ ...UPDATE, ...change }, ['updates', UPDATE.id])).stdout
  expect(await show({ ended_in: 'calibrating' })).toContain('\nstate    failed while calibrating\n')
  const cancelled = await show({ state: 'cancelled', error: null, ended_in: 'confirming' })
  expect(cancelled).toContain('\nstate    cancelled while confirming\n')
  const rejected = {
    error: { code: 'gate_failed', message: 'It is worse.' },
    ended_in: 'evaluating',
  } as const
  const advice = `npx copal updates force ${UPDATE.id} --reason "…"`
  expect(await show({ ...rejected, forceable: true })).toMatch(/\nstate {4}rejected\n[^]*updates force/)
  expect(await show({ ...rejected, forceable: true })).toContain(advice)
  expect(await show({ ...rejected, forceable: false })).not.toContain(advice)
})

test('what started an update is shown, with the reason for one that started by itself', async () => {
  const automatic: UpdateEntry = {
    ...UPDATE,
    trigger: 'volume',
    trigger_reason: "'law': 20 new segments, and 16 are enough.",
  }
  const one = await copal(automatic, ['updates', UPDATE.id])
  expect(one.stdout).toContain("\ntrigger  volume: 'law': 20 new segments, and 16 are enough.\n")
  expect((await copal(UPDATE, ['updates', UPDATE.id])).stdout).toContain('\ntrigger  manual\n')
  const all = await copal({ data: [automatic] }, ['updates'], { piped: true })
  expect(all.stdout).toMatch(/ TRIGGER .*\n.* volume /)
})

test('a table is cut only on a terminal, not in a pipe', async () => {
  const cut = await copal({ data: [UPDATE] }, ['updates'])
  expect(cut.stdout).toContain('…')
  expect(Math.max(...cut.stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80)
  const piped = await copal({ data: [UPDATE] }, ['updates'], { piped: true })
  expect(piped.stdout.trim().split('\n')).toHaveLength(2)
  expect(piped.stdout).toContain(' failed: ')
})

test('in a table, also in a pipe, a state has the word of the dashboard, and a reason is cut', async () => {
  const stateOf = async (change: Partial<UpdateEntry>) => {
    const { stdout } = await copal({ data: [{ ...UPDATE, ...change }] }, ['updates'], { piped: true })
    return stdout.split('\n')[1]?.split(/ {2,}/)[2]
  }
  const reason = "There are 3 samples of 'law', and 16 are needed: import tex…"
  expect(await stateOf({})).toBe(`failed: ${reason}`)
  expect(await stateOf({ error: { code: 'gate_failed', message: 'It is worse.' } })).toBe(
    'rejected: It is worse.',
  )
  expect(await stateOf({ state: 'rolled_back', error: null })).toBe('rolled back')
  expect(await stateOf({ state: 'evaluating', error: null, finished_at: null })).toBe('at the gate, 10 %')
})

const DECISIONS: NonNullable<UpdateEntry['decisions']> = [
  {
    kind: 'gate',
    verdict: 'failed',
    reason: "Its perplexity on 'law' is 1.071 × that of the active mask; at most 1.050 × is allowed.",
    mask_version: 3,
    actor: 'copal',
    created_at: '2026-11-27T00:00:30.000Z',
    figures: [
      {
        name: 'perplexity / parent, weighted',
        domain: null,
        holdout: null,
        tokens: null,
        value: 0.98765432,
        lower: 0.97,
        upper: 0.99123,
        limit: 1,
        passed: true,
      },
      {
        name: 'perplexity / parent',
        domain: 'a-domain-with-a-very-long-name-that-fills-half-of-a-line',
        holdout: 'a'.repeat(64),
        tokens: 8176,
        value: 1.071,
        lower: 1.06,
        upper: 1.0823,
        limit: 1.05,
        passed: false,
      },
      {
        name: 'perplexity / dense',
        domain: '(general)',
        holdout: 'b'.repeat(64),
        tokens: 8176,
        value: 61234567,
        lower: null,
        upper: null,
        limit: 1.5,
        passed: false,
      },
      {
        name: 'finite loss',
        domain: null,
        holdout: null,
        tokens: null,
        value: null,
        lower: null,
        upper: null,
        limit: null,
        passed: true,
      },
    ],
  },
  {
    kind: 'force',
    verdict: 'done',
    reason: 'legal accepts 7 % until Monday',
    mask_version: 3,
    actor: 'admin-0123abcd',
    created_at: '2026-11-27T00:02:00.000Z',
    figures: [],
  },
]

test('one update is shown with each decision as a table of at most 80 columns', async () => {
  const { stdout } = await copal({ ...UPDATE, decisions: DECISIONS }, ['updates', UPDATE.id])
  const lines = stdout.split('\n')
  const table = lines.filter((line) => /^(FIGURE|perplexity|finite)/.test(line))
  expect(table).toHaveLength(5)
  expect(Math.max(...table.map((line) => line.length))).toBeLessThanOrEqual(80)
  expect(stdout).toMatch(/\ngate of m3: failed, .*\nIts perplexity on 'law' is 1\.071 ×/)
  expect(lines.find((line) => line.startsWith('FIGURE'))).toMatch(
    /^FIGURE +DOMAIN +VALUE +BOUND +LIMIT +PASSED$/,
  )
  expect(stdout).toMatch(/perplexity \/ parent, weighted +- +0\.9877 +0\.9912 +1 +yes/)
  expect(stdout).toMatch(/perplexity \/ parent +a-domain.*… +1\.071 +1\.0823 +1\.05 +NO/)
  expect(stdout).toMatch(/perplexity \/ dense +\(general\) +6\.1e\+7 +- +1\.5 +NO/)
  expect(stdout).toMatch(/\nforce of m3: done by admin-0123abcd, .*\nlegal accepts 7 % until Monday/)
})

test('a rejected update is forced with a reason and followed', async () => {
  const calls: string[] = []
  const promoted = { ...UPDATE, state: 'promoted', error: null, mask_version: 3 }
  const answer = (call: string) => {
    calls.push(call)
    return promoted
  }
  const done = await copal(answer, ['updates', 'force', UPDATE.id, '--reason', 'legal accepts it'])
  expect([done.code, done.stdout]).toEqual([0, expect.stringContaining('m3 is live')])
  expect(calls[0]).toBe(`POST /admin/updates/${UPDATE.id}/force`)
  const silent = await copal({}, ['updates', 'force', UPDATE.id])
  expect([silent.code, silent.stderr]).toEqual([
    2,
    expect.stringContaining("'--reason <text>' not specified"),
  ])
})
