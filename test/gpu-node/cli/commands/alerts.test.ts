import { expect, test } from 'vitest'
import type { AlertsReport } from '@copal/shared/wire/admin-alerts.ts'
import { copal } from '../../../support/doubles/copal-command.ts'

const REPORT: AlertsReport = {
  alerts: [
    {
      id: 'alert_2',
      kind: 'probe_mismatch',
      model: 'tiny',
      domain: null,
      mask_version: 3,
      node: 'node-2',
      message: "Node 'node-2' scores the probe texts at 3.900 nats a token: see 'GET /admin/probes'.",
      raised_at: '2026-11-28T03:05:00.000Z',
      ended_at: null,
    },
    {
      id: 'alert_1',
      kind: 'input_drift',
      model: 'tiny',
      domain: 'legal',
      mask_version: null,
      node: null,
      message: "The traffic of 'legal' changed.",
      raised_at: '2026-11-27T03:05:00.000Z',
      ended_at: '2026-11-27T09:00:00.000Z',
    },
  ],
}

test('alerts are listed, with what to do about those that hold, and the exit code is 0', async () => {
  const { code, stdout, calls } = await copal(REPORT, ['alerts'], { piped: true })
  expect(code).toBe(0)
  expect(calls.map(({ call }) => call)).toEqual(['GET /admin/alerts'])
  expect(stdout).toMatch(/^2026-11-28 03:05 UTC +holds +node differs +node-2 +m3$/m)
  expect(stdout).toMatch(/^2026-11-27 03:05 UTC +2026-11-27 09:00 UTC +traffic changed +legal +-$/m)
  expect(stdout).toContain("at 3.900 nats a token: see 'npx copal nodes probes'.")
  expect(stdout).not.toContain("The traffic of 'legal' changed.")
})

test('the filters reach the gateway, and an empty list says so', async () => {
  const { stdout, calls } = await copal({ alerts: [] }, ['alerts', '--active', '--model', 'a/b'], {
    piped: true,
  })
  expect(calls.map(({ call }) => call)).toEqual(['GET /admin/alerts?model=a%2Fb&active=true'])
  expect(stdout.trim()).toBe('No alert is active.')
})
