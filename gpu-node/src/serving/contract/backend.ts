import type { KvPrecision, Precision } from '../../../native/addon.d.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'

/** Tokens of one page: keys and values are stored, shared and evicted by the page. */
export const PAGE_TOKENS = 16

/** Formats in which the sparse engine stores weights. */
export const PRECISIONS = ['bf16', 'int8', 'int4'] as const satisfies readonly Precision[]

/** Formats in which the sparse engine stores keys and values. */
export const KV_PRECISIONS = ['f16', 'int8'] as const satisfies readonly KvPrecision[]

/** Most threads that share a step of the sparse engine, also on a larger machine. */
export const MAX_THREADS = 256

/** The source of a weight set: the dense master and a mask, or no mask for the dense model. */
export interface WeightSetSource {
  model: DenseModel
  /** Version of the mask; 0 with `maskPath` null is dense. */
  version: number
  /** A verified mask file. */
  maskPath: string | null
  /** `background` sets yield the processor to serving: evaluation uses them. */
  priority: 'serving' | 'background'
  /**
   * When it is aborted, a load ends before its next piece of work and fails. A background set, and one of a process of its
   * own, ends at once, also while it runs a step, which fails then.
   */
  signal?: AbortSignal | undefined
  /** Returns the bytes that all weight sets may take together; no limit by default. */
  budgetBytes?: (() => number) | undefined
}

/**
 * (model, mask) ready to run. Immutable; owned by the backend that loaded it. A set that fails at run time, because its
 * process died, rejects the steps in flight and all later ones with AppError `node_failed`; its owner loads it again.
 */
export interface WeightSet {
  readonly version: number
  readonly source: WeightSetSource
  /**
   * Whether keys and values lie in pages that the step planner allocates, numbered from 0 over all paged sets of a
   * backend, so that sequences of one set can share the pages of a common prefix. Steps of paged sets run in the order
   * in which they were requested. Otherwise each sequence has keys and values of its own.
   */
  readonly paged: boolean
  /** Whether work of this set may have drafts. */
  readonly takesDrafts?: boolean
  /** Memory that it takes, with what it shares with other sets; absent where the backend does not know. */
  readonly bytes?: number
  /** How its pruned weights are stored, and why, for people; absent where nothing is pruned or there is no choice. */
  readonly form?: { readonly name: 'packed' | 'dense' | 'both'; readonly why: string }
  /** The numerics of its weights, see `numericsOf`; absent where the backend does not know. */
  readonly numerics?: string | undefined
  /** Settles when the set can no longer run: with the cause, or with undefined after `release`. */
  readonly ended: Promise<Error | undefined>
}

/** How the next token of a sequence is sampled. Temperature 0 is greedy; ties go to the lower id. */
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
  /** Number of alternatives to report with each token; -1 for no log-probabilities at all. */
  topLogprobs: number
  /** Added to the logits before anything else, in any order. */
  logitBias?: readonly TokenBias[]
  /** Tokens of the sequence before the first generated one; penalties distinguish prompt and output by it. */
  promptTokens: number
}

/** A bias on the logit of one token of the vocabulary. */
export interface TokenBias {
  token: number
  bias: number
}

/** Tokens that may come next: token `i` is allowed if bit `i % 32` of word `i / 32` is 1. */
export type TokenMask = Uint32Array

/** Prompt tokens to score beside the output of their work. */
export interface PromptScoring {
  /** The token after each of the work's tokens; -1 skips a position. */
  targets: Int32Array
  /** Number of most probable tokens to report in place of each target. */
  alternatives: number
}

/** Log-probabilities of tokens in nats, and the tokens that were most probable in their place. */
export interface TokenScores {
  /** f32 `[tokens]`, of the unpenalised distribution at temperature 1. */
  logprobs: Float32Array
  /** Most probable first, ties to the lower id: i32 and f32 `[tokens, alternatives]`. */
  topTokens: Int32Array
  topLogprobs: Float32Array
}

