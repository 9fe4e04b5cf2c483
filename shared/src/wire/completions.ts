import { z } from 'zod'
import {
  responseFields,
  checkStreamOptions,
  chunkUsage,
  LIMITS,
  unsupported,
  samplingFields,
  usage,
} from './inference-fields.ts'
import { textInput, asTextList } from './text-list.ts'

/** Tokens of a completion that names no `max_tokens`, as in the OpenAI API. */
export const DEFAULT_MAX_TOKENS = 16

/** Body of `POST /v1/completions`. The prompt is one text or one list of token ids, or a list of either. */
export const completionRequest = z
  .object({
    ...samplingFields,
    prompt: textInput(LIMITS.choices),
    logprobs: z.int().min(0).max(5).nullish(),
    user: z.string().max(512).nullish(),
    echo: z.literal(false, 'a prompt is not repeated in its answer; send false, or leave it out').nullish(),
    suffix: unsupported('text cannot be inserted before a suffix'),
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

const completionLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number()),
  top_logprobs: z.array(z.record(z.string(), z.number())),
  text_offset: z.array(z.int()),
})
/** The legacy `choices[].logprobs`. */
export type CompletionLogprobs = z.output<typeof completionLogprobs>

const finishReason = z.enum(['stop', 'length'])
const choice = { index: z.int(), text: z.string(), logprobs: completionLogprobs.nullable() }

/** Answer of `POST /v1/completions`. */
export const completion = z.object({
  ...responseFields,
  object: z.literal('text_completion'),
  choices: z.array(z.object({ ...choice, finish_reason: finishReason })),
  usage,
})
export type Completion = z.output<typeof completion>

/** One piece of it, where it is streamed. */
export const completionChunk = z.object({
  ...responseFields,
  object: z.literal('text_completion'),
  choices: z.array(z.object({ ...choice, finish_reason: finishReason.nullable() })),
  usage: chunkUsage,
})
export type CompletionChunk = z.output<typeof completionChunk>

/** The prompts of a request: texts, or lists of token ids. */
export function promptsOf({ prompt }: Pick<CompletionRequest, 'prompt'>): string[] | number[][] {
  return asTextList(prompt)
}
