import { expect, test } from 'vitest'
import type { StatusReport } from '@copal/shared/wire/admin.ts'
import { copal } from '../../../support/doubles/copal-command.ts'
import { domainOf, overviewWith } from '../../../support/dashboard/reports.ts'

const STATUS: StatusReport = {
  version: '0.1.0',
  models: [
    {
      id: 'm',
      active_version: 14,
      previous_version: 13,
      sparsity: 0.5,
      context_length: 2048,
      converged: true,
      canary: null,
      shadow: null,
      watch: null,
    },
  ],
  nodes: [],
  updates_running: 0,
}
const young = { ...domainOf('law', 0.03), missing_observations: 38 }
const costly = overviewWith({ domains: [domainOf('code', Math.log(3.14)), young] })

test('the status says what is wrong, and what is not known, in the words of the dashboard', async () => {
  const answer = (overview: object | undefined) => (call: string) =>
    call === 'GET /admin/status' ? STATUS : overview
  const { stdout } = await copal(answer(costly), ['status'])
  expect(stdout).toContain(
    'm: Pruning costs code more perplexity over dense than the 50.0 % that gate.max_dense_ratio allows a mask.',
  )
  const unknown = await copal(answer(overviewWith({ domains: [young] })), ['status'])
  expect(unknown.stdout).toContain('m: No problem is known; whether law drifts is not known yet.')
  const well = await copal(answer(overviewWith({ domains: [domainOf('code', 0.03)] })), ['status'])
  expect(well.stdout).toContain('m: All is well.')
  // A gateway without an overview is no failure, and nothing is claimed.
  const without = await copal(answer(undefined), ['status'])
  expect([without.code, without.stdout]).toEqual([0, expect.not.stringContaining('m: ')])
  expect((await copal(answer(costly), ['status', '--json'])).calls).toHaveLength(1)
})

test('copal drift says of each domain whether it drifts, or what is missing to know it', async () => {
  const drift = {
    model: 'm',
    active_version: 14,
    traffic: [],
    r: { domains: [], holdouts: [], stages: [], perplexity: [], backward_transfer: null, forgetting: [] },
  }
  const { stdout } = await copal((call) => (call === 'GET /admin/drift' ? drift : costly), ['drift'])
  expect(stdout).toMatch(/^code +steady\nlaw +not known yet: 38 observations missing$/m)
})