/** The new tokens of one sequence in one step, and the output that is requested for them. */
export interface SequenceWork {
  /** Engine-wide id; its key/value state lives in the backend from its first work until it is dropped. */
  sequence: number
  /** Tokens at positions `position … position + tokens.length - 1`. A prefill chunk, or the last sampled token. */
  tokens: Int32Array
  position: number
  /** Set with the first chunk of a sequence that generates, also after a restart, when `tokens` start at 0 again. */
  sampler?: SamplerSpec
  /**
   * For paged sets: the pages of the sequence in order, {@link PAGE_TOKENS} positions each, enough for the new tokens.
   * Pages that the work writes belong to this sequence alone. A caller that shares nothing omits them in all of its work;
   * the backend then allocates pages itself.
   */
  pages?: readonly number[]
  /** Set with the first chunk of a sequence whose first pages are cached: the tokens before `position`. */
  cached?: Int32Array
  /**
   * `none`: only extend the key/value state. `token`: also sample after the last token.
   * `nll`: score `targets[i]` given everything up to `tokens[i]`; -1 skips a position.
   * `hidden_sum`: add up the last hidden states of `tokens`, after the final norm, and score `targets` if there are any.
   */
  output: 'none' | 'token' | 'nll' | 'hidden_sum'
  targets?: Int32Array
  /**
   * With `token`: how many of the last `tokens` are drafts, that is, may follow the tokens before them. It is sampled after
   * the token before the drafts and, as long as a draft is what was sampled, after the draft. The keys and values of
   * other drafts are void: the next work of the sequence begins after the last draft that was sampled.
   */
  drafts?: number
  /** With `none` and `token`: also scores tokens of the prompt. */
  promptScores?: PromptScoring
  /**
   * With `token`: the tokens that may be sampled. Awaited once the logits are ready, so that it is computed while the
   * step runs. Never rejects; null allows every token.
   */
  allowed?: Promise<TokenMask | null>
  /** With `allowed` and drafts: the tokens that may be sampled after each draft; after one that has none nothing is. */
  allowedAfterDrafts?: Promise<readonly TokenMask[]>
}

/** One step of one weight set: prefill chunks and decode tokens together. */
export interface StepPlan {
  weights: WeightSet
  work: readonly SequenceWork[]
  /** Sequences whose key/value state is freed before the work runs. */
  drop: readonly number[]
}

/** A token and its log-probability in nats. */
export interface TokenAlternative {
  token: number
  logprob: number
}

/**
 * A token as it was sampled. `logprob` is the natural logarithm of its probability, unpenalised, at temperature 1; without
 * log-probabilities it is NaN, and `top` is empty.
 */
export interface SampledToken {
  token: number
  logprob: number
  /** The most probable tokens, most probable first, ties to the lower id. */
  top: TokenAlternative[]
}

/** The output of one sequence in one step. */
export type SequenceOutput =
  | { kind: 'none'; promptScores?: TokenScores }
  /** `more` was sampled after the token, each after a draft: all but the last of the tokens were drafts. */
  | (SampledToken & { kind: 'token'; more?: SampledToken[]; promptScores?: TokenScores })
  /** Negative log-likelihoods in nats, one a target that is not -1, in order. */
  | { kind: 'nll'; nll: Float32Array }
  /** f32 `[hidden]`, summed in f64 over the tokens of the work; `nll` as above, empty without targets. */
  | { kind: 'hidden_sum'; sum: Float32Array; nll: Float32Array }
  /**
   * In place of `none` and `token`: the logits or scores of this work are not finite numbers, or no token is allowed. The
   * other work of the step is not affected.
   */
  | { kind: 'failed'; message: string }

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
  /** Memory that a dense weight takes, to estimate a set before it is loaded; 4 bytes by default. */
  readonly bytesPerWeight?: number
  /** Describes the device on which sets run, for people; absent or undefined for the processor, or before a load. */
  device?(): string | undefined
  /** @throws AppError `mask_invalid`, `mask_base_mismatch`, `node_failed` */
  load(source: WeightSetSource): Promise<WeightSet>
  step(plan: StepPlan): Promise<StepResult>
  /** Frees everything the set holds. Steps in flight finish first. */
  release(weights: WeightSet): Promise<void>
}
