import { validate, parseJson } from '@copal/shared/wire/validate.ts'
import { decodeBody, readBody } from '../../runtime/body-reader.ts'

/** Enough for every admin call that carries no texts. */
const SMALL_BODY_BYTES = 64 * 1024

/**
 * The JSON body of an admin call; no body reads as `{}`.
 *
 * @throws AppError `body_too_large`, `invalid_request`
 */
export async function readAdmin<T extends Parameters<typeof validate>[0]>(
  c: { req: { raw: Request } },
  schema: T,
  maxBytes = SMALL_BODY_BYTES,
): Promise<ReturnType<typeof validate<T>>> {
  const text = decodeBody(await readBody(c.req.raw, maxBytes))
  return validate(schema, text.trim() === '' ? {} : parseJson(text))
}
