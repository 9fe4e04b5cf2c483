import { z } from 'zod'
import { arrayOf } from './bounded.ts'
import {
  bystanderFields,
  checkStreamOptions,
  LIMITS,
  refused,
  samplingFields,
  type Usage,
} from './generation.ts'
import { responseFormat } from './response-format.ts'
import { misfitOfTools, toolCall, toolChoice, tools, type ToolCall, type ToolCallDelta } from './tools.ts'

const textPart = z.object({ type: z.literal('text', 'only text parts are supported'), text: z.string() })

const textContent = z.union([z.string(), arrayOf(textPart).min(1)])
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
        tool_calls: arrayOf(toolCall).min(1).nullish(),
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
const structureFields = {
  response_format: responseFormat.nullish(),
  tools: tools.nullish(),
  tool_choice: toolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
}

/** What only other kinds of models can do. */
const fieldsOfOtherModels = {
  audio: refused('this model gives text only'),
  modalities: arrayOf(z.literal('text', "this model gives 'text' only")).min(1).max(2).nullish(),
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
    messages: arrayOf(chatMessage).min(1, 'at least one message is needed').max(LIMITS.messages),
    max_completion_tokens: z.int().min(1).max(LIMITS.maxTokens).nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.int().min(0).max(LIMITS.topLogprobs).nullish(),
    ...structureFields,
  })
  .superRefine((request, context) => {
    checkStreamOptions(request, context)
    const misfit = misfitOfTools(request)
    if (misfit) context.addIssue({ code: 'custom', ...misfit })
    if (request.top_logprobs == null || request.logprobs) return
    context.addIssue({ code: 'custom', path: ['top_logprobs'], message: "it needs 'logprobs': true" })
  })
export type ChatRequest = z.output<typeof chatRequest>
export type ChatMessage = z.output<typeof chatMessage>

export type FinishReason = 'stop' | 'length' | 'tool_calls'

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
    message: { role: 'assistant'; content: string | null; refusal: null; tool_calls?: ToolCall[] }
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
    delta: { role?: 'assistant'; content?: string | null; tool_calls?: ToolCallDelta[] }
    logprobs: { content: ChatTokenLogprob[]; refusal: null } | null
    finish_reason: FinishReason | null
  }[]
  usage?: Usage | null
}

/** The text of one message's content, parts joined. */
export function contentText(content: ChatMessage['content']): string {
  if (content == null) return ''
  return typeof content === 'string' ? content : content.map((part) => part.text).join('')
}
