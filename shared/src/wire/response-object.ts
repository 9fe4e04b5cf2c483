/** The output of the Responses API: the response object, its items, and the events of a stream. */
import { z } from 'zod'
import { errorBody, type AppError } from '../errors.ts'
import { metadata } from './inference-fields.ts'
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
/** A message in `output`. */
export type OutputMessage = z.output<typeof outputMessage>

const outputCall = z.object({
  id: z.string(),
  type: z.literal('function_call'),
  status: itemStatus,
  call_id: z.string().describe('Repeated in the `function_call_output` of this call.'),
  name: z.string(),
  arguments: z.string().describe('JSON text.'),
})

const outputItem = z.discriminatedUnion('type', [outputMessage, outputCall])
/** One item of `output`. */
export type OutputItem = z.output<typeof outputItem>

/** `usage` of a response. */
const responseUsage = z.object({
  input_tokens: z.int(),
  input_tokens_details: z.object({ cached_tokens: z.int() }),
  output_tokens: z.int(),
  output_tokens_details: z.object({ reasoning_tokens: z.int() }),
  total_tokens: z.int(),
})

/** Response of `POST /v1/responses`; fields that the request leaves out have their defaults. */
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
  output: z.array(outputItem).describe('A message, function calls, or a message followed by function calls.'),
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
/** A response of `POST /v1/responses`. */
export type ResponseObject = z.output<typeof responseObject>

const event = <T extends string, F extends z.ZodRawShape>(types: readonly T[], fields: F) =>
  z.object({ type: z.enum(types), sequence_number: z.int().min(0), ...fields })

const itemFields = { item_id: z.string(), output_index: z.int().min(0) }
const partFields = { ...itemFields, content_index: z.int().min(0) }
const { logprobs } = outputText.shape

const outputEvents = [
  event(['response.output_item.added', 'response.output_item.done'], {
    output_index: itemFields.output_index,
    item: outputItem,
  }),
  event(['response.content_part.added', 'response.content_part.done'], { ...partFields, part: outputText }),
  event(['response.output_text.delta'], { ...partFields, delta: z.string(), logprobs }),
  event(['response.output_text.done'], { ...partFields, text: z.string(), logprobs }),
  event(['response.function_call_arguments.delta'], { ...itemFields, delta: z.string() }),
  event(['response.function_call_arguments.done'], { ...itemFields, arguments: z.string() }),
] as const

const errorFields = { code: z.string(), message: z.string(), param: z.string().nullable() }
/** The last event of a stream that failed: OpenAI's fields, and the error in the format of the other APIs. */
const errorEvent = z.object({
  type: z.enum(['error']),
  sequence_number: z
    .int()
    .min(0)
    .optional()
    .describe(
      'Absent where the connection to the node broke: the gateway does not count the events it relays.',
    ),
  ...errorFields,
  error: z.object({ type: z.string(), ...errorFields }),
})

/** One event of a streamed response; the name of the server-sent event is its `type`. */
export const responseEvent = z.discriminatedUnion('type', [
  event(['response.created', 'response.in_progress', 'response.completed', 'response.incomplete'], {
    response: responseObject,
  }),
  ...outputEvents,
  errorEvent,
])
/** One event of a streamed response. */
export type ResponseEvent = z.output<typeof responseEvent>

type Unnumbered<T> = T extends unknown ? Omit<T, 'sequence_number'> : never

/** An event without its sequence number. */
export type ResponseEventFields = Unnumbered<ResponseEvent>

/**
 * Creates the last event of a stream that failed. Without the nested `error`, OpenAI's Python client would end the stream
 * as if it had succeeded.
 */
export function responseErrorEvent(error: AppError): Unnumbered<z.output<typeof errorEvent>> {
  const body = errorBody(error)
  const { code, message, param } = body.error
  return { type: 'error', code, message, param, ...body }
}

/** An event of one item of the output. */
export type OutputEvent = Unnumbered<z.output<(typeof outputEvents)[number]>>
