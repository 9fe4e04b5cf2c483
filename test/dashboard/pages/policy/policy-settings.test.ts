import { expect, test } from 'vitest'
import {
  effectivePolicy,
  presetPolicy,
  PRESETS,
  type PolicyOverrides,
  type PolicyReport,
} from '@copal/shared/wire/admin-policy.ts'
import {
  effectsOf,
  policySentence,
  presetNote,
  settingOf,
  settingsByPart,
} from '../../../../gateway/dashboard/src/pages/policy/policy-settings.ts'
import { wordsOf } from '../../../../gateway/dashboard/src/pages/policy/setting-words.ts'

const reportOf = (overrides: PolicyOverrides): PolicyReport => ({
  model: 'tiny',
  revision: 1,
  policy: effectivePolicy('local', overrides),
  overrides,
  preset_policy: presetPolicy('local', overrides),
  deployment_preset: 'local',
})
const sentenceOf = (overrides: PolicyOverrides) =>
  policySentence(reportOf(overrides)).replaceAll('\u202F', ' ')

test('the parts stand in the order of the API, after the settings that belong to none', () => {
  const parts = settingsByPart(reportOf({}))
  const { preset: _, confirm: __, ...named } = PRESETS.local
  expect(parts.map(({ part }) => part)).toEqual([undefined, ...Object.keys(named)])
  expect(parts[0]?.settings.map(({ name }) => name)).toEqual(['preset', 'confirm'])
  expect(parts[1]?.settings.map(({ name }) => name)).toContain('gate.max_regression')
})

test('the sentence names the preset and the settings that differ from it', () => {
  expect(sentenceOf({})).toBe('tiny follows the preset local, and no setting differs from it.')
  expect(sentenceOf({ gate: { max_regression: 1.08 }, discovery: { own_masks: true } })).toBe(
    'tiny follows the preset local, but for 2 settings: maximum perplexity above the active mask (8 % instead of 5 %) and own masks of domains (yes instead of no).',
  )
  expect(sentenceOf({ preset: 'production' })).toBe(
    'tiny follows the preset production, chosen instead of local, and no setting differs from it.',
  )
  // Set to what the preset has.
  expect(sentenceOf({ gate: { max_regression: 1.05 } })).toContain('no setting differs')
})

test('a changed setting has the value of the preset in force, and the preset that of the deployment', () => {
  const report = reportOf({
    preset: 'production',
    canary: { enabled: false },
    statistics: { weights: { a: 2 } },
  })
  expect(settingOf(report, 'canary.enabled')).toMatchObject({
    value: false,
    isChanged: true,
    presetValue: true,
  })
  expect(settingOf(report, 'statistics.weights')).toMatchObject({ value: { a: 2 }, presetValue: 'balanced' })
  expect(settingOf(report, 'gate.confidence')?.isChanged).toBe(false)
  const notes = ['preset', 'canary.enabled'].map((name) => {
    const setting = settingOf(report, name)
    return setting && presetNote(setting)
  })
  expect(notes).toEqual(['deployment: local', 'preset: yes'])
})

test('a setting that removes something says so before', () => {
  expect(effectsOf('discovery.own_masks', false).join(' ')).toContain('removed at once')
  expect(effectsOf('discovery.own_masks', true)).toEqual([])
  expect(effectsOf('preset', 'local').join(' ')).toContain('keep their values')
})

test('a setting that the page does not know has the name of the API', () => {
  expect(wordsOf('gate.max_new_thing')).toEqual({ label: 'Max new thing', unit: 'plain' })
})
