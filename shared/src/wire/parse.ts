import type { z } from 'zod'
import { AppError } from '../errors.ts'

/**
 * Validates `value` from outside against `schema`.
 *
 * @throws AppError `invalid_request` that names the first offending field in `param`.
 */
export function parse<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const [issue] = result.error.issues
  const param = fieldPath(issue?.path ?? [])
  const reason = issue?.message ?? 'invalid value'
  throw new AppError(
    'invalid_request',
    param ? `Invalid '${param}': ${reason}.` : `Invalid request body: ${reason}.`,
    param ? { param } : {},
  )
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

function fieldPath(path: readonly PropertyKey[]): string {
  let text = ''
  for (const key of path)
    text += typeof key === 'number' ? `[${key}]` : text ? `.${String(key)}` : String(key)
  return text
}
