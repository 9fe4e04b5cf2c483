import type { z } from 'zod'
import { AppError } from '../errors.ts'

/**
 * Validates `value` from outside against `schema`.
 *
 * @throws AppError `invalid_request` that names the first offending field in `param`.
 */
export function validate<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const { param, message } = firstError(result.error)
  if (!param) throw new AppError('invalid_request', `Invalid request body: ${message}.`)
  throw new AppError('invalid_request', `${message[0]?.toUpperCase()}${message.slice(1)}.`, { param })
}

/** The first thing that is wrong with a value: of which field, none being the value itself, and a sentence without its full stop. */
export function firstError(error: z.ZodError): { param: string; message: string } {
  const [first] = error.issues
  const issue = first && innermostIssue(first)
  const param = formatPath(issue?.path ?? [])
  const reason = issue ? describeIssue(issue.message) : 'invalid value'
  const message = reason === MISSING ? `'${param}' is missing` : `invalid '${param}': ${reason}`
  return { param, message: param ? message : reason }
}

const MISSING = 'it is missing'

/** The library's message about a value of another kind, in the words of JSON; any other as it is. */
function describeIssue(message: string): string {
  const [, expected, received] = /^Invalid input: expected (\w+), received (\w+)$/.exec(message) ?? []
  if (expected === undefined) return message
  const kind = expected === 'record' ? 'object' : expected
  return received === 'undefined'
    ? MISSING
    : `${/^[aeiou]/.test(kind) ? 'an' : 'a'} ${kind} is expected, not ${received}`
}

/**
 * Parses JSON text from outside.
 *
 * @throws AppError `invalid_request` when it is not JSON.
 */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new AppError('invalid_request', 'The request body is not valid JSON.', { cause })
  }
}

/** Codes of a value that is of another kind altogether. */
const WRONG_KIND_CODES: ReadonlySet<string> = new Set(['invalid_type', 'invalid_value', 'invalid_union'])

/**
 * What is wrong inside the one of several alternatives that the value was meant to be: the only one whose kind it is
 * of. When that is none of them, or several, the issue itself.
 */
function innermostIssue(issue: z.core.$ZodIssue): { path: PropertyKey[]; message: string } {
  if (issue.code !== 'invalid_union') return issue
  const meant = issue.errors.filter(
    (faults) => !faults.some(({ path, code }) => path.length === 0 && WRONG_KIND_CODES.has(code)),
  )
  const [fault] = meant.length === 1 ? (meant[0] ?? []) : []
  if (!fault) return issue
  const { path, message } = innermostIssue(fault)
  return { path: [...issue.path, ...path], message }
}

function formatPath(path: readonly PropertyKey[]): string {
  let text = ''
  for (const key of path)
    text += typeof key === 'number' ? `[${key}]` : text ? `.${String(key)}` : String(key)
  return text
}
