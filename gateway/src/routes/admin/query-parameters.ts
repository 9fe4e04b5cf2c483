import type { HonoRequest } from 'hono'
import { AppError } from '@copal/shared/errors.ts'

/**
 * Rejects query parameters that the route does not understand: a mistyped filter of a deletion would delete more than intended.
 *
 * @throws AppError `invalid_request` that names a query parameter which is unknown, empty or repeated
 */
export function requireQueryParameters(
  { req }: { req: Pick<HonoRequest, 'queries' | 'method'> },
  known: readonly string[],
): void {
  const nothing = req.method === 'DELETE' ? 'Nothing was deleted: the' : 'The'
  for (const [name, values] of Object.entries(req.queries())) {
    if (!known.includes(name)) {
      const expected =
        known.length > 0
          ? `The known query parameters are: ${known.join(', ')}.`
          : 'This path has no query parameters.'
      throw new AppError('invalid_request', `${nothing} query parameter '${name}' is unknown. ${expected}`, {
        param: name,
      })
    }
    if (values.length === 1 && values[0] !== '') continue
    throw new AppError(
      'invalid_request',
      `${nothing} query parameter '${name}' must be given once and must not be empty.`,
      { param: name },
    )
  }
}
