import { SETTINGS } from '@copal/shared/settings-table.ts'
import { notConfigured } from './not-configured.ts'

type Settings = typeof SETTINGS
/** A setting that is a number. */
type NumberSetting = {
  [Name in keyof Settings]: Settings[Name] extends { default: number } ? Name : never
}[keyof Settings]

/** Units of whole numbers by the ends of their names; without one of them they count requests. */
const UNITS = [
  ['_MS', 'in milliseconds'],
  ['_DAYS', 'of days'],
  ['_CHARACTERS', 'of characters'],
] as const

/**
 * Reads a variable that is a whole number, or the default of its setting.
 *
 * @throws AppError `internal_error` that names the variable if it is not a whole number
 */
export function readWholeNumber<Name extends NumberSetting>(
  env: Partial<Record<Name, string | undefined>>,
  name: Name,
): number {
  const text = env[name]
  if (text === undefined || text === '') return SETTINGS[name].default
  if (/^\d{1,9}$/.test(text)) return Number(text)
  const [, unit = 'of requests'] = UNITS.find(([ending]) => name.endsWith(ending)) ?? []
  throw notConfigured(`the variable ${name} is '${text}'; a whole number is expected, ${unit}.`)
}

/**
 * Reads a variable that is a list separated by commas; empty if it is not set.
 *
 * @param expected the description of a valid part, for the error message
 * @throws AppError `internal_error` that names the variable and an invalid part
 */
export function readList<Name extends string>(
  env: Partial<Record<Name, string>>,
  name: Name,
  isValid: (part: string) => boolean,
  expected: string,
): string[] {
  const parts = (env[name] ?? '')
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
  const invalid = parts.find((part) => !isValid(part))
  if (invalid === undefined) return parts
  throw notConfigured(`the variable ${name} has '${invalid}'; ${expected} are expected, separated by commas.`)
}
