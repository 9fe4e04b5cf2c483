import { validate, parseJson } from '@copal/shared/wire/validate.ts'
import { decodeBody, readBody } from '../../runtime/body-reader.ts'

/** Enough for every admin request that carries no texts. */
const DEFAULT_MAX_BODY_BYTES = 64 * 1024

/**
 * Reads and validates the JSON body of an admin request; a missing body is read as `{}`.
 *
 * @throws AppError `body_too_large`, `invalid_request`
 */
export async function readAdminBody<T extends Parameters<typeof validate>[0]>(
  c: { req: { raw: Request } },
  schema: T,
  maxBytes = DEFAULT_MAX_BODY_BYTES,
): Promise<ReturnType<typeof validate<T>>> {
  const text = decodeBody(await readBody(c.req.raw, maxBytes))
  return validate(schema, text.trim() === '' ? {} : parseJson(text))
}
