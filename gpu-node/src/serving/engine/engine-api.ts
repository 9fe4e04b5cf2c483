import type { NodePrefixes } from '@copal/shared/wire/prefix.ts'
import type { Backend, WeightSet } from '../contract/backend.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'
import type { TextCodec } from '../../model/tokenizer/text-codec.ts'
import type { EmbeddingCall, EmbedRequest } from './embedding-request.ts'
import type { GenerateRequest, Generation, PartProgress } from './generation-request.ts'
import type { EngineObserver } from './engine-observer.ts'
import type { EnginePolicy } from './engine-policy.ts'
import type { EngineState } from './engine-state.ts'

/** What an engine is made of. */
export interface EngineDeps {
  backend: Backend
  config: Pick<LlamaConfig, 'vocabSize' | 'contextLength' | 'hiddenSize' | 'eosTokenIds'>
  codec: Pick<TextCodec, 'tokenBytes' | 'isSpecial'>
  /** Bounds that differ from those of {@link createPolicy}. */
  policy?: Partial<EnginePolicy>
  /** Milliseconds since the epoch. */
  nowMs?: () => number
  observer?: EngineObserver
  /** Told the state after each transition: tests check the invariants with it. */
  inspect?: (state: EngineState, policy: EnginePolicy) => void
}

/** Load as heartbeats report it. */
export interface EngineLoad {
  running: number
  waiting: number
  scoring: number
  kvTokensUsed: number
  kvTokensTotal: number
  /** Of the tokens that nobody uses, those that a prompt can share; the rest is empty. */
  kvTokensCached: number
}

export interface Engine {
  readonly policy: EnginePolicy
  readonly activeVersion: number | null
  /** What new requests start on; null while there is nothing, at first or after it was lost. */
  readonly active: WeightSet | null
  /**
   * New requests start on `weights` from now on. Running ones finish on theirs; those that were
   * waiting start on it too.
   */
  setActive(weights: WeightSet): void
  /**
   * Starts a request. One that names its weights never starts over on others.
   *
   * @throws AppError `context_length_exceeded`, `invalid_request` (empty, or a token out of range), `overloaded`
   */
  generate(request: GenerateRequest): Generation
  /**
   * Negative log-likelihoods in nats of tokens 1 … n−1 given all before them, f32 `[n − 1]`, when
   * no request needs the processor for its prompt, and in small pieces beside running ones.
   *
   * @throws AppError `context_length_exceeded`, `invalid_request`, `overloaded`, `client_closed_request`, `node_failed`
   */
  score(request: {
    weights: WeightSet
    tokens: readonly number[]
    signal?: AbortSignal
  }): Promise<Float32Array>
  /**
   * Embeds a text: the mean over its tokens of the last hidden state, after the final norm, f32 `[hidden]`, on
   * the weights that are active when its first step runs. It waits, is fed in pieces and gives way like the prompt
   * of a generation, and starts over on the active weights when its own are drained, so it never mixes two masks.
   *
   * @throws AppError `context_length_exceeded`, `invalid_request` (empty, or a token out of range), `overloaded`
   */
  embed(request: EmbedRequest): EmbeddingCall
  /** For a call of several requests on these weights: no drain of them ends until the returned function is called. */
  hold(weights: WeightSet): () => void
  /** Requests and scorings bound to the version. */
  requestsOn(version: number): number
  /**
   * Resolves when nothing runs on the version or holds it. At the deadline (milliseconds from now) requests of
   * which the client has seen nothing start over on the active set and scorings are refused. The
   * others, whose answers already name the version, are waited for, since an answer never mixes two
   * masks: their own deadlines end them.
   *
   * @throws AppError `conflict` when the version is active or becomes active again
   */
  drain(version: number, deadlineMs: number): Promise<void>
  load(): EngineLoad
  /** Beginnings of prompts that are ready, by what callers call them; null where the backend has no such cache. */
  cachedPrefixes(): NodePrefixes | null
  /** Every request that waits or runs, and how far it is. */
  progress(): PartProgress[]
  /** Fails everything with `node_failed`; nothing is accepted any more. */
  close(): void
}
