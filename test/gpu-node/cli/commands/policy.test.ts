import { expect, test } from 'vitest'
import { PRESETS, type PolicyReport } from '@copal/shared/wire/admin-policy.ts'
import { withSettings } from '../../../../gpu-node/cli/input/policy-settings.ts'
import { copal } from '../../../support/doubles/copal-command.ts'

const REPORT: PolicyReport = {
  model: 'tiny',
  revision: 7,
  policy: { ...PRESETS.local, gate: { ...PRESETS.local.gate, max_regression: 1.08 } },
  overrides: { gate: { max_regression: 1.08 } },
  preset_policy: PRESETS.local,
  deployment_preset: 'local',
}

test('the policy is shown setting by setting, with what the preset has where it was changed', async () => {
  const { stdout } = await copal(REPORT, ['policy', 'show'])
  expect(stdout).toMatch(/^SETTING +VALUE +CHANGED FROM$/m)
  expect(stdout).toMatch(/^gate\.max_regression +1\.08 +1\.05$/m)
  expect(stdout).toMatch(/^gate\.confidence +0\.95$/m)
  expect(stdout).toMatch(/^statistics\.half_life_days +null$/m)
  expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80)
})

test('a preset that was chosen is shown with that of the deployment', async () => {
  const chosen = { ...REPORT, policy: PRESETS.production, overrides: { preset: 'production' as const } }
  const { stdout } = await copal({ ...chosen, preset_policy: PRESETS.production }, ['policy', 'show'])
  expect(stdout).toMatch(/^preset +production +local$/m)
})

test('settings are added to what was set before, and a reset removes them', async () => {
  const calls: string[] = []
  const answer = (call: string) => {
    calls.push(call)
    return REPORT
  }
  expect((await copal(answer, ['policy', 'set', 'confirm=2', '--model', 'tiny'])).code).toBe(0)
  expect((await copal(answer, ['policy', 'reset'])).code).toBe(0)
  expect(calls).toEqual(['GET /admin/policy?model=tiny', 'PUT /admin/policy', 'PUT /admin/policy'])
})

test('settings are added again to what another operator has set in between', async () => {
  let puts = 0
  const answer = (call: string) => {
    if (!call.startsWith('PUT'))
      return { ...REPORT, revision: 7 + puts, overrides: puts === 0 ? {} : { confirm: 2 } }
    puts += 1
    const error = {
      message: 'It was changed meanwhile.',
      type: 'invalid_request_error',
      code: 'conflict',
      param: null,
    }
    return puts === 1 ? { status: 409, body: { error } } : REPORT
  }
  const { code, calls } = await copal(answer, ['policy', 'set', 'gate.max_candidates=1'])
  expect(code).toBe(0)
  expect(calls.filter(({ call }) => call === 'PUT /admin/policy').map(({ body }) => body)).toEqual([
    { gate: { max_candidates: 1 }, revision: 7 },
    { gate: { max_candidates: 1 }, confirm: 2, revision: 8 },
  ])
})

test('values are numbers, words, switches, null and weights of domains', () => {
  const settings = [
    'gate.max_regression=1.1',
    'gate.confidence=0.99',
    'canary.enabled=false',
    'confirm=auto',
    'statistics.half_life_days=null',
    'statistics.weights=legal:2,code:0.5',
    'triggers.quiet_hours=22:00-06:00',
    'triggers.schedule=0 3 * * *',
    'triggers.dry_run=true',
    'effort.node_share=0.2',
    'selection.pattern=0.4',
    'selection.method=null',
    'calibration.samples=32',
  ]
  expect(withSettings({ gate: { max_regression: 1.08, max_candidates: 2 } }, settings)).toEqual({
    gate: { max_regression: 1.1, max_candidates: 2, confidence: 0.99 },
    canary: { enabled: false },
    confirm: 'auto',
    statistics: { half_life_days: null, weights: { legal: 2, code: 0.5 } },
    triggers: { quiet_hours: '22:00-06:00', schedule: '0 3 * * *', dry_run: true },
    effort: { node_share: 0.2 },
    selection: { pattern: '0.4', method: null },
    calibration: { samples: 32 },
  })
})

test('a weight that is no number is sent as it was typed, so that the message names its type', () => {
  expect(withSettings({}, ['statistics.weights=legal:x'])).toEqual({
    statistics: { weights: { legal: 'x' } },
  })
})

test.each([
  ['gate.max_regresion=1.1', /no setting 'gate\.max_regresion'\. Did you mean 'gate\.max_regression'\?/],
  ['speed=9', /no setting 'speed'\. 'npx copal policy show' lists/],
  [
    'gate.max_regression',
    /'gate\.max_regression' has no value\. Write it like 'gate\.max_regression=<value>'/,
  ],
])('%s is rejected before the gateway is called', async (setting, message) => {
  const calls: string[] = []
  const failed = await copal((call) => void calls.push(call), ['policy', 'set', setting])
  expect([failed.code, failed.stderr]).toEqual([1, expect.stringMatching(message)])
  expect(calls).toEqual([])
})
