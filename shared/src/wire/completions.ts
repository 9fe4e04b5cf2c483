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
    max_tokens: z
      .int()
      .min(0)
      .max(LIMITS.maxTokens)
      .nullish()
      .describe('Default 16. 0 generates nothing and needs `echo`.'),
    logprobs: z.int().min(0).max(5).nullish(),
    user: z.string().max(512).nullish(),
    echo: z
      .boolean()
      .nullish()
      .describe(
        'Returns the prompt before the output, with the log-probabilities of its tokens if `logprobs` is given.',
      ),
    suffix: unsupported('text cannot be inserted before a suffix'),
    best_of: z.int().nullish(),
  })
  .superRefine((request, context) => {
    checkStreamOptions(request, context)
    const { best_of: bestOf, n } = request
    checkEcho(request, context)
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

/** Adds issues for fields that do not go with `echo`. */
function checkEcho(
  { echo, logprobs, max_tokens: maxTokens, n }: EchoFields,
  context: z.core.$RefinementCtx,
): void {
  if (maxTokens === 0 && !echo) {
    const message = "expected at least 1; 0 needs 'echo': true, because then only the prompt is returned"
    context.addIssue({ code: 'custom', path: ['max_tokens'], message })
  }
  if (echo && (n ?? 1) > 1 && (logprobs != null || maxTokens === 0)) {
    const what = maxTokens === 0 ? "'max_tokens': 0" : "'logprobs'"
    const message = `expected 1 with 'echo' and ${what}, because every choice would repeat the same; send 1, or leave it out`
    context.addIssue({ code: 'custom', path: ['n'], message })
  }
}

interface EchoFields {
  echo?: boolean | null | undefined
  logprobs?: number | null | undefined
  max_tokens?: number | null | undefined
  n?: number | null | undefined
}

const FIRST = 'With `echo`, null for the first token of the prompt, which nothing precedes.'
const completionLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()).describe(FIRST),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()).describe(FIRST),
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
