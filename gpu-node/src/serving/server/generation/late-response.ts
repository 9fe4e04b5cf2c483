import { errorBody, toAppError } from '@copal/shared/errors.ts'
import { finishReasonOf, ShuttingDownError } from '../../engine/request-errors.ts'
import { reasonOf, type Log } from '../../../platform/log.ts'
import { jsonInTurns } from './json-in-turns.ts'
import { withTimeout } from '../../../platform/timeout.ts'

/** Time after which a pending response counts as late, and between its keep-alives: spaces, or comments in a stream. */
export const LATE_AFTER_MS = 15_000

const ENCODER = new TextEncoder()
/** Keep-alive of a JSON response: white space before a JSON value has no meaning. */
const SPACE = ENCODER.encode(' ')

/** Options of a response that may be late. */
interface LateResponseOptions {
  keepAliveMs: number
  /** Called when the client disconnected. */
  onCancel: () => void
  /** Called with a failure after the status was sent. */
  onError: (thrown: unknown) => void
}

/** Returns an error handler that logs why a response broke off after it began, unless its client or a planned stop caused it. */
export function logBrokenResponse(log: Log, requestId: string): LateResponseOptions['onError'] {
  return (thrown) => {
    if (thrown instanceof ShuttingDownError || finishReasonOf(toAppError(thrown)) !== 'error') return
    log.error('a response broke off', { requestId, reason: reasonOf(thrown) })
  }
}

/** A response that is not streamed, and the version of the mask that generated it. */
export interface CompleteResponse {
  maskVersion: number
  body: object
}

/**
 * Responds with JSON once it is complete, or, when that takes long, sends spaces before it. A late response names no mask
 * in its headers, because the request may still restart on another one.
 */
export async function respondWhenReady(
  pending: Promise<CompleteResponse>,
  headersOf: (maskVersion: number | undefined) => Record<string, string>,
  options: LateResponseOptions,
): Promise<Response> {
  const complete = await withTimeout(pending, options.keepAliveMs)
  if (complete) {
    const headers = { 'content-type': 'application/json', ...headersOf(complete.maskVersion) }
    return new Response(await jsonInTurns(complete.body), { headers })
  }
  const body = pending.then((late) => jsonInTurns(late.body))
  return new Response(lateBody(body, options), {
    headers: { 'content-type': 'application/json', ...headersOf(undefined) },
  })
}

/**
 * Streams a JSON body that takes long: a space every `keepAliveMs`, so that no proxy closes the silent connection, then
 * the body, or an error body, because the status was already sent. Only the gateway receives it: it waits for the end and
 * derives the status from it.
 */
function lateBody(
  body: Promise<string>,
  { keepAliveMs, onCancel, onError }: LateResponseOptions,
): ReadableStream<Uint8Array> {
  const ended = body.catch((thrown: unknown) => {
    onError(thrown)
    return JSON.stringify(errorBody(toAppError(thrown)))
  })
  return new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(SPACE),
    async pull(controller) {
      const value = await withTimeout(ended, keepAliveMs)
      controller.enqueue(value === undefined ? SPACE : ENCODER.encode(value))
      if (value !== undefined) controller.close()
    },
    cancel: onCancel,
  })
}
