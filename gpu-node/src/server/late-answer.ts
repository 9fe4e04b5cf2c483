import { errorBody, toAppError } from '@copal/shared/errors.ts'
import { within } from '../within.ts'

/** When an answer that is not there yet begins with a space, and between two; a stream with a comment. */
export const LATE_MS = 15_000

const ENCODER = new TextEncoder()
/** White space before a JSON value means nothing. */
const SPACE = ENCODER.encode(' ')

/** An answer that is not streamed, and the mask that made it. */
export interface WholeAnswer {
  maskVersion: number
  answer: object
}

/**
 * Answers with JSON as soon as it is there, or, when that takes long, with spaces before it: then the mask is in no
 * header, since the request may still start over on another.
 */
export async function answerAtOnce(
  pending: Promise<WholeAnswer>,
  headersOf: (maskVersion: number | undefined) => Record<string, string>,
  options: { keepAliveMs: number; onCancel: () => void },
): Promise<Response> {
  const whole = await within(pending, options.keepAliveMs)
  if (whole) return Response.json(whole.answer, { headers: headersOf(whole.maskVersion) })
  const answer = pending.then((late) => late.answer)
  return new Response(lateAnswer(answer, options), {
    headers: { 'content-type': 'application/json', ...headersOf(undefined) },
  })
}

/**
 * A JSON answer that takes long: a space every `keepAliveMs`, so that no proxy on the way takes the silence for the
 * end, then the answer, or, since the status has gone, an error body. Only the gateway sees it: it waits for the end
 * and makes a status of it.
 *
 * @param onCancel the reader went away
 */
function lateAnswer(
  answer: Promise<object>,
  options: { keepAliveMs: number; onCancel: () => void },
): ReadableStream<Uint8Array> {
  const ended = answer.catch((thrown: unknown) => errorBody(toAppError(thrown)))
  return new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(SPACE),
    async pull(controller) {
      const value = await within(ended, options.keepAliveMs)
      controller.enqueue(value === undefined ? SPACE : ENCODER.encode(JSON.stringify(value)))
      if (value !== undefined) controller.close()
    },
    cancel: options.onCancel,
  })
}
