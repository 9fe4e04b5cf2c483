import { exports } from 'cloudflare:workers'
import type { ErrorBody } from '@copal/shared/errors.ts'
import { errorsOf } from '../../../../gateway/src/openapi/operation-errors.ts'
import type { Operation } from '../../../../gateway/src/openapi/operation.ts'
import { OPERATIONS } from '../../../../gateway/src/openapi/operations.ts'
// workerd loads the Worker by itself: this import tells `npm test -- --changed` that the tests depend on it.
import '../../../../gateway/src/index.ts'

/** The documented responses of each operation: the status of success and the error codes. */
const ANSWERS = OPERATIONS.map((operation) => ({
  operation,
  path: new RegExp(`^${operation.path.replaceAll(/\{\w+\}/g, '[^/]+')}$`),
  statuses: [operation.status ?? 200, ...(operation.accepted === undefined ? [] : [202])],
  codes: new Set<string>(errorsOf(operation).map(({ code }) => code)),
}))

/**
 * Sends a request to the Worker, and throws when the OpenAPI document does not list the response for the operation. Tests
 * provoke failing nodes and used-up budgets, which no client could.
 */
export async function fetchDocumented(request: Request): Promise<Response> {
  const response = await exports.default.fetch(request)
  const method = request.method.toLowerCase()
  const path = new URL(request.url).pathname
  const answers = ANSWERS.find(
    (each) => each.operation.method === method && (each.path.test(path) || each.path.test(`/v1${path}`)),
  )
  if (!answers || answers.statuses.includes(response.status)) return response
  const { error } = await response.clone().json<ErrorBody>()
  if (answers.codes.has(error.code) || isUnread(error.code)) return response
  throw new Error(
    `${told(answers.operation)} answers ${response.status} ${error.code}, which is not documented`,
  )
}

/** Whether no client is left to read the error. */
function isUnread(code: string): boolean {
  return code === 'client_closed_request'
}

function told({ method, path }: Operation): string {
  return `${method.toUpperCase()} ${path}`
}
