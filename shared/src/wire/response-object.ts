/** What the Responses API answers: the object, its items, and the events of a stream. */
import { z } from 'zod'
import { errorBody, type AppError, type ErrorBody } from '../errors.ts'
import { metadata } from './generation.ts'
import { responseTextFormat, responseTool, responseToolChoice } from './response-input.ts'

const itemStatus = z.enum(['in_progress', 'completed', 'incomplete'])

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
  status: itemStatus,
  content: z.array(outputText),
})
export type OutputMessage = z.output<typeof outputMessage>

const outputCall = z.object({
  id: z.string(),
  type: z.literal('function_call'),
  status: itemStatus,
  call_id: z.string().describe('What the output of the function refers to.'),
  name: z.string(),
  arguments: z.string().describe('JSON, as text.'),
})
export type OutputCall = z.output<typeof outputCall>

/** One item of `output`. */
export type OutputItem = OutputMessage | OutputCall

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
  status: itemStatus,
  background: z.literal(false),
  error: z.null(),
  incomplete_details: z.object({ reason: z.literal('max_output_tokens') }).nullable(),
  instructions: z.string().nullable(),
  max_output_tokens: z.int().nullable(),
  metadata,
  model: z.string(),
  output: z
    .array(z.discriminatedUnion('type', [outputMessage, outputCall]))
    .describe('A message, calls of functions, or a message and calls behind it.'),
  parallel_tool_calls: z.boolean(),
  previous_response_id: z.null(),
  reasoning: z.object({ effort: z.null(), summary: z.null() }),
  service_tier: z.literal('default'),
  store: z.literal(false),
  system_fingerprint: z.string(),
  temperature: z.number(),
  text: z.object({ format: responseTextFormat, verbosity: z.literal('medium') }),
  tool_choice: responseToolChoice,
  tools: z.array(responseTool),
  top_logprobs: z.literal(0),
  top_p: z.number(),
  truncation: z.literal('disabled'),
  usage: responseUsage.nullable(),
  user: z.string().nullable(),
})
export type ResponseObject = z.output<typeof responseObject>

/** One event of a streamed response; the name of the server-sent event is its `type`. */
export type ResponseEvent = { sequence_number: number } & ResponseEventFields

/** An event without its number. */
export type ResponseEventFields =
  | {
      type: 'response.created' | 'response.in_progress' | 'response.completed' | 'response.incomplete'
      response: ResponseObject
    }
  | OutputEvent
  | ResponseErrorEvent

/** The last event of a stream that broke. */
type ResponseErrorEvent = ErrorBody & Omit<ErrorBody['error'], 'type'> & { type: 'error' }

/**
 * What the last event of a stream that broke says: OpenAI's fields, and beside them the error as other APIs have it,
 * without which OpenAI's client for Python would end as if nothing was.
 */
export function responseError(error: AppError): ResponseErrorEvent {
  const body = errorBody(error)
  const { code, message, param } = body.error
  return { type: 'error', code, message, param, ...body }
}

/** An event of one item of the output. */
export type OutputEvent =
  | {
      type: 'response.output_item.added' | 'response.output_item.done'
      output_index: number
      item: OutputItem
    }
  | ({
      type: 'response.content_part.added' | 'response.content_part.done'
      part: OutputMessage['content'][number]
    } & PartPlace)
  | ({ type: 'response.output_text.delta'; delta: string; logprobs: never[] } & PartPlace)
  | ({ type: 'response.output_text.done'; text: string; logprobs: never[] } & PartPlace)
  | ({ type: 'response.function_call_arguments.delta'; delta: string } & ItemPlace)
  | ({ type: 'response.function_call_arguments.done'; arguments: string } & ItemPlace)

interface ItemPlace {
  item_id: string
  output_index: number
}

interface PartPlace extends ItemPlace {
  content_index: number
}
