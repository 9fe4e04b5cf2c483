import { z } from 'zod'
import type { FinishReason } from './chat.ts'
import { checkStreamOptions, LIMITS, refused, samplingFields, type Usage } from './generation.ts'
import { textsField, textsOf } from './texts.ts'

/** Tokens of a completion that names no `max_tokens`, as in the OpenAI API. */
export const DEFAULT_MAX_TOKENS = 16

/** Body of `POST /v1/completions`. The prompt is one text or one list of token ids, or a list of either. */
export const completionRequest = z
  .object({
    ...samplingFields,
    prompt: textsField(LIMITS.choices),
    logprobs: z.int().min(0).max(5).nullish(),
    user: z.string().max(512).nullish(),
    echo: z.literal(false, 'a prompt is not repeated in its answer; send false, or leave it out').nullish(),
    suffix: refused('text cannot be inserted before a suffix'),
    best_of: z.int().nullish(),
  })
  .superRefine((request, context) => {
    checkStreamOptions(request, context)
    const { best_of: bestOf, n } = request
    if (bestOf != null && bestOf !== (n ?? 1)) {
      const message = `no choices are made beyond those that are answered; send the same as 'n', ${n ?? 1}, or leave it out`
      context.addIssue({ code: 'custom', path: ['best_of'], message })
    }
    const prompts = promptsOf(request).length
    if (prompts * (n ?? 1) <= LIMITS.choices) return
    const message = `a request has at most ${LIMITS.choices} choices, and ${prompts} prompts would have ${prompts * (n ?? 1)}`
    context.addIssue({ code: 'custom', path: ['n'], message })
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

/** The prompts of a request: texts, or lists of token ids. */
export function promptsOf({ prompt }: Pick<CompletionRequest, 'prompt'>): string[] | number[][] {
  return textsOf(prompt)
}
