/** The single settings of an adaptation policy. Without schemas, so that pages may import it. */
import type { PolicyOverrides } from './admin-policy.ts'

/** The settings of a policy, or of changes of one, with their values: `gate.confidence`, … */
export function policySettings(policy: object): [name: string, value: unknown][] {
  return Object.entries(policy).flatMap(([part, value]): [string, unknown][] =>
    typeof value === 'object' && value !== null
      ? Object.entries(value).map(([field, each]) => [`${part}.${field}`, each])
      : [[part, value]],
  )
}

/**
 * Returns the changes of a policy with another value of one setting, the others as they are.
 *
 * @param value `undefined`: the setting is no longer changed
 */
export function withSetting(overrides: PolicyOverrides, name: string, value: unknown): PolicyOverrides {
  const [part = '', field] = name.split('.')
  const { [part]: before, ...others }: Record<string, unknown> = overrides
  const after =
    field === undefined ? value : withField(typeof before === 'object' && before ? before : {}, field, value)
  return after === undefined ? others : { ...others, [part]: after }
}

/** A part of changes with another value of one field; `undefined` for a part without any. */
function withField(part: object, field: string, value: unknown): object | undefined {
  const fields = Object.entries(part).filter(([name]) => name !== field)
  if (value !== undefined) fields.push([field, value])
  return fields.length === 0 ? undefined : Object.fromEntries(fields)
}
