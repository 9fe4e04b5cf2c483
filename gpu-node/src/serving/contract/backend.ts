import type { Precision } from '../../../native/addon.d.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'

/** Tokens of a page: keys and values are kept, shared and given away by the page. */
export const PAGE_TOKENS = 16

/** What the sparse engine keeps weights in. */
export const PRECISIONS = ['bf16', 'int8', 'int4'] as const satisfies readonly Precision[]

/** Threads that share a step of the sparse engine: of a larger machine it leaves the rest alone. */
export const MAX_THREADS = 256

/** What a weight set is made from: the dense master, and a mask unless it is the dense model. */
export interface WeightSetSource {
  model: DenseModel
  /** Version of the mask; 0 with `maskPath` null is dense. */
  version: number
  /** A verified mask file. */
  maskPath: string | null
  /** `background` sets yield the processor to serving: evaluation uses them. */
  priority: 'serving' | 'background'
}

/**
 * (model, mask) ready to run. Immutable; owned by the backend that loaded it.
 * A set that fails at run time (its process died) rejects the steps in flight and every later one
 * with AppError `node_failed`; whoever loaded it loads it again.
 */
export interface WeightSet {
  readonly version: number
  readonly source: WeightSetSource
  /**
   * Keys and values lie in pages that whoever plans the steps gives out, from 0 up over all such sets of a
   * backend, so that sequences of one set can share those of a common prefix. Steps of these sets run in the
   * order in which they were asked for. Without it each sequence has keys and values of its own.
   */
  readonly paged: boolean
  /** Settles when the set can no longer run: with the cause, or with undefined after `release`. */
  readonly ended: Promise<Error | undefined>
}

/** How the next token of a sequence is chosen. Temperature 0 is greedy; ties go to the lower id. */
export interface SamplerSpec {
  temperature: number
  topP: number
  topK: number
  minP: number
  presencePenalty: number
  frequencyPenalty: number
  repetitionPenalty: number
  /** 32-bit; the n-th draw of a sequence depends on the seed and n alone. */
  seed: number
  /** How many alternatives to report with each token; -1: no log-probabilities at all. */
  topLogprobs: number
  /** Added to the logits before anything else, in any order; none when left out. */
  logitBias?: readonly TokenBias[]
  /** Tokens of the sequence before the first generated one: penalties tell prompt from output by it. */
  promptTokens: number
}

/** What is added to the logit of a token of the vocabulary. */
export interface TokenBias {
  token: number
  bias: number
}

/** Which tokens may come next: token `i` may if bit `i % 32` of word `i / 32` is 1. */
export type TokenMask = Uint32Array

/** The new tokens of one sequence in one step, and what is wanted of them. */
export interface SequenceWork {
  /** Engine-wide id; its key/value state lives in the backend from its first work until it is dropped. */
  sequence: number
  /** Tokens at positions `position … position + tokens.length - 1`. A prefill chunk, or the last sampled token. */
  tokens: Int32Array
  position: number
  /** With the first chunk of a sequence that generates: also after a restart, when `tokens` again start at 0. */
  sampler?: SamplerSpec
  /**
   * For paged sets: the pages of the sequence in its order, {@link PAGE_TOKENS} positions each, enough for the new
   * tokens; pages that the work writes are this sequence's alone. A caller that shares nothing leaves it out in all
   * of its works: the backend then has pages for them.
   */
  pages?: readonly number[]
  /** With the first chunk of a sequence whose first pages were computed by others: the tokens before `position`. */
  cached?: Int32Array
  /**
   * `none`: only extend the key/value state. `token`: also sample after the last token.
   * `nll`: score `targets[i]` given everything up to `tokens[i]`; -1 skips a position.
   * `hidden_sum`: add up the last hidden states of `tokens`, after the final norm.
   */
  output: 'none' | 'token' | 'nll' | 'hidden_sum'
  targets?: Int32Array
  /**
   * With `token`: what may be sampled. Awaited when the logits are there, so that it is computed while the step
   * runs. Never rejects; null forbids nothing.
   */
  allowed?: Promise<TokenMask | null>
}

/** One step of one weight set: prefill chunks and decode tokens together. */
export interface StepPlan {
  weights: WeightSet
  work: readonly SequenceWork[]
  /** Sequences whose key/value state is freed before the work runs. */
  drop: readonly number[]
}

export interface TokenAlternative {
  token: number
  logprob: number
}

export type SequenceOutput =
  | { kind: 'none' }
  /** `logprob` is of the unpenalised distribution at temperature 1; 0 alternatives unless asked for. */
  | { kind: 'token'; token: number; logprob: number; top: TokenAlternative[] }
  /** Negative log-likelihoods in nats, one a target that is not -1, in order. */
  | { kind: 'nll'; nll: Float32Array }
  /** f32 `[hidden]`, over the tokens of the work; added up in f64. */
  | { kind: 'hidden_sum'; sum: Float32Array }

/** One output for each work of the plan, in its order. */
export interface StepResult {
  outputs: SequenceOutput[]
}

/**
 * Runs weight sets. No call blocks the event loop for more than a few milliseconds.
 * Steps of one weight set run one at a time; the caller awaits each before it sends the next.
 */
export interface Backend {
  readonly name: string
  /** @throws AppError `mask_invalid`, `mask_base_mismatch`, `node_failed` */
  load(source: WeightSetSource): Promise<WeightSet>
  step(plan: StepPlan): Promise<StepResult>
  /** Frees everything the set holds. Steps in flight finish first. */
  release(weights: WeightSet): Promise<void>
}
