import { z } from 'zod'
import {
  bystanderFields,
  checkStreamOptions,
  LIMITS,
  refused,
  samplingFields,
  type Usage,
} from './generation.ts'

const textPart = z.object({ type: z.literal('text', 'only text parts are supported'), text: z.string() })

const message = z.object({
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: z.union([z.string(), z.array(textPart).min(1)]),
  name: z.string().max(64).optional(),
})

/** What only other kinds of models can do. */
const fieldsOfOtherModels = {
  audio: refused('this model gives text only'),
  modalities: z.array(z.literal('text', "this model gives 'text' only")).min(1).max(2).nullish(),
  reasoning_effort: z.literal('none', "this model does not reason; send 'none', or leave it out").nullish(),
  verbosity: z.literal('medium', "this model has one; send 'medium', or leave it out").nullish(),
  prediction: refused('predicted outputs are not supported'),
  moderation: refused('moderation is not supported'),
  web_search_options: refused('this service does not search the web'),
  prompt_cache_options: refused('prompts are cached by the node as it sees fit'),
  prompt_cache_retention: z
    .literal('in_memory', "prompts are cached in memory only; send 'in_memory'")
    .nullish(),
  functions: refused("functions are not supported, they were replaced by 'tools'"),
  function_call: refused("functions are not supported, they were replaced by 'tools'"),
}

/** Body of `POST /v1/chat/completions`. */
export const chatRequest = z
  .object({
    ...samplingFields,
    ...bystanderFields,
    ...fieldsOfOtherModels,
    messages: z.array(message).min(1, 'at least one message is needed').max(LIMITS.messages),
    max_completion_tokens: z.int().min(1).max(LIMITS.maxTokens).nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.int().min(0).max(LIMITS.topLogprobs).nullish(),
  })
  .superRefine((request, context) => {
    checkStreamOptions(request, context)
    if (request.top_logprobs == null || request.logprobs) return
    context.addIssue({ code: 'custom', path: ['top_logprobs'], message: "it needs 'logprobs': true" })
  })
export type ChatRequest = z.output<typeof chatRequest>
export type ChatMessage = z.output<typeof message>

export type FinishReason = 'stop' | 'length'

/** One token of `choices[].logprobs.content`; `bytes` are the token's UTF-8 bytes. */
export interface ChatTokenLogprob {
  token: string
  logprob: number
  bytes: number[]
  top_logprobs: Omit<ChatTokenLogprob, 'top_logprobs'>[]
}

export interface ChatCompletion {
  id: string
  object: 'chat.completion'
  created: number
  model: string
  system_fingerprint: string
  /** Only where the request names one. */
  service_tier?: 'default'
  choices: {
    index: number
    message: { role: 'assistant'; content: string; refusal: null }
    logprobs: { content: ChatTokenLogprob[]; refusal: null } | null
    finish_reason: FinishReason
  }[]
  usage: Usage
}

export interface ChatCompletionChunk {
  id: string
  object: 'chat.completion.chunk'
  created: number
  model: string
  system_fingerprint: string
  service_tier?: 'default'
  choices: {
    index: number
    delta: { role?: 'assistant'; content?: string }
    logprobs: { content: ChatTokenLogprob[]; refusal: null } | null
    finish_reason: FinishReason | null
  }[]
  usage?: Usage | null
}

/** The text of one message's content, parts joined. */
export function contentText(content: ChatMessage['content']): string {
  return typeof content === 'string' ? content : content.map((part) => part.text).join('')
}
