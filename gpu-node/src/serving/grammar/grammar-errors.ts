import { AppError } from '@copal/shared/errors.ts'
import { TooCostlyError } from './compile-sandbox.ts'

/** The compiler's words, as a pattern, and ours. */
const KNOWN: readonly [RegExp, (match: RegExpExecArray) => string][] = [
  [
    /^Unimplemented keys: \[(.*)\]$/,
    ([, keys]) => `it uses ${keys?.replaceAll('"', "'")}, which is not supported`,
  ],
  [
    /^Unknown format: (.*)$/,
    ([, format]) =>
      `'format': '${format}' is not supported; supported are date-time, date, time, duration, email, hostname, ` +
      'ipv4, ipv6, uuid and uri',
  ],
  [
    /^oneOf constraints are not supported/,
    () =>
      "'oneOf' is supported only where its schemas exclude each other by a type or a constant; use 'anyOf'",
  ],
  [
    /^Only absolute \$ref's .*; ref '(.*)'$/,
    ([, ref]) => `'$ref': '${ref}' does not point into this schema; only '#/…' is supported`,
  ],
  [
    /^Reference segment '.*' not found in '(.*)'\.$/,
    ([, ref]) => `'$ref': there is no '${ref}' in this schema`,
  ],
  [/^Unsatisfiable schema: (.*)$/i, ([, reason]) => `no JSON fits it (${reason})`],
]

/** An error of the compiler as one that tells the client what to change. */
export function explainRefusal(thrown: unknown, param: string): AppError {
  if (thrown instanceof AppError) return thrown
  const { code, message } = thrown as { code?: unknown; message?: unknown }
  const said = String(message ?? thrown)
  if (thrown instanceof TooCostlyError)
    return new AppError(
      'invalid_request',
      `Invalid '${param}': ${said}. Simplify it: what 'allOf' combines on one string ('pattern', 'format', 'minLength', ` +
        "'maxLength') costs twice as much with each.",
      { cause: thrown, param },
    )
  if (code !== 'InvalidArg')
    return new AppError('invalid_request', `Invalid '${param}': it cannot be compiled. Simplify it.`, {
      cause: thrown,
      param,
    })
  for (const [pattern, reason] of KNOWN) {
    const match = pattern.exec(said)
    if (match)
      return new AppError('invalid_request', `Invalid '${param}': ${reason(match)}.`, {
        cause: thrown,
        param,
      })
  }
  return new AppError('invalid_request', `Invalid '${param}': it cannot be followed (${said}).`, {
    cause: thrown,
    param,
  })
}

/** The answer came to a place where the grammar takes more than it may. */
export function tooCostly(cause: unknown): AppError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new AppError(
    'invalid_request',
    `The answer cannot be kept to its schema any further (${reason}). Simplify the schema.`,
    { cause },
  )
}
