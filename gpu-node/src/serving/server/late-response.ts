import { errorBody, toAppError } from '@copal/shared/errors.ts'
import { finishReasonOf } from '../engine/request-errors.ts'
import { reasonOf, type Log } from '../../platform/log.ts'
import { within } from '../../platform/timeout.ts'

/** When an answer that is not there yet begins with a space, and between two; a stream with a comment. */
export const LATE_MS = 15_000

const ENCODER = new TextEncoder()
/** White space before a JSON value means nothing. */
const SPACE = ENCODER.encode(' ')

/** What becomes of an answer that is late. */
interface LateOptions {
  keepAliveMs: number
  /** The reader went away. */
  onCancel: () => void
  /** It failed when its status had gone. */
  onError: (thrown: unknown) => void
}

/** Logs what broke an answer that had begun, unless that was its client. */
export function brokeOff(log: Log, requestId: string): LateOptions['onError'] {
  return (thrown) => {
    if (finishReasonOf(toAppError(thrown)) !== 'error') return
    log.error('an answer broke off', { requestId, reason: reasonOf(thrown) })
  }
}

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
  options: LateOptions,
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
 */
function lateAnswer(
  answer: Promise<object>,
  { keepAliveMs, onCancel, onError }: LateOptions,
): ReadableStream<Uint8Array> {
  const ended = answer.catch((thrown: unknown) => {
    onError(thrown)
    return errorBody(toAppError(thrown))
  })
  return new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(SPACE),
    async pull(controller) {
      const value = await within(ended, keepAliveMs)
      controller.enqueue(value === undefined ? SPACE : ENCODER.encode(JSON.stringify(value)))
      if (value !== undefined) controller.close()
    },
    cancel: onCancel,
  })
}
