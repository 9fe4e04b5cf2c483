import type { EvaluateCall, EvaluateEvent } from '@copal/shared/wire/node-calls.ts'
import type { CachedResponse, Receipt } from '@copal/shared/wire/receipts.ts'
import type { WeightSet } from '../../contract/backend.ts'
import type { Engine } from '../../engine/engine-api.ts'
import type { GrammarCompiler } from '../../grammar/grammar-compiler.ts'
import type { Log } from '../../../platform/log.ts'
import type { DenseModel } from '../../../model/master/dense-model.ts'
import type { NodeTelemetry } from '../../telemetry/node-telemetry.ts'

/** Parts of the HTTP server of a node. */
export interface NodeServerDeps {
  nodeId: string
  /** The node's own secrets, which the gateway knows. Any of them may sign a call. */
  secrets: readonly string[]
  model: Pick<DenseModel, 'id' | 'config' | 'codec' | 'tokenizer'>
  engine: Engine
  /** Returns the weight set of a version if new requests can start on it; 0 is dense, the reference of drift. */
  weights: (version: number) => WeightSet | null
  /** Counts a request of a domain that may have weights of its own. */
  countUse?: (domain: string) => void
  /** Compiles grammars; by default for the model's vocabulary. */
  grammars?: GrammarCompiler
  /** Evaluates the perplexity of a text. Events are sent as they arrive; an error becomes the last event. */
  evaluateText: (call: EvaluateCall, signal: AbortSignal) => AsyncIterable<EvaluateEvent>
  /** Receives one receipt for each generation that ended, whatever its outcome. */
  onReceipt: (receipt: Receipt) => void
  /** Receives a complete streamed response that the gateway caches. */
  onCacheableResponse?: (response: CachedResponse) => void
  telemetry: NodeTelemetry
  log: Log
  /** Time limit of a request, counted from its tokenisation; none when unset. */
  requestTimeoutMs?: number
  /** Time from the end of a request to that of its scoring; after it the receipt is sent without drift. */
  scoreTimeoutMs?: number
  /** Time limit of a call that describes texts. */
  describeTimeoutMs?: number
  /** Time without output after which a keep-alive is sent, so that proxies do not close the connection. */
  keepAliveMs?: number
}
