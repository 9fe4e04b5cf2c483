import type { EvaluateCall, EvaluateEvent } from '@copal/shared/wire/node-calls.ts'
import type { CachedResponse, Receipt } from '@copal/shared/wire/receipts.ts'
import type { WeightSet } from '../contract/backend.ts'
import type { Engine } from '../engine/engine-api.ts'
import type { Grammars } from '../grammar/grammar-compiler.ts'
import type { Log } from '../../platform/log.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { NodeTelemetry } from '../telemetry/node-telemetry.ts'

/** What the HTTP server of a node is made of. */
export interface NodeServerDeps {
  nodeId: string
  /** Its own, which the gateway knows; any of them may have signed a call. */
  secrets: readonly string[]
  model: Pick<DenseModel, 'id' | 'config' | 'codec' | 'tokenizer'>
  engine: Engine
  /** The weight set of a version, if new requests can start on it; 0 is dense, against which drift is measured. */
  weights: (version: number) => WeightSet | null
  /** Compiles what answers are kept to; of this model's vocabulary unless given. */
  grammars?: Grammars
  /** Perplexity of a text. Events go out as they come; what it throws becomes the last event. */
  evaluateText: (call: EvaluateCall, signal: AbortSignal) => AsyncIterable<EvaluateEvent>
  /** Takes one receipt for each generation that ended, however it ended. */
  onReceipt: (receipt: Receipt) => void
  /** Takes a streamed answer that is whole and that the gateway keeps. */
  onCacheableResponse?: (answer: CachedResponse) => void
  telemetry: NodeTelemetry
  log: Log
  /** Milliseconds since the epoch: signatures and `created` go by it. */
  nowMs?: () => number
  /** How long a request may take from when it is tokenised; unset: as long as it needs. */
  requestTimeoutMs?: number
  /** How long scoring a sampled text may take before its receipt goes out without drift. */
  scoreTimeoutMs?: number
  /** A streamed answer that is silent for so long gets a comment, or proxies would close it. */
  keepAliveMs?: number
}
