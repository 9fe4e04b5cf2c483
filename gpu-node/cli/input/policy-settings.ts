import { PRESETS, type PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import { policySettings, withSetting } from '@copal/shared/wire/policy-settings.ts'
import { suggestName } from '@copal/shared/suggest-name.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'

/**
 * Adds settings like `gate.max_regression=1.08` to the changes of a policy.
 *
 * @throws UserError `invalid_request` for a setting that does not exist or has no value
 */
export function withSettings(overrides: PolicyOverrides, settings: readonly string[]): PolicyOverrides {
  return settings.reduce((changed, setting) => {
    const [name, text] = splitSetting(setting)
    return withSetting(changed, name, parseValue(text, name))
  }, overrides)
}

function splitSetting(setting: string): [name: string, value: string] {
  const equals = setting.indexOf('=')
  const name = equals < 0 ? setting : setting.slice(0, equals)
  const known = policySettings(PRESETS.production).map(([each]) => each)
  if (!known.includes(name)) {
    const nearest = suggestName(name, known)
    const help =
      nearest === undefined ? "'npx copal policy show' lists the settings." : `Did you mean '${nearest}'?`
    throw new UserError('invalid_request', `There is no setting '${name}'. ${help}`)
  }
  const value = equals < 0 ? '' : setting.slice(equals + 1)
  if (value === '')
    throw new UserError('invalid_request', `'${name}' has no value. Write it like '${name}=<value>'.`)
  return [name, value]
}

/** The setting whose value may be weights of domains; hours of the day have colons too. */
const WEIGHTS = 'statistics.weights'

/** The setting whose value is a text, although it may look like a number. */
const PATTERN = 'selection.pattern'

/** Parses `legal:2,code:1` as weights of domains, and numbers, `true`, `false` and `null` as in JSON; all else is a word. */
function parseValue(text: string, name: string): unknown {
  if (name === WEIGHTS && text.includes(':')) {
    return Object.fromEntries(
      text.split(',').map((part) => {
        const [domain = '', weight = ''] = part.split(':')
        // JSON has no NaN: the gateway shall reject the word that was typed.
        return [domain.trim(), Number.isNaN(Number(weight)) ? weight : Number(weight)]
      }),
    )
  }
  if (name === PATTERN && text !== 'null') return text
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}
