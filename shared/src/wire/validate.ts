import { z } from 'zod'
import { AppError } from '../errors.ts'

/** The first error of a value: the field (empty for the value itself), and a sentence without its full stop. */
interface FirstError {
  param: string
  message: string
}

/**
 * Validates a value from outside against `schema`.
 *
 * @throws AppError `invalid_request` that names the first wrong field in `param`
 */
export function validate<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value, { error: describeIssue })
  if (result.success) return result.data
  const { param, message } = firstError(result.error)
  if (!param) throw new AppError('invalid_request', `Invalid request body: ${message}.`)
  throw new AppError('invalid_request', `${message[0]?.toUpperCase()}${message.slice(1)}.`, { param })
}

/** Returns the first error of a value; undefined where it has none. */
export function findError(schema: z.ZodType, value: unknown): FirstError | undefined {
  const { error } = schema.safeParse(value, { error: describeIssue })
  return error && firstError(error)
}

function firstError(error: z.ZodError): FirstError {
  const [first] = error.issues
  const issue = first && innermostIssue(first)
  const param = formatPath(issue?.path ?? [])
  const reason = issue?.message ?? 'invalid value'
  const message = reason === MISSING ? `'${param}' is missing` : `invalid '${param}': ${reason}`
  return { param, message: param ? message : reason }
}

const MISSING = 'it is missing'
/** The units of bounds; others are bounds of numbers. */
const UNITS: Readonly<Record<string, string>> = { string: 'character', array: 'item', set: 'item' }

/** Describes an issue of a type, a bound or an option in plain words. Schemas with messages of their own are not asked. */
function describeIssue(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type': {
      if (issue.input === undefined) return MISSING
      // JSON has no infinity, but 1e400 is one.
      const got = issue.input === Infinity ? 'infinity' : z.core.util.parsedType(issue.input)
      return `expected ${describeKind(issue.expected)}, got ${got}`
    }
    case 'invalid_value': {
      const options = describeOptions(issue.values)
      return `expected ${options.length > 1 ? 'one of ' : ''}${options.join(', ')}`
    }
    case 'invalid_union':
      return describeAlternatives(issue.errors)
    case 'too_big':
      return describeBound(issue.inclusive === false ? 'less than' : 'at most', issue.maximum, issue.origin)
    case 'too_small':
      return describeBound(issue.inclusive === false ? 'more than' : 'at least', issue.minimum, issue.origin)
    default:
      return undefined
  }
}

function describeKind(expected: string): string {
  if (expected === 'boolean') return 'true or false'
  const kind = expected === 'record' ? 'object' : expected
  return `${/^[aeiou]/.test(kind) ? 'an' : 'a'} ${kind}`
}

function describeOptions(values: readonly z.core.util.Primitive[]): string[] {
  return values.map((value) => (typeof value === 'string' ? `'${value}'` : String(value)))
}

/** Lists what a union takes; undefined if none is known, or one rejects a value for more than its type. */
function describeAlternatives(alternatives: readonly z.core.$ZodIssue[][]): string | undefined {
  const expected = alternatives.map(([issue]) => {
    if (!issue || issue.path.length > 0) return []
    if (issue.code === 'invalid_type') return [describeKind(issue.expected)]
    return issue.code === 'invalid_value' ? describeOptions(issue.values) : []
  })
  if (expected.length === 0 || expected.some((each) => each.length === 0)) return undefined
  const all = [...new Set(expected.flat())]
  return `expected ${all.length > 1 ? `${all.slice(0, -1).join(', ')} or ` : ''}${all.at(-1)}`
}

function describeBound(relation: string, limit: number | bigint, origin: string): string {
  const unit = UNITS[origin]
  return unit === undefined
    ? `expected a number of ${relation} ${limit}`
    : `expected ${relation} ${limit} ${unit}${Number(limit) === 1 ? '' : 's'}`
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
