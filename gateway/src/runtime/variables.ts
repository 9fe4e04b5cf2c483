import { notConfigured } from './not-configured.ts'

/** @throws AppError `internal_error` that names the variable when it is not a whole number */
export function readWholeNumber<Name extends string>(
  env: Partial<Record<Name, string>>,
  name: Name,
  standard: number,
): number {
  const text = env[name]
  if (text === undefined || text === '') return standard
  if (/^\d{1,9}$/.test(text)) return Number(text)
  const unit = name.endsWith('_MS') ? 'in milliseconds' : name.endsWith('_DAYS') ? 'of days' : 'of requests'
  throw notConfigured(`the variable ${name} is '${text}'; a whole number is expected, ${unit}.`)
}

/**
 * The parts of a variable that has commas between them; none when it is not set.
 *
 * @param expected what each is to be, for the operator
 * @throws AppError `internal_error` that names the variable and a part that is not so
 */
export function readList<Name extends string>(
  env: Partial<Record<Name, string>>,
  name: Name,
  isGood: (part: string) => boolean,
  expected: string,
): string[] {
  const parts = (env[name] ?? '')
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
  const bad = parts.find((part) => !isGood(part))
  if (bad === undefined) return parts
  throw notConfigured(
    `the variable ${name} has '${bad}'; ${expected} are expected, with commas between them.`,
  )
}
