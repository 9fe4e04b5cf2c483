import type { z } from 'zod'
import { AppError } from '../errors.ts'

/**
 * Validates a value from outside against `schema`.
 *
 * @throws AppError `invalid_request` that names the first wrong field in `param`
 */
export function validate<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const { param, message } = firstError(result.error)
  if (!param) throw new AppError('invalid_request', `Invalid request body: ${message}.`)
  throw new AppError('invalid_request', `${message[0]?.toUpperCase()}${message.slice(1)}.`, { param })
}

/** Returns the first error of a value: the field (empty for the value itself), and a sentence without its full stop. */
export function firstError(error: z.ZodError): { param: string; message: string } {
  const [first] = error.issues
  const issue = first && innermostIssue(first)
  const param = formatPath(issue?.path ?? [])
  const reason = issue ? describeIssue(issue.message) : 'invalid value'
  const message = reason === MISSING ? `'${param}' is missing` : `invalid '${param}': ${reason}`
  return { param, message: param ? message : reason }
}

const MISSING = 'it is missing'

/** Zod's signs of bounds, in words. */
const BOUNDS: Readonly<Record<string, string>> = {
  '<=': 'at most',
  '<': 'less than',
  '>=': 'at least',
  '>': 'more than',
}

/** Rewrites zod's messages about types, bounds and options in plain words; those of our own schemas stay as they are. */
function describeIssue(message: string): string {
  const [, options] = /^Invalid (?:option: expected one of|input: expected) (".+")$/s.exec(message) ?? []
  if (options !== undefined)
    return `expected ${options.includes('"|"') ? 'one of ' : ''}${options.slice(1, -1).split('"|"').map(quote).join(', ')}`
  const [, sign = '', limit, unit] =
    /^Too (?:big|small): expected \w+ to (?:be|have) ([<>]=?)(\S+)(?: (\w+))?$/.exec(message) ?? []
  if (limit !== undefined)
    return unit === undefined
      ? `expected a number of ${BOUNDS[sign]} ${limit}`
      : `expected ${BOUNDS[sign]} ${limit} ${limit === '1' ? unit.replace(/s$/, '') : unit}`
  const [, expected, received] = /^Invalid input: expected (\w+), received (\w+)$/.exec(message) ?? []
  if (expected === undefined) return message
  const kind = expected === 'record' ? 'object' : expected
  return received === 'undefined'
    ? MISSING
    : `expected ${/^[aeiou]/.test(kind) ? 'an' : 'a'} ${kind}, got ${received}`
}

function quote(text: string): string {
  return `'${text}'`
}

/**
 * Parses JSON text from outside.
 *
 * @throws AppError `invalid_request` when it is not JSON
 */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new AppError('invalid_request', 'The request body is not valid JSON.', { cause })
  }
}

/** Issue codes of a value of the wrong type. */
const WRONG_KIND_CODES: ReadonlySet<string> = new Set(['invalid_type', 'invalid_value', 'invalid_union'])

/**
 * Returns the issue inside the alternative of a union that the value was meant to be: the only one whose type matches. When
 * no alternative matches, or several do, returns the issue itself.
 */
function innermostIssue(issue: z.core.$ZodIssue): { path: PropertyKey[]; message: string } {
  if (issue.code !== 'invalid_union') return issue
  const matching = issue.errors.filter(
    (issues) => !issues.some(({ path, code }) => path.length === 0 && WRONG_KIND_CODES.has(code)),
  )
  const [inner] = matching.length === 1 ? (matching[0] ?? []) : []
  if (!inner) return issue
  const { path, message } = innermostIssue(inner)
  return { path: [...issue.path, ...path], message }
}

function formatPath(path: readonly PropertyKey[]): string {
  let text = ''
  for (const key of path)
    text += typeof key === 'number' ? `[${key}]` : text ? `.${String(key)}` : String(key)
  return text
}
