import { parseErrorBody, type AppError } from '@copal/shared/errors.ts'

/** An error as the first event of a stream, behind comments, in the form of either API. */
const ERROR_EVENT = /^(?::.*\n\n)*(?:event: error\ndata: (\{.*\})|data: (\{"error":.*\}))\n/

/** The error that a stream begins with; undefined of one that begins with anything else. */
export function firstError(beginning: string): AppError | undefined {
  const [, named, plain] = ERROR_EVENT.exec(beginning) ?? []
  if (named !== undefined) return parseErrorBody({ error: JSON.parse(named) as unknown })
  return plain === undefined ? undefined : parseErrorBody(JSON.parse(plain))
}

/** The mask that made an answer, by how it begins: nodes write it before what others wrote. */
export function maskOf(beginning: string): string | undefined {
  return /"system_fingerprint":"[^"]*-m(\d+)"/.exec(beginning)?.[1]
}
