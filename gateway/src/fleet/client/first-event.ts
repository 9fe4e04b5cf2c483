import { parseErrorBody, type AppError } from '@copal/shared/errors.ts'
import { MASK_COMMENT } from '@copal/shared/wire/node-calls.ts'

const EVENT_NAME = 'event: '
const DATA = 'data: '
const FINGERPRINT = '"system_fingerprint":"'

/**
 * Returns the error that a stream begins with, after comments, in the format of either API; undefined if the first event is
 * none or is not complete.
 */
export function firstError(beginning: string): AppError | undefined {
  const complete = beginning.split('\n\n').slice(0, -1)
  const [first = '', second] = complete.find((block) => !block.startsWith(':'))?.split('\n') ?? []
  if (first === `${EVENT_NAME}error` && second?.startsWith(DATA))
    return parseErrorBody({ error: JSON.parse(second.slice(DATA.length)) as unknown })
  return first.startsWith(`${DATA}{"error":`)
    ? parseErrorBody(JSON.parse(first.slice(DATA.length)))
    : undefined
}

/** Returns the mask version that a late stream names in a comment before its first event; undefined if there is none yet. */
export function maskOfComments(beginning: string): string | undefined {
  for (const line of beginning.split('\n')) {
    if (line.startsWith(MASK_COMMENT)) return versionOf(line.slice(MASK_COMMENT.length))
    if (line !== '' && !line.startsWith(':')) return undefined
  }
  return undefined
}

/** Returns the mask version that a JSON response names in its first `system_fingerprint`; nodes write that field early. */
export function maskOfFingerprint(beginning: string): string | undefined {
  const fingerprint = beginning.split(FINGERPRINT, 2)[1]?.split('"', 1)[0]
  return versionOf(fingerprint?.split('-m').at(-1))
}

function versionOf(text: string | undefined): string | undefined {
  return text !== undefined && text !== '' && Number.isSafeInteger(Number(text)) ? text : undefined
}
