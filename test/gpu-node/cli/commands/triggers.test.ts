import { expect, test } from 'vitest'
import type { TriggersReport } from '@copal/shared/wire/admin-triggers.ts'
import { copal } from '../../../support/doubles/copal-command.ts'

const REPORT: TriggersReport = {
  model: 'tiny',
  enabled: true,
  dry_run: false,
  running: null,
  waits_for: '60 minutes must pass after the last update',
  next_start_at: '2026-11-27T13:05:00.000Z',
  next_schedule_at: '2026-11-28T03:00:00.000Z',
  started_today: 2,
  next_domains: ['law', 'mail'],
  node_share: 0.3,
  domains: [
    {
      domain: 'law',
      new_segments: 24,
      gap: 0.6123,
      traffic_share: 0.75,
      gain: 11.02,
      due: 'volume',
      reason: '24 new segments, and 16 are enough',
      missing_holdout_tokens: 0,
      failures: 0,
      not_before: null,
    },
    {
      domain: 'chat',
      new_segments: 3,
      gap: null,
      traffic_share: 0.25,
      gain: 0.46,
      due: null,
      reason: '3 of 16 new segments',
      missing_holdout_tokens: 0,
      failures: 0,
      not_before: null,
    },
  ],
}
const RUNNING: NonNullable<TriggersReport['running']> = {
  id: 'upd_1',
  domains: ['law'],
  state: 'calibrating',
  progress: 0.256,
  message: 'calibrating',
  trigger: 'drift',
  trigger_reason: '',
  job: { state: 'running', progress: 0.3, message: 'calibrating law, block 3 of 30', node: 'n', attempt: 1 },
}
const show = (report: TriggersReport) => copal(report, ['triggers'], { piped: true })

test('domains are shown with what makes them due, and with the time of the next start', async () => {
  const { stdout } = await show(REPORT)
  expect(stdout).toContain(
    'No update may start now: 60 minutes must pass after the last update. The earliest start is 2026-11-27 13:05 UTC. 2 started',
  )
  const seconds = await show({ ...REPORT, next_start_at: '2026-11-27T13:05:56.000Z' })
  expect(seconds.stdout).toContain('The earliest start is 2026-11-27 13:06 UTC.')
  expect(stdout).toContain('The next update takes law, mail.')
  expect(stdout).toContain('By the schedule, every domain with new text is due at 2026-11-28 03:00 UTC.')
  expect(stdout).toMatch(/^law +24 +0\.612 +75 % +11\.02 +volume +24 new segments, and 16 are enough$/m)
  expect(stdout).toMatch(/^chat +3 +- +25 % +0\.46 +no +3 of 16 new segments$/m)
})

test('a running update is shown with its progress and its priority', async () => {
  const { stdout } = await show({ ...REPORT, running: RUNNING })
  expect(stdout).toContain(
    'Running: upd_1 (drift) of law: calibrating, 25 %, calibrating law, block 3 of 30.',
  )
  expect(stdout).toContain("yields to requests, and takes at most 30 % of a node's time")
})

test('a dry run, and triggers that are off, say so', async () => {
  expect((await show({ ...REPORT, dry_run: true, waits_for: null })).stdout).toContain(
    'Triggers of tiny (dry run: nothing starts)\nAn update may start now.',
  )
  const off = { ...REPORT, enabled: false, waits_for: "triggers are off ('triggers.enabled' is false)" }
  for (const running of [null, RUNNING]) {
    const { stdout } = await show({ ...off, running })
    expect(stdout).toContain("No update starts by itself: triggers are off ('triggers.enabled' is false).")
    expect(stdout).toContain('With triggers on, the next update would take law, mail.')
    expect(stdout).not.toMatch(/may start|schedule/)
  }
})

test('the time that a step takes is in minutes or hours where it is long', async () => {
  const message = 'calibrating law, block 3 of 30, about 3095 s left'
  const job = { state: 'running' as const, progress: 0.3, message, node: 'n', attempt: 1 }
  const { stdout } = await show({ ...REPORT, running: { ...RUNNING, job } })
  expect(stdout).toContain('block 3 of 30, about 51 min 35 s left. It yields')
})
