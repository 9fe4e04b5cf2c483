/** What a request to the Responses API says: its conversation, its tools, its format. */
import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import { LIMITS } from './inference-fields.ts'
import { jsonSchema, SCHEMA_LIMITS } from './json-schema.ts'
import { functionName } from './response-format.ts'
import { checkToolFunctions } from './tools.ts'

const text = z.object({
  type: z.enum(['input_text', 'output_text'], 'only text parts are supported'),
  text: z.string(),
})
const content = z.union([z.string(), boundedArray(text).min(1)], 'a text or a list of text parts is expected')
const callId = z.string().min(1).max(256)

/** One item of a conversation: a message, a call that was answered before, or what the function gave. */
const inputItem = z.discriminatedUnion(
  'type',
  [
    z.object({
      type: z.literal('message').optional(),
      role: z.enum(['user', 'assistant', 'system', 'developer']),
      content,
    }),
    z.object({
      type: z.literal('function_call'),
      call_id: callId,
      name: functionName,
      arguments: z.string(),
    }),
    z.object({ type: z.literal('function_call_output'), call_id: callId, output: content }),
  ],
  "'message', 'function_call' or 'function_call_output' is expected; nothing is stored that could be referred to",
)
export type InputItem = z.output<typeof inputItem>

/** `input` of a response: one text, or the items of a conversation. */
export const responseInput = z.union(
  [
    z.string().min(1),
    boundedArray(inputItem)
      .min(1)
      .max(LIMITS.messages)
      .superRefine((items, context) => {
        const called = new Set<string>()
        for (const [index, item] of items.entries()) {
          if (item.type === 'function_call') called.add(item.call_id)
          if (item.type !== 'function_call_output' || called.has(item.call_id)) continue
          context.addIssue({
            code: 'custom',
            path: [index, 'call_id'],
            message: 'the function call that it answers is expected before it; responses are not stored',
          })
        }
      }),
  ],
  'one text, not empty, or a list of items is expected',
)

/** A function that may be called, in the shape of the Responses API. */
export const responseTool = z.object({
  type: z.literal('function', "only 'function' tools are supported"),
  name: functionName,
  description: z.string().max(4096).nullish(),
  parameters: jsonSchema.nullish(),
  strict: z.boolean().nullish().describe('Schemas are always followed.'),
  async: z.literal(false, 'calls are not run in the background; send false').nullish(),
  defer_loading: z.literal(false, 'all tools are told of at once; send false').nullish(),
})
export type ResponseTool = z.output<typeof responseTool>

/** `tools` of a response; an empty list is as good as none. */
export const responseTools = boundedArray(responseTool)
  .max(SCHEMA_LIMITS.tools)
  .superRefine((list, context) => checkToolFunctions(list, ['name'], context))

/** `tool_choice` of a response. */
export const responseToolChoice = z.union(
  [
    z.enum(['none', 'auto', 'required']),
    z.object({ type: z.literal('function', "only 'function' tools are supported"), name: functionName }),
  ],
  `'none', 'auto', 'required' or {"type": "function", "name": …} is expected`,
)
export type ResponseToolChoice = z.output<typeof responseToolChoice>

/** `text.format` of a response. */
export const responseTextFormat = z.discriminatedUnion(
  'type',
  [
    z.object({ type: z.literal('text') }),
    z.object({ type: z.literal('json_object') }),
    z.object({
      type: z.literal('json_schema'),
      name: functionName,
      description: z.string().max(4096).nullish(),
      schema: jsonSchema,
      strict: z.boolean().nullish(),
    }),
  ],
  "'text', 'json_object' or 'json_schema' is expected",
)
export type ResponseTextFormat = z.output<typeof responseTextFormat>
