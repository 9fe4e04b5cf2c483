import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import type { TriggersReport } from '@copal/shared/wire/admin-triggers.ts'
import { expect, onTestFinished, test, vi } from 'vitest'
import {
  describeOutcome,
  describeUnread,
  domainNames,
  followAdaptation,
} from '../../../../infra/local/demo/adaptation-events.ts'
import { updateOf } from '../../../support/dashboard/reports.ts'
import { gatewayOf } from '../../../support/doubles/copal-command.ts'

test('the demo says that a mask is live, or why none is, by commands instead of calls of the API', () => {
  expect(describeOutcome(updateOf({ state: 'promoted', mask_version: 3 }))).toBe('m3 is live.')
  const message = "Mask m2 is rejected. 'GET /admin/updates/upd_1' shows what was measured."
  expect(describeOutcome(updateOf({ state: 'failed', error: { code: 'gate_failed', message } }))).toBe(
    "Mask m2 is rejected. 'npx copal updates upd_1' shows what was measured.",
  )
})

test('a demo in which nothing adapted says how many texts a busy node has still to read', () => {
  expect(describeUnread({ texts: 144, read: 96 })).toBe(
    ' A node has read 96 of 144 texts; domains are found when it has read all.',
  )
  expect(describeUnread({ texts: 144, read: 144 })).toBe('')
  expect(describeUnread(undefined)).toBe('')
})

test('a domain that was there before the demo is not found by it, and not waited for', async () => {
  const domainOf = (name: string, samples: number): DomainEntry => ({
    name,
    samples,
    characters: 14,
    seen: samples,
    holdout_samples: 0,
    holdout_frozen: false,
    owner: null,
    calibrated_datasets: 0,
    last_sample_at: null,
  })
  const promoted = updateOf({
    state: 'promoted',
    domains: ['speech'],
    mask_version: 2,
    finished_at: '2026-11-28T12:00:00Z',
  })
  const triggers: TriggersReport = {
    model: 'm',
    enabled: true,
    dry_run: false,
    running: null,
    waits_for: null,
    next_start_at: null,
    next_schedule_at: null,
    started_today: 1,
    next_domains: [],
    node_share: 1,
    domains: [],
  }
  let sent = false
  const { env } = await gatewayOf((call) => {
    if (call.startsWith('GET /admin/domains'))
      return { data: [domainOf('legal', 1), ...(sent ? [domainOf('speech', 36)] : [])] }
    if (call.startsWith('GET /admin/updates/')) return { ...promoted, decisions: [] }
    if (call.startsWith('GET /admin/updates')) return { data: sent ? [promoted] : [] }
    if (call.startsWith('GET /admin/proposals')) {
      sent = true
      return { data: [] }
    }
    return triggers
  })
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
  const written = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
  onTestFinished(() => {
    vi.unstubAllEnvs()
    written.mockRestore()
  })
  await followAdaptation(await domainNames())
  const lines = written.mock.calls.map(([line]) => String(line)).join('')
  expect(lines).toContain("Found the domain 'speech': 36 texts to learn from")
  expect(lines).not.toContain('legal')
})
