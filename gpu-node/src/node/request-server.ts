import { AppError, errorBody } from '@copal/shared/errors.ts'
import { monotonicMs } from '../platform/clock.ts'
import type { Listener } from '../platform/listener.ts'
import { withTimeout } from '../platform/timeout.ts'
import { createCachedResponseSender } from '../serving/control/cached-response-sender.ts'
import type { MaskEvaluator } from '../serving/control/mask-evaluator.ts'
import type { ReceiptOutbox } from '../serving/control/receipt-outbox.ts'
import { createTextEvaluator } from '../serving/control/text-evaluation.ts'
import { createNodeServer, type NodeServer } from '../serving/server/node-server.ts'
import type { NodeFoundation } from './foundation.ts'
import type { ServedWeights } from './served-weights.ts'

/** Time for error events and the ends of responses after the grace period. */
const MIN_SEND_MS = 500
/** How often a draining server looks whether it is idle. */
const IDLE_POLL_MS = 20

/** Parts of {@link createRequestServer}. */
export interface RequestServerDeps extends NodeFoundation {
  listener: Listener
  weights: ServedWeights
  receipts: Pick<ReceiptOutbox, 'add'>
  evaluator: MaskEvaluator
  /** Called when the server begins to drain. */
  onDraining: () => void
}

/** Serves the requests of the gateway on the node's port, until it is drained. */
export interface RequestServer extends Pick<NodeServer, 'progress' | 'shadows' | 'settled'> {
  /** Whether new requests are rejected, because the node stops. */
  isDraining(): boolean
  start(): void
  /**
   * Rejects new requests, lets running ones continue for at most `graceMs`, ends the rest, and closes the port once the clients
   * have their responses.
   */
  drain(graceMs: number): Promise<void>
  /** Rejects new requests and ends the running ones, at once. */
  halt(): void
}

/** Creates the server; the port answers that the node is starting until `start`. */
export function createRequestServer({
  listener,
  weights,
  receipts,
  evaluator,
  onDraining,
  ...foundation
}: RequestServerDeps): RequestServer {
  const { settings, gateway, telemetry, log } = foundation
  const { engine, swap } = weights
  const server = createNodeServer({
    ...foundation,
    nodeId: settings.nodeId,
    secrets: [settings.secret, ...settings.otherSecrets],
    engine,
    weights: (version) => swap.weights(version) ?? null,
    countUse: (domain) => swap.countUse(domain),
    evaluateText: createTextEvaluator({ evaluator, maskOf: (version) => swap.maskOf(version) }),
    onReceipt(receipt) {
      if (receipt.scoring) telemetry.metrics.scored(receipt.scoring)
      receipts.add(receipt)
    },
    onCacheableResponse: createCachedResponseSender({ gateway, log }),
    requestTimeoutMs: settings.requestTimeoutMs,
    scoreTimeoutMs: settings.scoreTimeoutMs,
  })
  let draining = false

  /** Settles when no request is prepared, waits or runs. */
  async function idle(): Promise<void> {
    while (server.isBusy()) await new Promise((resolve) => setTimeout(resolve, IDLE_POLL_MS))
  }

  function rejectNew(): void {
    draining = true
    onDraining()
  }

  function endRunning(): void {
    server.prepareClose()
    weights.endRequests()
  }

  return {
    progress: () => server.progress(),
    shadows: server.shadows,
    settled: () => server.settled(),
    isDraining: () => draining,
    start() {
      listener.serve((request) => (draining && isWork(request) ? stoppingResponse() : server.fetch(request)))
    },
    async drain(graceMs) {
      const endMs = monotonicMs() + graceMs
      rejectNew()
      await withTimeout(idle(), graceMs)
      endRunning()
      // Clients that read slowly get the rest of their responses.
      await listener.close(Math.max(MIN_SEND_MS, endMs - monotonicMs()))
    },
    halt() {
      rejectNew()
      endRunning()
    },
  }
}

/** Returns whether a request is work; health and metrics are served until the end. */
function isWork(request: Request): boolean {
  return new URL(request.url).pathname.startsWith('/rpc/')
}

function stoppingResponse(): Response {
  const error = new AppError('no_node_available', 'This node is stopping. Send the request to another one.', {
    retryAfterS: 1,
  })
  return Response.json(errorBody(error), { status: error.status, headers: { 'retry-after': '1' } })
}
