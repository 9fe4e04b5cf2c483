import { exports } from 'cloudflare:workers'
import type { ErrorBody } from '@copal/shared/errors.ts'
import { errorsOf } from '../../../../gateway/src/openapi/failures.ts'
import type { Operation } from '../../../../gateway/src/openapi/operation.ts'
import { OPERATIONS } from '../../../../gateway/src/openapi/operations.ts'
// workerd loads the Worker by itself: this import tells `npm test -- --changed` that the tests depend on it.
import '../../../../gateway/src/index.ts'

/** What an operation may answer: the status of success, and the codes of errors. */
const ANSWERS = OPERATIONS.map((operation) => ({
  operation,
  path: new RegExp(`^${operation.path.replaceAll(/\{\w+\}/g, '[^/]+')}$`),
  status: operation.status ?? 200,
  codes: new Set<string>(errorsOf(operation).map(({ code }) => code)),
}))

/**
 * Asks the Worker, and fails where its answer is none that the OpenAPI document has for the operation: what tests provoke,
 * nodes that fail, budgets that are used up, is more than any client could find.
 */
export async function ask(request: Request): Promise<Response> {
  const response = await exports.default.fetch(request)
  const method = request.method.toLowerCase()
  const path = new URL(request.url).pathname
  const answers = ANSWERS.find(
    (each) => each.operation.method === method && (each.path.test(path) || each.path.test(`/v1${path}`)),
  )
  if (!answers || response.status === answers.status) return response
  const { error } = await response.clone().json<ErrorBody>()
  if (answers.codes.has(error.code) || isNobodys(error.code)) return response
  throw new Error(
    `${told(answers.operation)} answers ${response.status} ${error.code}, which is not documented`,
  )
}

/** Nobody is left to read it. */
function isNobodys(code: string): boolean {
  return code === 'client_closed_request'
}

function told({ method, path }: Operation): string {
  return `${method.toUpperCase()} ${path}`
}
