import { parse, parseJson } from '@copal/shared/wire/parse.ts'
import { decodeBody, readBody } from '../../middleware/body.ts'

/** Enough for every admin call that carries no texts. */
const SMALL_BODY_BYTES = 64 * 1024

/**
 * The JSON body of an admin call; no body reads as `{}`.
 *
 * @throws AppError `body_too_large`, `invalid_request`
 */
export async function readAdmin<T extends Parameters<typeof parse>[0]>(
  c: { req: { raw: Request } },
  schema: T,
  maxBytes = SMALL_BODY_BYTES,
): Promise<ReturnType<typeof parse<T>>> {
  const text = decodeBody(await readBody(c.req.raw, maxBytes))
  return parse(schema, text.trim() === '' ? {} : parseJson(text))
}
