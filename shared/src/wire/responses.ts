import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import type { ChatMessage, ChatRequest } from './chat.ts'
import { ignoredFields, LIMITS, modelField, unsupported } from './inference-fields.ts'
import type { ResponseFormat } from './response-format.ts'
import {
  responseInput,
  responseTextFormat,
  responseToolChoice,
  responseTools,
  type ResponseTextFormat,
} from './response-input.ts'

/**
 * Parts that a client asks for beside the output. All but log-probabilities belong to items that no response has, so they
 * are accepted: LiteLLM and agents always ask for reasoning.
 */
const includedParts = boundedArray(
  z.enum(
    [
      'reasoning.encrypted_content',
      'file_search_call.results',
      'web_search_call.results',
      'web_search_call.action.sources',
      'message.input_image.image_url',
      'computer_call_output.output.image_url',
      'code_interpreter_call.outputs',
    ],
    "only 'chat/completions' returns log-probabilities, and other parts do not exist; leave it out",
  ),
).describe('Accepted without effect: no response has these parts.')

/** Fields of features that a stateless text service does not have. */
const unsupportedFields = {
  previous_response_id: unsupported('responses are not stored; send the conversation as input items'),
  conversation: unsupported('conversations are not stored; send the conversation as input items'),
  background: z
    .literal(false, 'background responses are not supported, because responses are not stored')
    .nullish(),
  prompt: unsupported('prompts are not stored'),
  include: includedParts.nullish(),
  top_logprobs: z.literal(0, "only 'chat/completions' returns log-probabilities").nullish(),
  truncation: z.literal('disabled', "input that is too long is an error; send 'disabled'").nullish(),
  context_management: unsupported('the conversation is used as it is sent'),
  moderation: unsupported('moderation is not supported'),
  image: unsupported('this model outputs text only'),
  access_programs: unsupported('access programs are not supported'),
  prompt_cache_options: unsupported('the node decides which prompts it caches'),
  prompt_cache_retention: z
    .literal('in_memory', "prompts are cached in memory only; send 'in_memory'")
    .nullish(),
  reasoning: z
    .object({
      effort: z.literal('none', "this model does not reason; send 'none'").nullish(),
      summary: unsupported('this model does not reason'),
      generate_summary: unsupported('this model does not reason'),
    })
    .nullish(),
} as const

/**
 * Body of `POST /v1/responses`: a conversation in, text or function calls out, nothing stored. `seed` extends the OpenAI
 * API.
 */
export const responsesRequest = z
  .object({
    model: modelField,
    input: responseInput,
    instructions: z.string().nullish(),
    max_output_tokens: z.int().min(1).max(LIMITS.maxTokens).nullish(),
    temperature: z.number().min(0).max(2).nullish(),
    top_p: z.number().min(0).max(1).nullish(),
    seed: z.int().nullish().describe('Extension of the OpenAI API.'),
    stream: z.boolean().nullish(),
    stream_options: z
      .object({
        include_obfuscation: z.literal(false, 'obfuscation is not supported; send false').nullish(),
      })
      .nullish(),
    text: z
      .object({
        format: responseTextFormat.nullish(),
        verbosity: z.literal('medium', "this model has one verbosity; send 'medium'").nullish(),
      })
      .nullish(),
    tools: responseTools.nullish(),
    tool_choice: responseToolChoice.nullish(),
    parallel_tool_calls: z.boolean().nullish(),
    max_tool_calls: z
      .int()
      .min(1)
      .nullish()
      .describe('Limits built-in tools, which do not exist here; no effect.'),
    ...ignoredFields,
    ...unsupportedFields,
  })
  .superRefine(({ tools, tool_choice: choice }, context) => {
    const named = typeof choice === 'object' ? choice?.name : undefined
    if (named !== undefined && !tools?.some(({ name }) => name === named))
      context.addIssue({
        code: 'custom',
        path: ['tool_choice', 'name'],
        message: `no tool is named '${named}'`,
      })
    if (choice === 'required' && !tools?.length)
      context.addIssue({ code: 'custom', path: ['tool_choice'], message: "requires 'tools'" })
  })
/** A parsed request body of `POST /v1/responses`. */
export type ResponsesRequest = z.output<typeof responsesRequest>

/** Converts a request to the fields of a chat request, so that chat templates, tools and formats apply to it. */
export function toChatRequest(
  request: ResponsesRequest,
): Pick<ChatRequest, 'messages' | 'response_format' | 'tools' | 'tool_choice' | 'parallel_tool_calls'> {
  const { tools, tool_choice: choice } = request
  return {
    messages: toMessages(request),
    response_format: toResponseFormat(request.text?.format),
    tools: tools?.map(({ type, name, description, parameters, strict }) => ({
      type,
      function: {
        name,
        ...(description == null ? {} : { description }),
        ...(parameters == null ? {} : { parameters }),
        ...(strict == null ? {} : { strict }),
      },
    })),
    tool_choice:
      typeof choice === 'object' && choice ? { type: 'function', function: { name: choice.name } } : choice,
    parallel_tool_calls: request.parallel_tool_calls,
  }
}

/** Converts the conversation to messages: instructions become the first system message, calls join the assistant message before them. */
function toMessages({ instructions, input }: ResponsesRequest): ChatMessage[] {
  const messages: ChatMessage[] = instructions ? [{ role: 'system', content: instructions }] : []
  if (typeof input === 'string') return [...messages, { role: 'user', content: input }]
  for (const item of input) {
    if (item.type === 'function_call_output') {
      messages.push({ role: 'tool', content: joinText(item.output), tool_call_id: item.call_id })
    } else if (item.type === 'function_call') {
      const { call_id: id, name, arguments: text } = item
      const call = { id, type: 'function' as const, function: { name, arguments: text } }
      const last = messages.at(-1)
      if (last?.role === 'assistant') last.tool_calls = [...(last.tool_calls ?? []), call]
      else messages.push({ role: 'assistant', content: null, tool_calls: [call] })
    } else messages.push({ role: item.role, content: joinText(item.content) })
  }
  return messages
}

function joinText(content: string | readonly { text: string }[]): string {
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('')
}

function toResponseFormat(format: ResponseTextFormat | null | undefined): ResponseFormat | undefined {
  if (format?.type !== 'json_schema') return format ?? undefined
  const { type, name, description, schema, strict } = format
  return { type, json_schema: { name, description, schema, strict } }
}
