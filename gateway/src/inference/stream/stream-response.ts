import { errorBody, type AppError } from '@copal/shared/errors.ts'
import { responseErrorEvent } from '@copal/shared/wire/response-object.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { askFleet } from '../../fleet/client/ask-fleet.ts'
import { connectionLost, NodeCallError } from '../../fleet/client/node-client.ts'
import { relay, type RelayEnd } from '../../fleet/client/relay.ts'
import type { KeyWatch } from '../../keys/key-watch.ts'
import type { Dispatched } from '../dispatch/call-attempt.ts'

/** How a stream ended. */
export interface StreamEnd {
  end: RelayEnd
  outcome: 'whole' | 'failed' | 'left'
  error: Error | undefined
}

/** Options of {@link streamResponse}. */
export interface StreamOptions {
  /** Path of the node's API, which decides the form of an error event. */
  path: string
  dispatched: Dispatched
  watch: KeyWatch
  /** Called once, when the stream has ended. */
  readonly finished: (end: StreamEnd) => void
}

/**
 * Streams a node's response to the client. If the node breaks off, an error event ends the stream and the failure is
 * reported to the fleet.
 *
 * @returns the body, and a promise that settles when everything after the end of the stream is done
 */
export function streamResponse(
  deps: Pick<Deps, 'fleet'>,
  { path, dispatched, watch, finished }: StreamOptions,
): { readable: ReadableStream<Uint8Array>; settled: Promise<void> } {
  const { node, leaseId, response, lease, ended: attempt } = dispatched
  const whyBroken = (cause: unknown) =>
    attempt.reason instanceof NodeCallError ? attempt.reason : connectionLost(node, cause)
  const { readable, ended } = relay(response, (cause) =>
    errorEvent(path, watch.error() ?? whyBroken(cause).error),
  )
  const settled = ended.then(async (end) => {
    watch.stop()
    lease.stop()
    const broke = end === 'broken' && !watch.error()
    finished({
      end,
      outcome: end === 'complete' ? 'whole' : broke ? 'failed' : 'left',
      error: broke ? new Error(`node ${node.nodeId} broke off`) : watch.error(),
    })
    const isNodesFault = broke && whyBroken(undefined).how !== 'refused'
    // The lease stays until the node's receipt arrives, or expires with the usage that the node reported last.
    if (isNodesFault)
      await askFleet(deps, (fleet) => fleet.fail({ requestId: leaseId, nodeId: node.nodeId, how: 'cut' }))
  })
  return { readable, settled }
}

/** Formats the last event of a broken stream in the form of its API; no `[DONE]` follows. */
function errorEvent(path: string, error: AppError): string {
  return path === '/rpc/responses'
    ? `\n\nevent: error\ndata: ${JSON.stringify(responseErrorEvent(error))}\n\n`
    : `\n\ndata: ${JSON.stringify(errorBody(error))}\n\n`
}
