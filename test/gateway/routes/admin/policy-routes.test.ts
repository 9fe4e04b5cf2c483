import { describe, expect, test } from 'vitest'
import { PRESETS, type PolicyReport } from '@copal/shared/wire/admin-policy.ts'
import { findPolicy } from '../../../../gateway/src/adaptation/policy/find-policy.ts'
import { admin, adminJson, testDeps } from '../../support/doubles/simulated-node.ts'
import { createKey, errorOf, sendHeartbeat } from '../../support/requests/gateway-requests.ts'
import { decisionRowsOf } from '../../support/state/rows-of.ts'

const known = (model: string) => sendHeartbeat({ id: `node-${model}`, url: 'http://127.0.0.1:1' }, model)

describe('the policy of a model', () => {
  test('is the preset of the deployment until an operator changes it', async () => {
    await known('policy-a')
    expect(await adminJson('GET', '/policy?model=policy-a')).toEqual({
      model: 'policy-a',
      revision: 0,
      policy: PRESETS.local,
      overrides: {},
      preset_policy: PRESETS.local,
      deployment_preset: 'local',
    })
    const production = { ...testDeps(), adaptationPreset: 'production' as const }
    expect(await findPolicy(production, 'policy-a')).toEqual(PRESETS.production)
  })

  test('is changed field by field, and each change is a decision with who made it', async () => {
    await known('policy-b')
    const overrides = { gate: { max_regression: 1.08 }, confirm: 2 }
    const report = await adminJson<PolicyReport>('PUT', '/policy', { model: 'policy-b', ...overrides })
    expect(report.overrides).toEqual(overrides)
    expect(report.policy).toEqual({
      ...PRESETS.local,
      gate: { ...PRESETS.local.gate, max_regression: 1.08 },
      confirm: 2,
    })
    expect([report.preset_policy, report.deployment_preset]).toEqual([PRESETS.local, 'local'])
    // The same again changes nothing, an empty body removes all changes.
    await adminJson('PUT', '/policy', { model: 'policy-b', ...overrides })
    expect(await adminJson('PUT', '/policy', { model: 'policy-b' })).toMatchObject({ policy: PRESETS.local })
    expect(
      (await decisionRowsOf('policy-b')).map(({ kind, actor, reason }) => [kind, actor, reason]),
    ).toEqual([
      [
        'policy',
        expect.stringMatching(/^admin-[0-9a-f]{8}$/),
        'Changed gate.max_regression from 1.08 to 1.05, confirm from 2 to "auto".',
      ],
      [
        'policy',
        expect.any(String),
        'Changed gate.max_regression from 1.05 to 1.08, confirm from "auto" to 2.',
      ],
    ])
  })

  test('is reported beside the preset that was chosen, and names the one of the deployment', async () => {
    await known('policy-e')
    const body = { model: 'policy-e', preset: 'production', effort: { max_holdouts: 4 } }
    const report = {
      policy: { ...PRESETS.production, effort: { ...PRESETS.production.effort, max_holdouts: 4 } },
      preset_policy: PRESETS.production,
      deployment_preset: 'local',
    }
    expect(await adminJson('PUT', '/policy', body)).toMatchObject(report)
    expect(await adminJson('GET', '/policy?model=policy-e')).toMatchObject(report)
  })

  test('keeps the change of an operator who was faster, and says so to the other one', async () => {
    await known('policy-f')
    const body = (changes: object) => ({ model: 'policy-f', ...changes })
    const read = await adminJson<PolicyReport>('GET', '/policy?model=policy-f')
    const { revision } = await adminJson<PolicyReport>(
      'PUT',
      '/policy',
      body({ confirm: 2, revision: read.revision }),
    )
    expect(revision).toBeGreaterThan(read.revision)
    const late = await admin('PUT', '/policy', body({ gate: { max_candidates: 1 }, revision: read.revision }))
    expect([late.status, (await errorOf(late)).param]).toEqual([409, 'revision'])
    const stored = { overrides: { confirm: 2 }, revision }
    expect(await adminJson('GET', '/policy?model=policy-f')).toMatchObject(stored)
    // Of calls at once that were made from the same policy, one is stored.
    const racing = await Promise.all(
      [1, 2, 3].map((max_candidates) =>
        admin('PUT', '/policy', body({ gate: { max_candidates }, confirm: 2, revision })),
      ),
    )
    expect(racing.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 409, 409])
    expect(await decisionRowsOf('policy-f')).toHaveLength(2)
    expect((await adminJson<PolicyReport>('PUT', '/policy', body({}))).overrides).toEqual({})
  })

  test.each([
    ['a misspelt field', { gate: { max_regresion: 1.1 } }, 'gate'],
    ['a ratio below 1', { gate: { max_regression: 0.95 } }, 'gate.max_regression'],
    ['a canary that would end before it may', { canary: { min_minutes: 200 } }, 'canary.min_minutes'],
    ['a schedule with a sixth field', { triggers: { schedule: '0 0 3 * * *' } }, 'triggers.schedule'],
    ['a schedule of words', { triggers: { schedule: 'every night' } }, 'triggers.schedule'],
    ['a schedule that never comes round', { triggers: { schedule: '0 0 31 2 *' } }, 'triggers.schedule'],
    ['hours that do not exist', { triggers: { quiet_hours: '22:00-25:00' } }, 'triggers.quiet_hours'],
    ['quiet hours without a length', { triggers: { quiet_hours: '22:00-22:00' } }, 'triggers.quiet_hours'],
    ['an unknown preset', { preset: 'careless' }, 'preset'],
  ])('is not changed by %s', async (_, body, param) => {
    await known('policy-c')
    const response = await admin('PUT', '/policy', { model: 'policy-c', ...body })
    expect([response.status, (await errorOf(response)).param]).toEqual([400, param])
    expect(await adminJson('GET', '/policy?model=policy-c')).toMatchObject({ overrides: {} })
  })

  test('names the fields of a schedule that is none', async () => {
    await known('policy-d')
    const response = await admin('PUT', '/policy', {
      model: 'policy-d',
      triggers: { schedule: '61 3 * * *' },
    })
    expect((await errorOf(response)).message).toMatch(
      /'triggers\.schedule' is '61 3 \* \* \*', which is no schedule: .*61.*'0 3 \* \* \*' is every night at 3\./,
    )
    const short = await admin('PUT', '/policy', {
      model: 'policy-d',
      triggers: { schedule: '0 3 * *' },
    })
    expect((await errorOf(short)).message).toContain(
      'which is no schedule: it has 4 fields instead of five. Write',
    )
    const stored = { triggers: { schedule: '0 3 * * 1-5', quiet_hours: '22:00-06:00' } }
    expect(await adminJson('PUT', '/policy', { model: 'policy-d', ...stored })).toMatchObject({
      overrides: stored,
    })
  })

  test('is not for callers without the admin key', async () => {
    const { key } = await createKey({ scopes: ['admin'] })
    expect((await admin('GET', '/policy', undefined, key)).status).toBe(403)
    expect((await admin('PUT', '/policy', {}, key)).status).toBe(403)
  })
})
