import { toAppError } from '@copal/shared/errors.ts'
import { MASK_COMMENT } from '@copal/shared/wire/node-calls.ts'
import { LongObject } from '../formats/as-written.ts'
import type { OutputFormat } from '../formats/output-format.ts'
import { withTimeout } from '../../../platform/timeout.ts'
import { jsonInTurns } from './json-in-turns.ts'

/** The content type of a stream of server-sent events. */
export const EVENT_STREAM = 'text/event-stream; charset=utf-8'

/** Options of an event stream. */
export interface EventStreamOptions {
  format: Pick<OutputFormat, 'namesEvents' | 'error'>
  /** Time without an event after which a comment is sent. */
  keepAliveMs: number
  /**
   * Returns the mask version once the first event is there. Set for a late stream, which begins with a comment and names
   * its mask in another before that event.
   */
  lateMask?: (() => number) | undefined
  /** Called when the client disconnected. */
  onCancel: () => void
  /** Called with the failure of a stream, before its error event is sent. */
  onError: (thrown: unknown) => void
  /** Collects all events of a stream that ends without failure, unless they exceed `maxBytes`. */
  capture?: { maxBytes: number; onComplete: (events: string) => void } | undefined
}

const ENCODER = new TextEncoder()
const KEEP_ALIVE = ENCODER.encode(': keep-alive\n\n')
const DONE = 'data: [DONE]\n\n'

/**
 * Writes objects as server-sent events, followed by `[DONE]` in formats without event names. When `objects` throws, the
 * stream ends with an error event and without `[DONE]`, so that a broken response never looks complete.
 */
export function eventStream(
  objects: AsyncIterable<object>,
  options: EventStreamOptions,
): ReadableStream<Uint8Array> {
  const { namesEvents, error } = options.format
  const iterator = objects[Symbol.asyncIterator]()
  let next: Promise<IteratorResult<object>> | undefined
  const { capture } = options
  let { lateMask } = options
  let events: string[] | undefined = capture && []
  let sizeBytes = 0
  let isCancelled = false

  const send = (controller: ReadableStreamDefaultController<Uint8Array>, event: string): void => {
    const bytes = ENCODER.encode(event)
    controller.enqueue(bytes)
    sizeBytes += bytes.length
    if (capture && sizeBytes <= capture.maxBytes) events?.push(event)
    else events = undefined
  }

  const step = async (controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
    next ??= iterator.next()
    const result = await withTimeout(next, options.keepAliveMs)
    if (!result) return controller.enqueue(KEEP_ALIVE)
    next = undefined
    if (lateMask) controller.enqueue(ENCODER.encode(`${MASK_COMMENT}${lateMask()}\n\n`))
    lateMask = undefined
    if (!result.done) return send(controller, await written(result.value, namesEvents))
    if (!namesEvents) send(controller, DONE)
    controller.close()
    if (events) capture?.onComplete(events.join(''))
  }

  return new ReadableStream<Uint8Array>({
    start(controller) {
      if (lateMask) controller.enqueue(KEEP_ALIVE)
    },
    async pull(controller) {
      try {
        await step(controller)
      } catch (thrown) {
        // The client has left: what was being written has no reader, and its stream takes nothing.
        if (isCancelled) return
        options.onError(thrown)
        controller.enqueue(ENCODER.encode(serialize(error(toAppError(thrown)), namesEvents)))
        controller.close()
      }
    },
    cancel() {
      isCancelled = true
      options.onCancel()
      // Frees the events that were not read.
      iterator.return?.().catch(() => undefined)
    },
  })
}

/** Returns an object as an event, a long one written in turns. */
async function written(value: object, isNamed: boolean): Promise<string> {
  return value instanceof LongObject
    ? eventOf(value.value, await jsonInTurns(value.value), isNamed)
    : serialize(value, isNamed)
}

function serialize(value: object, isNamed: boolean): string {
  return eventOf(value, JSON.stringify(value), isNamed)
}

function eventOf({ type }: { type?: string }, json: string, isNamed: boolean): string {
  return `${isNamed ? `event: ${type}\n` : ''}data: ${json}\n\n`
}
