import { errorBody, type AppError } from '@copal/shared/errors.ts'
import { responseErrorEvent } from '@copal/shared/wire/response-object.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { askFleet } from '../../fleet/client/ask-fleet.ts'
import { brokenOff, NodeCallError } from '../../fleet/client/node-client.ts'
import { relay, type RelayEnd } from '../../fleet/client/relay.ts'
import type { KeyWatch } from '../../keys/key-watch.ts'
import type { Dispatched } from '../dispatch/call-attempt.ts'

/** How a stream ended. */
export interface StreamEnd {
  end: RelayEnd
  outcome: 'whole' | 'failed' | 'left'
  error: Error | undefined
}

/** What {@link streamResponse} streams, and who hears of its end. */
export interface Streaming {
  /** Path of the node's API, which decides the form of an error event. */
  path: string
  dispatched: Dispatched
  watch: KeyWatch
  /** Is called once, when the stream has ended. */
  readonly finished: (end: StreamEnd) => void
}

/**
 * Streams a node's answer to the client. When the node breaks off, an error event ends the stream and the fleet is told.
 *
 * @returns the body, and a promise that settles when all that follows the end of the stream is done
 */
export function streamResponse(
  deps: Pick<Deps, 'fleet'>,
  { path, dispatched, watch, finished }: Streaming,
): { readable: ReadableStream<Uint8Array>; settled: Promise<void> } {
  const { node, leaseId, answer, lease, ended: attempt } = dispatched
  const whyBroken = (cause: unknown) =>
    attempt.reason instanceof NodeCallError ? attempt.reason : brokenOff(node, cause)
  const { readable, ended } = relay(answer, (cause) =>
    lastEvent(path, watch.refusal() ?? whyBroken(cause).error),
  )
  const settled = ended.then(async (end) => {
    watch.stop()
    lease.stop()
    const broke = end === 'broken' && !watch.refusal()
    finished({
      end,
      outcome: end === 'complete' ? 'whole' : broke ? 'failed' : 'left',
      error: broke ? new Error(`node ${node.nodeId} broke off`) : watch.refusal(),
    })
    const isNodesFault = broke && whyBroken(undefined).how !== 'refused'
    // The lease stays until the node's receipt, or expires with what that told last.
    if (isNodesFault)
      await askFleet(deps, (fleet) => fleet.fail({ requestId: leaseId, nodeId: node.nodeId, how: 'cut' }))
  })
  return { readable, settled }
}

/** The last event of a stream that broke, in the form of its API; no `[DONE]` follows. */
function lastEvent(path: string, error: AppError): string {
  return path === '/rpc/responses'
    ? `\n\nevent: error\ndata: ${JSON.stringify(responseErrorEvent(error))}\n\n`
    : `\n\ndata: ${JSON.stringify(errorBody(error))}\n\n`
}
