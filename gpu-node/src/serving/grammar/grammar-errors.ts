import { AppError } from '@copal/shared/errors.ts'
import type { AddonError, AddonErrorCode } from '../../../native/addon.d.ts'
import { addonErrorCode } from '../../platform/native-addon.ts'
import { TooCostlyError } from './compile-sandbox.ts'

/** Returns why the compiler rejected a grammar; `undefined` for an error that is not about the grammar. */
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
      return `it is not supported (${message})`
    default:
      return undefined
  }
}

/** Converts an error of the compiler to one that tells the client what to change. */
export function toClientError(thrown: unknown, param: string): AppError {
  if (thrown instanceof AppError) return thrown
  const { detail = '', message } = thrown as Partial<AddonError>
  const text = String(message ?? thrown)
  if (thrown instanceof TooCostlyError)
    return new AppError(
      'invalid_request',
      `Invalid '${param}': ${text}. Simplify it: each constraint that 'allOf' combines on one string ('pattern', ` +
        "'format', 'minLength', 'maxLength') doubles the cost.",
      { cause: thrown, param },
    )
  const reason = reasonOf(addonErrorCode(thrown), detail, text)
  const sentence = reason ?? 'it cannot be compiled. Simplify it'
  return new AppError('invalid_request', `Invalid '${param}': ${sentence}.`, { cause: thrown, param })
}

/** Creates the error for output at a place where the grammar exceeds its limits. */
export function grammarTooCostly(cause: unknown): AppError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new AppError(
    'invalid_request',
    `The output cannot follow its schema any further (${reason}). Simplify the schema.`,
    { cause },
  )
}
