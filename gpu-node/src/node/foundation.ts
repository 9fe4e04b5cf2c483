import type { Log } from '../platform/log.ts'
import type { GatewayClient } from '../serving/control/gateway-client.ts'
import type { NodeTelemetry } from '../serving/telemetry/node-telemetry.ts'
import type { NodeSettings } from '../settings.ts'
import type { MemoryDivision } from './memory-division.ts'
import type { NodeFiles } from './node-home.ts'
import type { ServedModel } from './served-model.ts'

/** The things that a node opens first, because all of its parts use them. */
export interface NodeFoundation extends ServedModel {
  settings: NodeSettings
  gateway: GatewayClient
  files: NodeFiles
  memory: MemoryDivision
  telemetry: NodeTelemetry
  log: Log
}
