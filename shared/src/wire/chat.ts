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
import { findToolMessageError } from './tool-messages.ts'
import { findToolChoiceError, toolCall, toolCallDelta, toolChoice, tools } from './tools.ts'

const ONLY_TEXT = 'only text parts are supported, because this model reads text only'
const textPart = z.object({ type: z.literal('text', ONLY_TEXT), text: z.string() })
const refusalPart = z.object({ type: z.literal('refusal'), refusal: z.string() })
const assistantPart = z.discriminatedUnion('type', [textPart, refusalPart], ONLY_TEXT)

const textContent = z.union([z.string(), boundedArray(textPart).min(1)])
const name = z.string().max(64).nullish()

const chatMessage = z.discriminatedUnion(
  'role',
  [
    z.object({ role: z.enum(['system', 'developer', 'user']), content: textContent, name }),
    // A message without text and calls is valid: clients send a response back as it came, and it may have been cut short.
    z.object({
      role: z.literal('assistant'),
      content: z.union([z.string(), boundedArray(assistantPart)]).nullish(),
      name,
      tool_calls: boundedArray(toolCall).nullish(),
    }),
    z.object({ role: z.literal('tool'), content: textContent, tool_call_id: z.string().min(1).max(256) }),
  ],
  'expected "system", "developer", "user", "assistant" or "tool"',
)

/** What the client expects as output. It only makes the output faster where the two agree. */
const prediction = z.object({ type: z.literal('content'), content: textContent })

/** Fields that constrain the form of the output. */
const outputFormatFields = {
  response_format: responseFormat.nullish(),
  tools: tools.nullish(),
  tool_choice: toolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
}

/** Fields of features that copal does not have. */
const unsupportedFields = {
  audio: unsupported('this model outputs text only'),
  modalities: boundedArray(z.literal('text', "this model outputs 'text' only")).min(1).max(2).nullish(),
  reasoning_effort: z.literal('none', "this model does not reason; send 'none' or leave it out").nullish(),
  verbosity: z.literal('medium', "this model has one verbosity; send 'medium' or leave it out").nullish(),
  moderation: unsupported('moderation is not supported'),
  web_search_options: unsupported('web search is not supported'),
  prompt_cache_options: unsupported('the node decides which prompts it caches'),
  prompt_cache_retention: z
    .literal('in_memory', "prompts are cached in memory only; send 'in_memory'")
    .nullish(),
  functions: unsupported("it was replaced by 'tools'"),
  function_call: unsupported("it was replaced by 'tool_choice'"),
}

/** Body of `POST /v1/chat/completions`. */
export const chatRequest = z
  .object({
    ...samplingFields,
    ...ignoredFields,
    ...unsupportedFields,
    messages: boundedArray(chatMessage)
      .min(1, 'expected at least one message')
      .max(LIMITS.messages)
      .superRefine((messages, context) => {
        const error = findToolMessageError(messages)
        if (error) context.addIssue({ code: 'custom', ...error })
      }),
    prediction: prediction.nullish(),
    max_completion_tokens: z.int().min(1).max(LIMITS.maxTokens).nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.int().min(0).max(LIMITS.topLogprobs).nullish(),
    ...outputFormatFields,
  })
  .superRefine((request, context) => {
    checkStreamOptions(request, context)
    const toolChoiceError = findToolChoiceError(request)
    if (toolChoiceError) context.addIssue({ code: 'custom', ...toolChoiceError })
    if (!request.top_logprobs || request.logprobs) return
    context.addIssue({ code: 'custom', path: ['top_logprobs'], message: "requires 'logprobs': true" })
  })
/** A parsed request body of `POST /v1/chat/completions`. */
export type ChatRequest = z.output<typeof chatRequest>
/** One message of a conversation. */
export type ChatMessage = z.output<typeof chatMessage>

const finishReason = z.enum(['stop', 'length', 'tool_calls'])
/** Why a generation ended. */
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
const serviceTier = z.literal('default').optional().describe('Present where the request has `service_tier`.')

/** Response of `POST /v1/chat/completions`. */
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
/** A response of `POST /v1/chat/completions`. */
export type ChatCompletion = z.output<typeof chatCompletion>

/** One chunk of a streamed response of `POST /v1/chat/completions`. */
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
/** One chunk of a streamed chat completion. */
export type ChatCompletionChunk = z.output<typeof chatCompletionChunk>

/** Returns the text of a message's content, with its parts joined. */
export function contentText(content: ChatMessage['content']): string {
  if (content == null) return ''
  if (typeof content === 'string') return content
  return content.map((part) => (part.type === 'text' ? part.text : part.refusal)).join('')
}
