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

/** Default of `max_tokens`, as in the OpenAI API. */
export const DEFAULT_MAX_TOKENS = 16

/** Body of `POST /v1/completions`. The prompt is a text, a list of token ids, or a list of either. */
export const completionRequest = z
  .object({
    ...samplingFields,
    prompt: textInput(LIMITS.choices),
    logprobs: z.int().min(0).max(5).nullish(),
    user: z.string().max(512).nullish(),
    echo: z
      .literal(false, 'the prompt cannot be repeated in the output; send false or leave it out')
      .nullish(),
    suffix: unsupported('text cannot be inserted before a suffix'),
    best_of: z.int().nullish(),
  })
  .superRefine((request, context) => {
    checkStreamOptions(request, context)
    const { best_of: bestOf, n } = request
    if (bestOf != null && bestOf !== (n ?? 1)) {
      const message = `all generated choices are returned; send the value of 'n', ${n ?? 1}, or leave it out`
      context.addIssue({ code: 'custom', path: ['best_of'], message })
    }
    const prompts = promptsOf(request).length
    if (prompts * (n ?? 1) <= LIMITS.choices) return
    const message = `expected at most ${LIMITS.choices} choices in a request; ${prompts} prompts would have ${prompts * (n ?? 1)}`
    context.addIssue({ code: 'custom', path: ['n'], message })
  })
/** A parsed request body of `POST /v1/completions`. */
export type CompletionRequest = z.output<typeof completionRequest>

const completionLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number()),
  top_logprobs: z.array(z.record(z.string(), z.number())),
  text_offset: z.array(z.int()),
})
/** The legacy form of `choices[].logprobs`. */
export type CompletionLogprobs = z.output<typeof completionLogprobs>

const finishReason = z.enum(['stop', 'length'])
const choice = { index: z.int(), text: z.string(), logprobs: completionLogprobs.nullable() }

/** Response of `POST /v1/completions`. */
export const completion = z.object({
  ...responseFields,
  object: z.literal('text_completion'),
  choices: z.array(z.object({ ...choice, finish_reason: finishReason })),
  usage,
})
/** A response of `POST /v1/completions`. */
export type Completion = z.output<typeof completion>

/** One chunk of a streamed response of `POST /v1/completions`. */
export const completionChunk = z.object({
  ...responseFields,
  object: z.literal('text_completion'),
  choices: z.array(z.object({ ...choice, finish_reason: finishReason.nullable() })),
  usage: chunkUsage,
})
/** One chunk of a streamed completion. */
export type CompletionChunk = z.output<typeof completionChunk>

/** Returns the prompts of a request: texts, or lists of token ids. */
export function promptsOf({ prompt }: Pick<CompletionRequest, 'prompt'>): string[] | number[][] {
  return asTextList(prompt)
}
