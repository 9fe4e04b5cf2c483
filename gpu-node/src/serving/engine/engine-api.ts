import type { NodePrefixes } from '@copal/shared/wire/prefix.ts'
import type { Backend, WeightSet } from '../contract/backend.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'
import type { EmbeddingCall, EmbedRequest } from './embedding-request.ts'
import type { GenerateRequest, Generation, PartProgress } from './generation-request.ts'
import type { EngineObserver } from './engine-observer.ts'
import type { EnginePolicy } from './engine-policy.ts'
import type { ScoreLane } from './engine-request.ts'
import type { EngineState } from './engine-state.ts'

/** Parts that an engine is composed of. */
export interface EngineDeps {
  backend: Backend
  config: Pick<LlamaConfig, 'vocabSize' | 'contextLength' | 'hiddenSize' | 'eosTokenIds'>
  codec: Pick<TextCodec, 'tokenBytes' | 'isSpecial'>
  /** Bounds that differ from those of {@link createPolicy}. */
  policy?: Partial<EnginePolicy>
  /** Returns milliseconds by a clock that only moves forward; {@link monotonicMs} by default. */
  nowMs?: () => number
  observer?: EngineObserver
  /** Called with the state after each transition; tests check the invariants with it. */
  inspect?: (state: EngineState, policy: EnginePolicy) => void
}

/** Load as heartbeats report it. */
export interface EngineLoad {
  running: number
  waiting: number
  scoring: number
  kvTokensUsed: number
  kvTokensTotal: number
  /** Tokens that no request holds and that a prompt can still share. */
  kvTokensCached: number
}

/** Runs generations, embeddings and scorings on weight sets. */
export interface Engine {
  readonly policy: EnginePolicy
  readonly activeVersion: number | null
  /** The weight set that new requests start on; null before the first one and after it was lost. */
  readonly active: WeightSet | null
  /** Makes new and waiting requests start on `weights`. Running requests finish on their own weight set. */
  setActive(weights: WeightSet): void
  /**
   * Starts a request. A request that names its weights never restarts on others.
   *
   * @throws AppError `context_length_exceeded`, `invalid_request` (empty, or a token out of range), `overloaded`
   */
  generate(request: GenerateRequest): Generation
  /**
   * Returns the negative log-likelihoods in nats of tokens `first … n−1` given all before them, f32 `[n − first]`. Scoring
   * runs freely without requests, and in small pieces beside them, for a reserved share of the work. The lanes share it equally.
   *
   * @param request `first` is at least 1 and 1 by default; tokens before it are context
   *
   * @throws AppError `context_length_exceeded`, `invalid_request`, `overloaded`, `client_closed_request`, `node_failed`,
   * `invalid_output`
   */
  score(request: {
    weights: WeightSet
    tokens: readonly number[]
    lane: ScoreLane
    first?: number
    signal?: AbortSignal
  }): Promise<Float32Array>
  /**
   * Returns, of one pass over a text at the priority of {@link score}, the embedding that {@link embed} computes, f32
   * `[hidden]`, and the negative log-likelihoods that {@link score} returns, f32 `[n − 1]`, empty for one token.
   *
   * @throws AppError as {@link score} does
   */
  describe(request: {
    weights: WeightSet
    tokens: readonly number[]
    lane: ScoreLane
    signal?: AbortSignal
  }): Promise<{ embedding: Float32Array; nll: Float32Array }>
  /**
   * Embeds a text: the mean over its tokens of the last hidden state, after the final norm, f32 `[hidden]`, on the
   * weights that are active when its first step runs. It is queued, prefilled in chunks and preempted like the prompt of
   * a generation, and restarts on the active weights when its own are drained, so it never mixes two masks.
   *
   * @throws AppError `context_length_exceeded`, `invalid_request` (empty, or a token out of range), `overloaded`
   */
  embed(request: EmbedRequest): EmbeddingCall
  /** Fails the requests that have no weights to start on: the active set was lost, and for this cause cannot be replaced. */
  failWithoutWeights(cause: unknown): void
  /** Keeps drains of these weights from ending until the returned function is called; for calls of several requests. */
  hold(weights: WeightSet): () => void
  /** Returns the number of requests and scorings bound to the version. */
  requestsOn(version: number): number
  /**
   * Resolves when nothing runs on the version or holds it. At the deadline (milliseconds from now) requests whose client
   * has seen no output restart on the active set, and scorings fail. Requests whose output already names the version are
   * waited for, since a response never mixes two masks; their own deadlines end them.
   *
   * @throws AppError `conflict` when the version is active or becomes active again
   */
  drain(version: number, deadlineMs: number): Promise<void>
  load(): EngineLoad
  /** Returns the names of prompt prefixes that are cached now; null where the backend has no prefix cache. */
  cachedPrefixes(): NodePrefixes | null
  /** Returns the progress of every request that waits or runs. */
  progress(): PartProgress[]
  /** Fails every request with `node_failed` and accepts no more. */
  close(): void
}
