import type { ChatRequest } from '@copal/shared/wire/chat.ts'
import { DEFAULT_MAX_TOKENS, type CompletionRequest } from '@copal/shared/wire/completions.ts'
import type { samplingFields } from '@copal/shared/wire/inference-fields.ts'
import type { TokenBias } from '../../contract/backend.ts'
import type { GenerateRequest } from '../../engine/generation-request.ts'

type SamplingFields = Pick<ChatRequest & CompletionRequest, keyof typeof samplingFields>

/**
 * Returns the sampling options of a request. The defaults are temperature 1 and top_p 1, as at OpenAI, and neither
 * penalties nor other cuts. A request without a seed gets a random one.
 */
export function samplingOf(
  request: SamplingFields,
  topLogprobs: number,
): Pick<GenerateRequest, 'sampling' | 'stops'> {
  const { stop } = request
  return {
    stops: stop == null ? [] : typeof stop === 'string' ? [stop] : stop,
    sampling: {
      temperature: request.temperature ?? 1,
      // Only the most probable token is within a share of 0.
      ...(request.top_p === 0
        ? { topP: 1, topK: 1 }
        : { topP: request.top_p ?? 1, topK: Math.max(0, request.top_k ?? 0) }),
      minP: request.min_p ?? 0,
      presencePenalty: request.presence_penalty ?? 0,
      frequencyPenalty: request.frequency_penalty ?? 0,
      repetitionPenalty: request.repetition_penalty ?? 1,
      seed: request.seed == null ? randomSeed() : foldSeed(request.seed),
      topLogprobs,
      ...(request.logit_bias ? { logitBias: biasesOf(request.logit_bias) } : {}),
    },
  }
}

/** Returns `max_completion_tokens`, or `max_tokens`, its older name; null for as many as fit. */
export function chatMaxTokens(request: ChatRequest): number | null {
  return request.max_completion_tokens ?? request.max_tokens ?? null
}

/** Returns `max_tokens`, or its default. */
export function completionMaxTokens(request: CompletionRequest): number {
  return request.max_tokens ?? DEFAULT_MAX_TOKENS
}

/** Returns the number of alternatives that a chat requests; -1 for no log-probabilities. */
export function chatTopLogprobs({ logprobs, top_logprobs: top }: ChatRequest): number {
  return logprobs ? (top ?? 0) : -1
}

function biasesOf(biases: Record<string, number>): TokenBias[] {
  return Object.entries(biases).map(([token, bias]) => ({ token: Number(token), bias }))
}

/** Folds a safe integer into 32 bits, including its high bits. */
function foldSeed(seed: number): number {
  return (seed ^ Math.floor(seed / 2 ** 32)) >>> 0
}

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0
}
