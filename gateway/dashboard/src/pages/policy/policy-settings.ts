/** The settings of a policy: which were changed, and the sentence that says so. */
import { listNames } from '@copal/shared/phrases.ts'
import type { PolicyReport } from '@copal/shared/wire/admin-policy.ts'
import { policySettings } from '@copal/shared/wire/policy-settings.ts'
import { plural } from '../../format/numbers.ts'
import { wordsOf, type SettingWords } from './setting-words.ts'
import { formatValue } from './setting-values.ts'

/** One setting of a policy. */
export interface Setting {
  /** As in the API, such as `gate.confidence`. */
  name: string
  words: SettingWords
  /** The value in force. */
  value: unknown
  /** An operator has set it. */
  isChanged: boolean
  /** The value that the preset gives; for the setting `preset` itself, the one that the deployment gives. */
  presetValue: unknown
}

/** Settings that are shown together. */
export interface SettingsPart {
  /** As in the API; `undefined` for the settings that belong to none. */
  part: string | undefined
  settings: readonly Setting[]
}

/** The settings of a policy by their parts, in the order of the API; those without a part come first. */
export function settingsByPart(report: PolicyReport): SettingsPart[] {
  const { policy, overrides, preset_policy: preset, deployment_preset: deployment } = report
  const changed = new Map(policySettings(overrides))
  const before = new Map(policySettings({ ...preset, preset: deployment }))
  const settings = policySettings(policy).map(([name, value]): Setting => ({
    name,
    words: wordsOf(name),
    value,
    isChanged: changed.has(name),
    presetValue: before.get(name),
  }))
  const parts = Object.groupBy(settings, ({ name }) => name.split('.').slice(0, -1).join('.'))
  const { '': general = [], ...others } = parts
  return [
    { part: undefined, settings: general },
    ...Object.entries(others).map(([part, each = []]) => ({ part, settings: each })),
  ]
}

/** A setting of a report. */
export function settingOf(report: PolicyReport, name: string): Setting | undefined {
  return settingsByPart(report)
    .flatMap(({ settings }) => settings)
    .find((setting) => setting.name === name)
}

/** Tells that two values of a setting are the same. */
export function isSameValue(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}

/** Returns the note beside a changed value that names the value of the preset: `preset: 5 %`. */
export function presetNote({ name, words, value, presetValue }: Setting): string {
  const text = isSameValue(value, presetValue) ? 'the same' : formatValue(presetValue, words)
  return `${name === 'preset' ? 'deployment' : 'preset'}: ${text}`
}

/** Says which preset is in force, and which settings differ from it. */
export function policySentence(report: PolicyReport): string {
  const { model, policy, deployment_preset: deployment } = report
  const chosen = policy.preset === deployment ? '' : `, chosen instead of ${deployment}`
  const start = `${model} follows the preset ${policy.preset}${chosen}`
  const differing = settingsByPart(report)
    .flatMap(({ settings }) => settings)
    .filter(({ name, value, presetValue }) => name !== 'preset' && !isSameValue(value, presetValue))
  if (differing.length === 0) return `${start}, and no setting differs from it.`
  const described = differing.map(
    ({ words, value, presetValue }) =>
      `${lowerFirst(words.label)} (${formatValue(value, words)} instead of ${formatValue(presetValue, words)})`,
  )
  return `${start}, but for ${plural(differing.length, 'setting')}: ${listNames(described)}.`
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1)
}

/** Effects of a new value that its description does not say. */
export function effectsOf(name: string, value: unknown): string[] {
  if (name === 'discovery.own_masks' && value === false)
    return [
      'The own masks that domains have are removed at once, and the shared mask serves these domains. Only updates make new ones.',
    ]
  if (name === 'preset')
    return ['Settings that were changed keep their values; the others take those of the preset.']
  return []
}
