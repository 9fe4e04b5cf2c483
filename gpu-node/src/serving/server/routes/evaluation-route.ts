import { Hono } from 'hono'
import { AppError, errorBody, toAppError } from '@copal/shared/errors.ts'
import { evaluateCall, MAX_EVALUATE_BYTES, type EvaluateEvent } from '@copal/shared/wire/node-calls.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import { reasonOf } from '../../../platform/log.ts'
import type { NodeServerDeps } from '../generation/node-server-deps.ts'
import type { ReadCall } from './route-deps.ts'

/** Largest body of a call: that of an operator, and the fields that the gateway adds. */
const MAX_BODY_BYTES = MAX_EVALUATE_BYTES + 64 * 1024

/** Creates the route of `POST /rpc/evaluate`: newline-delimited events. A failure after the first event is the last one. */
export function evaluate(deps: Pick<NodeServerDeps, 'model' | 'evaluateText' | 'log'>, read: ReadCall): Hono {
  return new Hono().post('/', async (c) => {
    const call = validate(evaluateCall, await read(c.req.raw, MAX_BODY_BYTES))
    if (call.model !== deps.model.id) {
      throw new AppError(
        'model_not_found',
        `The model '${call.model}' is not on this node, which serves '${deps.model.id}'.`,
        {
          param: 'model',
        },
      )
    }
    const abort = new AbortController()
    const signal = AbortSignal.any([abort.signal, c.req.raw.signal])
    const iterator = deps.evaluateText(call, signal)[Symbol.asyncIterator]()
    // A failure before the first event becomes an error response with a status of its own.
    const first = await iterator.next()
    const body = eventLines(first, iterator, {
      onCancel: () => abort.abort(),
      onError: (thrown) => {
        if (!signal.aborted) deps.log.error('an evaluation broke off', { reason: reasonOf(thrown) })
      },
    })
    return new Response(body, { headers: { 'content-type': 'application/x-ndjson' } })
  })
}

function eventLines(
  first: IteratorResult<EvaluateEvent>,
  iterator: AsyncIterator<EvaluateEvent>,
  { onCancel, onError }: { onCancel: () => void; onError: (thrown: unknown) => void },
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder()
  const line = (event: EvaluateEvent) => encoder.encode(`${JSON.stringify(event)}\n`)
  let ready: IteratorResult<EvaluateEvent> | undefined = first
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const result = ready ?? (await iterator.next())
        ready = undefined
        if (result.done) controller.close()
        else controller.enqueue(line(result.value))
      } catch (thrown) {
        onError(thrown)
        controller.enqueue(line({ type: 'error', ...errorBody(toAppError(thrown)) }))
        controller.close()
      }
    },
    cancel: onCancel,
  })
}
