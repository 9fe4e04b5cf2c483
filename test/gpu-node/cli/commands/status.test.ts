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

test('the status says whether the service is well, in the words of the gateway', async () => {
  const health = { problems: ['1 alert is active'], text: '1 alert is active.' }
  const answer = (overview: object | undefined) => (call: string) =>
    call === 'GET /admin/status' ? STATUS : overview
  const { stdout, calls } = await copal(answer(overviewWith({ health })), ['status'])
  expect(stdout).toContain('\nm: 1 alert is active.\n')
  expect(calls.map(({ call }) => call)).toEqual(['GET /admin/status', 'GET /admin/overview?model=m'])
  // A gateway without an overview is no failure, and nothing is claimed.
  const without = await copal(answer(undefined), ['status'])
  expect([without.code, without.stdout]).toEqual([0, expect.not.stringContaining('m: ')])
  expect((await copal(answer(overviewWith()), ['status', '--json'])).calls).toHaveLength(1)
})

test('copal drift says of each domain whether it drifts, or what is missing to know it', async () => {
  const drift = {
    model: 'm',
    active_version: 14,
    traffic: [],
    r: { domains: [], holdouts: [], stages: [], perplexity: [], backward_transfer: null, forgetting: [] },
  }
  const young = { ...domainOf('law', 0.03), missing_observations: 38 }
  const unscored = { ...domainOf('mail', null), missing_observations: null }
  const unregistered = { ...unscored, name: '(other)', scored_requests: 1 }
  const overview = overviewWith({
    domains: [domainOf('code', 0.03), young, unscored, unregistered],
    domain_count: 62,
  })
  const { stdout } = await copal(
    (call) => (call.startsWith('GET /admin/drift?') ? drift : overview),
    ['drift'],
  )
  expect(stdout).toMatch(
    /^code +steady\nlaw +not known yet: 38 observations missing\nNot scored: mail\.\nNot registered: \(other\)\.\nThe 4 of 62 domains with the most requests are listed\.$/m,
  )
})
