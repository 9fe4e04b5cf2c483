/** The errors of each operation, derived in one place from the operation's description. */
import { ERROR_CASES, type ErrorCase, type ErrorCode } from '@copal/shared/errors.ts'
import { errorHeaders, type HeaderField } from './headers.ts'
import type { Operation } from './operation.ts'
import type { JsonSchema } from './openapi-schema.ts'

/** Errors of operations that dispatch a request to a node. */
const GENERATION_ERRORS: readonly ErrorCode[] = [
  'context_length_exceeded',
  'model_not_found',
  'insufficient_quota',
  'overloaded',
  'node_failed',
  'invalid_output',
  'no_node_available',
  'deadline_exceeded',
]

/** One response in the OpenAPI document. */
export interface DescribedResponse {
  description: string
  headers?: Readonly<Record<string, HeaderField>>
  content: object
}

/** Returns whether an operation runs on a node. */
export function isGeneration({ key, body }: Operation): boolean {
  return key === 'inference' && body !== undefined
}

/**
 * Returns the errors that an operation can respond with, by status.
 *
 * Two are left out: `client_closed_request`, because the client is gone, and `method_not_allowed`, because it belongs to
 * methods that are not an operation.
 */
export function errorsOf(operation: Operation): ErrorCase[] {
  const { key, params, querySchema, body, takesFile, errors = [] } = operation
  const reads = params ?? querySchema ?? body ?? takesFile
  const codes = new Set<ErrorCode>([
    'internal_error',
    ...(key === 'none'
      ? []
      : ([
          'invalid_api_key',
          'insufficient_permissions',
          'rate_limit_exceeded',
          'service_unavailable',
        ] as const)),
    ...(reads ? (['invalid_request'] as const) : []),
    ...((body ?? takesFile) ? (['body_too_large'] as const) : []),
    ...(isGeneration(operation) ? GENERATION_ERRORS : []),
    ...errors,
  ])
  return ERROR_CASES.filter(({ code }) => codes.has(code))
}

/** An error status of an operation: its response, and the response's name among the document's components. */
export interface OperationError {
  status: number
  name: string
  response: DescribedResponse
}

/** Returns the error responses of an operation; operations with the same errors share their names. */
export function errorResponsesOf(operation: Operation): OperationError[] {
  const kind = isGeneration(operation) ? 'generation.' : ''
  return [...Map.groupBy(errorsOf(operation), ({ status }) => status)].map(([status, cases]) => ({
    status,
    name: kind + cases.map(({ code }) => code).join('.'),
    response: {
      description: cases.map(({ code, remedy }) => `\`${code}\`: ${remedy}`).join(' '),
      headers: errorHeaders(status, isGeneration(operation)),
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
