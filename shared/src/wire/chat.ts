import { z } from 'zod'
import { LIMITS, samplingFields, type Usage } from './generation.ts'

const textPart = z.object({ type: z.literal('text', 'only text parts are supported'), text: z.string() })

const message = z.object({
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: z.union([z.string(), z.array(textPart).min(1)]),
  name: z.string().max(64).optional(),
})

/** Body of `POST /v1/chat/completions`. */
export const chatRequest = z.object({
  ...samplingFields,
  messages: z.array(message).min(1, 'at least one message is needed').max(LIMITS.messages),
  max_completion_tokens: z.int().min(1).max(LIMITS.maxTokens).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(LIMITS.topLogprobs).nullish(),
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
