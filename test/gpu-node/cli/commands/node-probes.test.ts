import { expect, test } from 'vitest'
import type { ProbesReport } from '@copal/shared/wire/admin-alerts.ts'
import { copal } from '../../../support/doubles/copal-command.ts'

test('scores of the probe texts are listed, and a node that differs stands out', async () => {
  const measured = { mask_version: 3, measured_at: '2026-11-28T03:05:00.000Z' }
  const report: ProbesReport = {
    model: 'tiny',
    probes: [
      { node: 'node-1', nll: 2.74, expected: 2.7401, matches: true, ...measured },
      { node: 'node-2', nll: 3.9, expected: 2.74, matches: false, ...measured },
      { node: 'node-3', nll: 2.74, expected: null, matches: true, ...measured, mask_version: 0 },
    ],
  }
  const { stdout, calls } = await copal(report, ['nodes', 'probes', '--model', 'tiny'], { piped: true })
  expect(calls.map(({ call }) => call)).toEqual(['GET /admin/probes?model=tiny'])
  expect(stdout).toMatch(/^node-2 +m3 +3\.9000 +2\.7400 +NO$/m)
  expect(stdout).toMatch(/^node-1 +m3 +2\.7400 +2\.7401 +yes$/m)
  expect(stdout).toMatch(/^node-3 +dense +2\.7400 +- +alone$/m)
})
