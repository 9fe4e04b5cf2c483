import type { LimitsEntry, SamplingPolicy } from '@copal/shared/wire/admin-keys.ts'
import { SelectField, TextField } from '../../components/fields.tsx'
import { formatCount } from '../../format/numbers.ts'
import { LIMITS, parseLimit, type LimitName, type LimitTexts } from './limit-fields.ts'

/** Fields of limits; empty is no limit. */
export function LimitInputs({
  texts,
  onChange,
}: {
  texts: LimitTexts
  onChange: (name: LimitName, text: string) => void
}) {
  return (
    <div class="field-grid">
      {LIMITS.map(({ name, label }) => (
        <TextField
          key={name}
          label={label}
          value={texts[name]}
          placeholder="no limit"
          onInput={(text) => onChange(name, text)}
          problem={
            parseLimit(texts[name]) === undefined ? 'Expected a number such as 500, 20k or 5M.' : undefined
          }
        />
      ))}
    </div>
  )
}

/** The sampling policies with their meanings. */
const SAMPLING: readonly { value: SamplingPolicy; label: string }[] = [
  { value: 'opt_in', label: 'Only requests that ask for it' },
  { value: 'always', label: 'All but requests that refuse' },
  { value: 'never', label: 'None' },
]

/** A choice of which requests may be sampled. */
export function SamplingInput({
  label,
  value,
  onChange,
}: {
  label: string
  value: SamplingPolicy
  onChange: (value: SamplingPolicy) => void
}) {
  return (
    <SelectField
      label={label}
      value={value}
      options={SAMPLING}
      onChange={(next) => onChange(SAMPLING.find((each) => each.value === next)?.value ?? value)}
    />
  )
}

/** Limits in words: `600 req/min, 5M tokens/month`; `none` without any. */
export function describeLimits(limits: LimitsEntry): string {
  const parts = LIMITS.flatMap(({ name, short }) => {
    const limit = limits[name]
    return limit === null ? [] : [`${formatCount(limit)} ${short}`]
  })
  return parts.length === 0 ? 'none' : parts.join(', ')
}
