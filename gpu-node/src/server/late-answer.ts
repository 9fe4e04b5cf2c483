import { errorBody, toAppError } from '@copal/shared/errors.ts'
import { within } from '../within.ts'

const ENCODER = new TextEncoder()
/** White space before a JSON value means nothing. */
const SPACE = ENCODER.encode(' ')

/**
 * A JSON answer that takes long: a space every `keepAliveMs`, so that no proxy on the way takes the silence for the
 * end, then the answer, or, since the status has gone, an error body. Only the gateway sees it: it waits for the end
 * and makes a status of it.
 *
 * @param onCancel the reader went away
 */
export function lateAnswer(
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
