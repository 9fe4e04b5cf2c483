import { AppError } from '@copal/shared/errors.ts'
import type { AddonError, AddonErrorCode } from '../../../native/addon.d.ts'
import { addonErrorCode } from '../../platform/native-addon.ts'
import { TooCostlyError } from './compile-sandbox.ts'

/** Says why the compiler rejected a grammar; `undefined` for an error that is not about the grammar. */
function reasonOf(code: AddonErrorCode | undefined, detail: string, message: string): string | undefined {
  switch (code) {
    case 'GrammarUnsupportedKeywords':
      return `it uses ${detail}, which is not supported`
    case 'GrammarUnsupportedFormat':
      return (
        `'format': '${detail}' is not supported; supported are date-time, date, time, duration, email, hostname, ` +
        'ipv4, ipv6, uuid and uri'
      )
    case 'GrammarUnsupportedOneOf':
      return "'oneOf' is supported only where its schemas exclude each other by a type or a constant; use 'anyOf'"
    case 'GrammarExternalRef':
      return `'$ref': '${detail}' does not point into this schema; only '#/…' is supported`
    case 'GrammarMissingRef':
      return `'$ref': there is no '${detail}' in this schema`
    case 'GrammarUnsatisfiable':
      return `no JSON fits it (${detail})`
    case 'GrammarInvalid':
    case 'ThreadsUnavailable':
    case 'InvalidArg':
      return `it cannot be followed (${message})`
    default:
      return undefined
  }
}

/** An error of the compiler as one that tells the client what to change. */
export function explainRefusal(thrown: unknown, param: string): AppError {
  if (thrown instanceof AppError) return thrown
  const { detail = '', message } = thrown as Partial<AddonError>
  const said = String(message ?? thrown)
  if (thrown instanceof TooCostlyError)
    return new AppError(
      'invalid_request',
      `Invalid '${param}': ${said}. Simplify it: what 'allOf' combines on one string ('pattern', 'format', 'minLength', ` +
        "'maxLength') costs twice as much with each.",
      { cause: thrown, param },
    )
  const reason = reasonOf(addonErrorCode(thrown), detail, said)
  const sentence = reason ?? 'it cannot be compiled. Simplify it'
  return new AppError('invalid_request', `Invalid '${param}': ${sentence}.`, { cause: thrown, param })
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
