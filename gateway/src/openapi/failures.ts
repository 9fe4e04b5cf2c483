/** What can go wrong in each operation, found out in one place from what the operation says of itself. */
import { ERROR_CASES, type ErrorCase, type ErrorCode } from '@copal/shared/errors.ts'
import { errorHeaders, type HeaderField } from './headers.ts'
import type { Operation } from './operation.ts'
import type { JsonSchema } from './openapi-schema.ts'

/** Of whatever has to find a node and wait for its answer. */
const GENERATING: readonly ErrorCode[] = [
  'context_length_exceeded',
  'model_not_found',
  'rate_limit_exceeded',
  'insufficient_quota',
  'overloaded',
  'node_failed',
  'no_node_available',
  'deadline_exceeded',
]

/** One answer of the document. */
export interface DescribedAnswer {
  description: string
  headers?: Readonly<Record<string, HeaderField>>
  content: object
}

/** Whether an operation has a node answer. */
export function generates({ key, body }: Operation): boolean {
  return key === 'inference' && body !== undefined
}

/**
 * The errors that an operation can answer with, by status.
 *
 * Two are left out: `client_closed_request`, which nobody is left to read, and `method_not_allowed`, which is of methods
 * that are no operation.
 */
export function errorsOf(operation: Operation): ErrorCase[] {
  const { key, params, querySchema, body, takesFile, errors = [] } = operation
  const reads = params ?? querySchema ?? body ?? takesFile
  const codes = new Set<ErrorCode>([
    'internal_error',
    ...(key === 'none'
      ? []
      : (['invalid_api_key', 'insufficient_permissions', 'service_unavailable'] as const)),
    ...(reads ? (['invalid_request'] as const) : []),
    ...((body ?? takesFile) ? (['body_too_large'] as const) : []),
    ...(generates(operation) ? GENERATING : []),
    ...errors,
  ])
  return ERROR_CASES.filter(({ code }) => codes.has(code))
}

/** A status, the name that its answer has among the document's components, and the answer. */
export interface Failure {
  status: number
  name: string
  answer: DescribedAnswer
}

/** The failures of an operation; those of operations that can fail alike have one name. */
export function failuresOf(operation: Operation): Failure[] {
  const kind = generates(operation) ? 'generation.' : ''
  return [...Map.groupBy(errorsOf(operation), ({ status }) => status)].map(([status, cases]) => ({
    status,
    name: kind + cases.map(({ code }) => code).join('.'),
    answer: {
      description: cases.map(({ code, remedy }) => `\`${code}\`: ${remedy}`).join(' '),
      headers: errorHeaders(status, generates(operation)),
      content: { 'application/json': { schema: errorWith(cases) } },
    },
  }))
}

function errorWith(cases: readonly ErrorCase[]): JsonSchema {
  const code = { enum: cases.map((one) => one.code) }
  return {
    allOf: [
      { $ref: '#/components/schemas/Error' },
      { type: 'object', properties: { error: { type: 'object', properties: { code } } } },
    ],
  }
}
