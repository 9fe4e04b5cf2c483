import { createGatewayClient, type GatewayClient } from '../serving/control/gateway-client.ts'
import { createHeartbeatLoop, type HeartbeatLoop } from '../serving/control/heartbeat-loop.ts'
import { openReceiptOutbox, type ReceiptOutbox } from '../serving/control/receipt-outbox.ts'
import type { NodeSettings } from '../settings.ts'
import type { NodeFoundation } from './foundation.ts'
import type { ServedWeights } from './served-weights.ts'

/** Creates the client of a node's gateway. */
export function createNodeGateway(
  settings: Pick<NodeSettings, 'gatewayUrl' | 'nodeId' | 'secret' | 'gatewayHeaders'>,
): GatewayClient {
  const { gatewayUrl: baseUrl, nodeId, secret, gatewayHeaders: headers } = settings
  return createGatewayClient({ baseUrl, nodeId, secret, headers })
}

/** Creates the heartbeats of a node. They are counted in its metrics. */
export function createNodeHeartbeats({ gateway, settings, telemetry, log }: NodeFoundation): HeartbeatLoop {
  return createHeartbeatLoop({
    gateway,
    log,
    intervalMs: settings.heartbeatMs,
    onSent: (outcome) => telemetry.metrics.heartbeat(outcome),
  })
}

/**
 * Opens the outbox of a node's receipts. Once receipts of half of the requests that run at once wait, they are sent at once.
 *
 * @throws AppError as `openReceiptOutbox` does
 */
export function openReceipts(
  { gateway, settings: { home, nodeId }, log }: NodeFoundation,
  { engine }: ServedWeights,
): Promise<ReceiptOutbox> {
  const urgentFrom = Math.max(1, Math.floor(engine.policy.maxRunning / 2))
  return openReceiptOutbox({ home, nodeId, gateway, log, urgentFrom })
}
