import { toAppError } from '@copal/shared/errors.ts'
import type { AnswerFormat } from './output-format.ts'
import { within } from '../../platform/timeout.ts'

/** Content type of a stream of server-sent events. */
export const EVENT_STREAM = 'text/event-stream; charset=utf-8'

/** How a stream of events is kept and ended. */
export interface EventStreamOptions {
  format: Pick<AnswerFormat, 'namesEvents' | 'failure'>
  /** After so long without an event a comment is sent. */
  keepAliveMs: number
  /** It begins with a comment: its first event may be far. */
  isLate?: boolean
  /** The reader went away: nothing more is wanted. */
  onCancel: () => void
  /** What broke the stream, before its error event is sent. */
  onError: (thrown: unknown) => void
  /** All events of a stream that ended well, unless they are more than `mostBytes`. */
  whole?: { mostBytes: number; take: (events: string) => void } | undefined
}

const ENCODER = new TextEncoder()
const KEEP_ALIVE = ENCODER.encode(': keep-alive\n\n')
const DONE = 'data: [DONE]\n\n'

/**
 * Objects as server-sent events, then `[DONE]` where events have no names. When `objects` throws, the stream ends with
 * one event that holds the error and without `[DONE]`: a broken answer never looks like a whole one.
 */
export function eventStream(
  objects: AsyncIterable<object>,
  options: EventStreamOptions,
): ReadableStream<Uint8Array> {
  const { namesEvents, failure } = options.format
  const iterator = objects[Symbol.asyncIterator]()
  let next: Promise<IteratorResult<object>> | undefined
  const { whole } = options
  let events: string[] | undefined = whole && []
  let sizeBytes = 0

  const send = (controller: ReadableStreamDefaultController<Uint8Array>, event: string): void => {
    const bytes = ENCODER.encode(event)
    controller.enqueue(bytes)
    sizeBytes += bytes.length
    if (whole && sizeBytes <= whole.mostBytes) events?.push(event)
    else events = undefined
  }

  const step = async (controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
    next ??= iterator.next()
    const result = await within(next, options.keepAliveMs)
    if (!result) return controller.enqueue(KEEP_ALIVE)
    next = undefined
    if (!result.done) return send(controller, serialize(result.value, namesEvents))
    if (!namesEvents) send(controller, DONE)
    controller.close()
    if (events) whole?.take(events.join(''))
  }

  return new ReadableStream<Uint8Array>({
    start(controller) {
      if (options.isLate) controller.enqueue(KEEP_ALIVE)
    },
    async pull(controller) {
      try {
        await step(controller)
      } catch (thrown) {
        options.onError(thrown)
        try {
          controller.enqueue(ENCODER.encode(serialize(failure(toAppError(thrown)), namesEvents)))
          controller.close()
        } catch {
          // Cancelled while the error was on its way: nobody is left to be told.
        }
      }
    },
    cancel: options.onCancel,
  })
}

function serialize(value: object & { type?: string }, isNamed: boolean): string {
  const name = isNamed ? `event: ${value.type}\n` : ''
  return `${name}data: ${JSON.stringify(value)}\n\n`
}
