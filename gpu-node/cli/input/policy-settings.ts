import { PRESETS, type PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import { suggestName } from '@copal/shared/suggest-name.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'

/** The settings of a policy with their values, in the order in which they are shown: `gate.confidence`, … */
export function policySettings(policy: object): [name: string, value: unknown][] {
  return Object.entries(policy).flatMap(([part, value]): [string, unknown][] =>
    typeof value === 'object' && value !== null
      ? Object.entries(value).map(([name, each]) => [`${part}.${name}`, each])
      : [[part, value]],
  )
}

/**
 * Adds settings like `gate.max_regression=1.08` to the changes of a policy.
 *
 * @throws UserError `invalid_request` for a setting that does not exist or has no value
 */
export function withSettings(overrides: PolicyOverrides, settings: readonly string[]): PolicyOverrides {
  const changed = structuredClone(overrides) as Record<string, unknown>
  for (const setting of settings) {
    const [name, text] = splitSetting(setting)
    const [part = '', field] = name.split('.')
    const value = parseValue(text, name)
    changed[part] = field === undefined ? value : { ...(changed[part] as object | undefined), [field]: value }
  }
  return changed
}

function splitSetting(setting: string): [name: string, value: string] {
  const equals = setting.indexOf('=')
  const name = equals < 0 ? setting : setting.slice(0, equals)
  const known = policySettings(PRESETS.production).map(([each]) => each)
  if (!known.includes(name)) {
    const nearest = suggestName(name, known)
    const help =
      nearest === undefined ? `The settings are ${known.join(', ')}.` : `Did you mean '${nearest}'?`
    throw new UserError('invalid_request', `There is no setting '${name}'. ${help}`)
  }
  const value = equals < 0 ? '' : setting.slice(equals + 1)
  if (value === '')
    throw new UserError('invalid_request', `'${name}' has no value. Write it like '${name}=<value>'.`)
  return [name, value]
}

/** The setting whose value may be weights of domains; hours of the day have colons too. */
const WEIGHTS = 'statistics.weights'

/** Parses `legal:2,code:1` as weights of domains, and numbers, `true`, `false` and `null` as in JSON; all else is a word. */
function parseValue(text: string, name: string): unknown {
  if (name === WEIGHTS && text.includes(':')) {
    return Object.fromEntries(
      text.split(',').map((part) => {
        const [domain = '', weight = ''] = part.split(':')
        return [domain.trim(), Number(weight)]
      }),
    )
  }
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}
