import { z } from 'zod'
import type { FinishReason } from './chat.ts'
import { samplingFields, type Usage } from './generation.ts'

/** Tokens of a completion that names no `max_tokens`, as in the OpenAI API. */
export const DEFAULT_MAX_TOKENS = 16

/** Body of `POST /v1/completions`. The prompt is one text or one list of token ids. */
export const completionRequest = z.object({
  ...samplingFields,
  prompt: z.union(
    [z.string().min(1), z.array(z.int().min(0)).min(1)],
    'one text or one list of token ids is expected',
  ),
  logprobs: z.int().min(0).max(5).nullish(),
  echo: z.literal(false, "'echo' is not supported").nullish(),
  suffix: z.null("'suffix' is not supported").optional(),
  best_of: z.literal(1, "only 'best_of': 1 is supported").nullish(),
})
export type CompletionRequest = z.output<typeof completionRequest>

/** The legacy `choices[].logprobs`. */
export interface CompletionLogprobs {
  tokens: string[]
  token_logprobs: number[]
  top_logprobs: Record<string, number>[]
  text_offset: number[]
}

/** Both the whole answer and, with an unfinished choice, one stream chunk. */
export interface Completion {
  id: string
  object: 'text_completion'
  created: number
  model: string
  system_fingerprint: string
  choices: {
    index: number
    text: string
    logprobs: CompletionLogprobs | null
    finish_reason: FinishReason | null
  }[]
  usage?: Usage | null
}
