import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import {
  responseFields,
  ignoredFields,
  checkStreamOptions,
  chunkUsage,
  LIMITS,
  unsupported,
  samplingFields,
  usage,
} from './inference-fields.ts'
import { responseFormat } from './response-format.ts'
import { findToolChoiceError, toolCall, toolCallDelta, toolChoice, tools } from './tools.ts'

const textPart = z.object({ type: z.literal('text', 'only text parts are supported'), text: z.string() })

const textContent = z.union([z.string(), boundedArray(textPart).min(1)])
const name = z.string().max(64).optional()

const chatMessage = z.discriminatedUnion(
  'role',
  [
    z.object({ role: z.enum(['system', 'developer', 'user']), content: textContent, name }),
    z
      .object({
        role: z.literal('assistant'),
        content: textContent.nullish(),
        name,
        tool_calls: boundedArray(toolCall).min(1).nullish(),
      })
      .refine(({ content, tool_calls: calls }) => content != null || calls, {
        path: ['content'],
        message: "text is expected, or 'tool_calls'",
      }),
    z.object({ role: z.literal('tool'), content: textContent, tool_call_id: z.string().min(1).max(256) }),
  ],
  'one of "system", "developer", "user", "assistant" and "tool" is expected',
)

/** What the answer is made to be. */
const outputFormatFields = {
  response_format: responseFormat.nullish(),
  tools: tools.nullish(),
  tool_choice: toolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
}

/** What only other kinds of models can do. */
const unsupportedFields = {
  audio: unsupported('this model gives text only'),
  modalities: boundedArray(z.literal('text', "this model gives 'text' only")).min(1).max(2).nullish(),
  reasoning_effort: z.literal('none', "this model does not reason; send 'none', or leave it out").nullish(),
  verbosity: z.literal('medium', "this model has one; send 'medium', or leave it out").nullish(),
  prediction: unsupported('predicted outputs are not supported'),
  moderation: unsupported('moderation is not supported'),
  web_search_options: unsupported('this service does not search the web'),
  prompt_cache_options: unsupported('prompts are cached by the node as it sees fit'),
  prompt_cache_retention: z
    .literal('in_memory', "prompts are cached in memory only; send 'in_memory'")
    .nullish(),
  functions: unsupported("functions are not supported, they were replaced by 'tools'"),
  function_call: unsupported("functions are not supported, they were replaced by 'tools'"),
}

/** Body of `POST /v1/chat/completions`. */
export const chatRequest = z
  .object({
    ...samplingFields,
    ...ignoredFields,
    ...unsupportedFields,
    messages: boundedArray(chatMessage).min(1, 'at least one message is needed').max(LIMITS.messages),
    max_completion_tokens: z.int().min(1).max(LIMITS.maxTokens).nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.int().min(0).max(LIMITS.topLogprobs).nullish(),
    ...outputFormatFields,
  })
  .superRefine((request, context) => {
    checkStreamOptions(request, context)
    const misfit = findToolChoiceError(request)
    if (misfit) context.addIssue({ code: 'custom', ...misfit })
    if (request.top_logprobs == null || request.logprobs) return
    context.addIssue({ code: 'custom', path: ['top_logprobs'], message: "it needs 'logprobs': true" })
  })
export type ChatRequest = z.output<typeof chatRequest>
export type ChatMessage = z.output<typeof chatMessage>

const finishReason = z.enum(['stop', 'length', 'tool_calls'])
export type FinishReason = z.output<typeof finishReason>

const tokenLogprob = z.object({
  token: z.string(),
  logprob: z.number(),
  bytes: z.array(z.int().min(0).max(255)).describe("The token's UTF-8 bytes."),
})
const chatTokenLogprob = tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob) })
/** One token of `choices[].logprobs.content`. */
export type ChatTokenLogprob = z.output<typeof chatTokenLogprob>

const chatLogprobs = z.object({ content: z.array(chatTokenLogprob), refusal: z.null() }).nullable()
const serviceTier = z.literal('default').optional().describe('Where the request names one.')

/** Answer of `POST /v1/chat/completions`. */
export const chatCompletion = z.object({
  ...responseFields,
  object: z.literal('chat.completion'),
  service_tier: serviceTier,
  choices: z.array(
    z.object({
      index: z.int(),
      message: z.object({
        role: z.literal('assistant'),
        content: z.string().nullable(),
        refusal: z.null(),
        tool_calls: z.array(toolCall).optional(),
      }),
      logprobs: chatLogprobs,
      finish_reason: finishReason,
    }),
  ),
  usage,
})
export type ChatCompletion = z.output<typeof chatCompletion>

/** One piece of it, where it is streamed. */
export const chatCompletionChunk = z.object({
  ...responseFields,
  object: z.literal('chat.completion.chunk'),
  service_tier: serviceTier,
  choices: z.array(
    z.object({
      index: z.int(),
      delta: z.object({
        role: z.literal('assistant').optional(),
        content: z.string().nullish(),
        tool_calls: z.array(toolCallDelta).optional(),
      }),
      logprobs: chatLogprobs,
      finish_reason: finishReason.nullable(),
    }),
  ),
  usage: chunkUsage,
})
export type ChatCompletionChunk = z.output<typeof chatCompletionChunk>

/** The text of one message's content, parts joined. */
export function contentText(content: ChatMessage['content']): string {
  if (content == null) return ''
  return typeof content === 'string' ? content : content.map((part) => part.text).join('')
}
