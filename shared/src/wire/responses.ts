import { z } from 'zod'
import type { ChatMessage } from './chat.ts'
import { bystanderFields, LIMITS, metadata, modelField, refused } from './generation.ts'

const inputText = z.object({
  type: z.enum(['input_text', 'output_text'], 'only text parts are supported'),
  text: z.string(),
})

const inputMessage = z.object({
  type: z.literal('message', 'only messages are supported').optional(),
  role: z.enum(['user', 'assistant', 'system', 'developer']),
  content: z.union([z.string(), z.array(inputText).min(1)], 'a text or a list of text parts is expected'),
})

/** Fields that ask for what a stateless service for text does not have. */
const refusedFields = {
  previous_response_id: refused('responses are not stored; send the conversation as input items'),
  conversation: refused('conversations are not stored; send the conversation as input items'),
  background: z.literal(false, 'responses are not stored, so none can run in the background').nullish(),
  prompt: refused('prompts are not stored'),
  include: z.array(z.never('there is nothing more to include')).nullish(),
  tools: z.array(z.never("tools are not supported here; 'chat/completions' is the place for them")).nullish(),
  tool_choice: z.enum(['auto', 'none'], 'there are no tools to choose from').nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  max_tool_calls: z.int().min(1).nullish(),
  top_logprobs: z.literal(0, "log-probabilities are given by 'chat/completions' only").nullish(),
  truncation: z.literal('disabled', "input that is too long is refused; send 'disabled'").nullish(),
  context_management: refused('the conversation is taken as it is'),
  moderation: refused('moderation is not supported'),
  image: refused('this model gives text only'),
  access_programs: refused('there are none'),
  prompt_cache_options: refused('prompts are cached by the node as it sees fit'),
  prompt_cache_retention: z
    .literal('in_memory', "prompts are cached in memory only; send 'in_memory'")
    .nullish(),
  reasoning: z
    .object({
      effort: z.literal('none', "this model does not reason; send 'none'").nullish(),
      summary: refused('this model does not reason'),
      generate_summary: refused('this model does not reason'),
    })
    .nullish(),
  text: z
    .object({
      format: z
        .object({ type: z.literal('text', "only 'text' is supported here; 'chat/completions' has formats") })
        .nullish(),
      verbosity: z.literal('medium', "this model has one; send 'medium'").nullish(),
    })
    .nullish(),
} as const

/** Body of `POST /v1/responses`: text in, text out, nothing stored. `seed` extends the OpenAI API. */
export const responsesRequest = z.object({
  model: modelField,
  input: z.union(
    [z.string().min(1), z.array(inputMessage).min(1).max(LIMITS.messages)],
    'one text, not empty, or a list of messages is expected',
  ),
  instructions: z.string().nullish(),
  max_output_tokens: z.int().min(1).max(LIMITS.maxTokens).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  seed: z.int().nullish().describe('Extends the OpenAI API.'),
  stream: z.boolean().nullish(),
  stream_options: z
    .object({
      include_obfuscation: z.literal(false, 'obfuscation is not supported; send false').nullish(),
    })
    .nullish(),
  ...bystanderFields,
  ...refusedFields,
})
export type ResponsesRequest = z.output<typeof responsesRequest>

const outputText = z.object({
  type: z.literal('output_text'),
  text: z.string(),
  annotations: z.array(z.never()),
  logprobs: z.array(z.never()),
})

const outputMessage = z.object({
  id: z.string(),
  type: z.literal('message'),
  role: z.literal('assistant'),
  status: z.enum(['in_progress', 'completed', 'incomplete']),
  content: z.array(outputText),
})
export type OutputMessage = z.output<typeof outputMessage>

/** `usage` of a response. */
const responseUsage = z.object({
  input_tokens: z.int(),
  input_tokens_details: z.object({ cached_tokens: z.int() }),
  output_tokens: z.int(),
  output_tokens_details: z.object({ reasoning_tokens: z.int() }),
  total_tokens: z.int(),
})

/** Answer of `POST /v1/responses`; what was not asked for has the value that it has by default. */
export const responseObject = z.object({
  id: z.string(),
  object: z.literal('response'),
  created_at: z.int(),
  status: z.enum(['in_progress', 'completed', 'incomplete']),
  background: z.literal(false),
  error: z.null(),
  incomplete_details: z.object({ reason: z.literal('max_output_tokens') }).nullable(),
  instructions: z.string().nullable(),
  max_output_tokens: z.int().nullable(),
  metadata,
  model: z.string(),
  output: z.array(outputMessage),
  parallel_tool_calls: z.boolean(),
  previous_response_id: z.null(),
  reasoning: z.object({ effort: z.null(), summary: z.null() }),
  service_tier: z.literal('default'),
  store: z.literal(false),
  system_fingerprint: z.string(),
  temperature: z.number(),
  text: z.object({ format: z.object({ type: z.literal('text') }), verbosity: z.literal('medium') }),
  tool_choice: z.enum(['auto', 'none']),
  tools: z.array(z.never()),
  top_logprobs: z.literal(0),
  top_p: z.number(),
  truncation: z.literal('disabled'),
  usage: responseUsage.nullable(),
  user: z.string().nullable(),
})
export type ResponseObject = z.output<typeof responseObject>

/** One event of a streamed response; the name of the server-sent event is its `type`. */
export type ResponseEvent = { sequence_number: number } & (
  | {
      type: 'response.created' | 'response.in_progress' | 'response.completed' | 'response.incomplete'
      response: ResponseObject
    }
  | {
      type: 'response.output_item.added' | 'response.output_item.done'
      output_index: number
      item: OutputMessage
    }
  | ({
      type: 'response.content_part.added' | 'response.content_part.done'
      part: OutputMessage['content'][number]
    } & PartPlace)
  | ({ type: 'response.output_text.delta'; delta: string; logprobs: never[] } & PartPlace)
  | ({ type: 'response.output_text.done'; text: string; logprobs: never[] } & PartPlace)
  | { type: 'error'; code: string; message: string; param: string | null }
)

interface PartPlace {
  item_id: string
  output_index: number
  content_index: number
}

/** The conversation of a request as chat messages: its instructions come first, as the system's. */
export function messagesOf({
  instructions,
  input,
}: ResponsesRequest): Pick<ChatMessage, 'role' | 'content'>[] {
  const items = typeof input === 'string' ? [{ role: 'user' as const, content: input }] : input
  const messages = items.map(({ role, content }) => ({
    role,
    content: typeof content === 'string' ? content : content.map(({ text }) => text).join(''),
  }))
  return instructions ? [{ role: 'system' as const, content: instructions }, ...messages] : messages
}
