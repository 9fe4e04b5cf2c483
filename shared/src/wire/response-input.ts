/** The input of a request to the Responses API: conversation, tools and format. */
import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import { LIMITS } from './inference-fields.ts'
import { jsonSchema, SCHEMA_LIMITS } from './json-schema.ts'
import { functionName } from './response-format.ts'
import { checkStrict, checkToolFunctions, toolFields } from './tools.ts'

const ONLY_TEXT = 'only text parts are supported, because this model reads text only'
const text = z.object({ type: z.enum(['input_text', 'output_text'], ONLY_TEXT), text: z.string() })
const content = z.union([z.string(), boundedArray(text)], 'expected a text or a list of text parts')
const callId = z.string().min(1).max(256)

/** One item of a conversation: a message, an earlier function call, or its output. */
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
  "expected 'message', 'function_call' or 'function_call_output'; items cannot be referred to, because nothing is stored: send " +
    "them whole, with 'store': false in the Vercel AI SDK",
)
/** One item of a conversation. */
export type InputItem = z.output<typeof inputItem>

/**
 * Checks that each output follows its function call, and that each call has an output, as OpenAI does.
 *
 * @returns the field of the first wrong item and the reason; undefined if there is none
 */
function findCallError(
  items: readonly InputItem[],
): { path: (string | number)[]; message: string } | undefined {
  const called = new Set<string>()
  /** The index of each call without an output. */
  const open = new Map<string, number>()
  for (const [index, item] of items.entries()) {
    if (item.type === 'function_call') {
      called.add(item.call_id)
      open.set(item.call_id, index)
    } else if (item.type === 'function_call_output') {
      const message = 'expected the function call of this output before it; responses are not stored'
      if (!called.has(item.call_id)) return { path: [index, 'call_id'], message }
      open.delete(item.call_id)
    }
  }
  for (const [id, index] of open)
    return { path: [index, 'call_id'], message: `no tool output found for function call ${id}` }
  return undefined
}

/** `input` of a request: a text, or the items of a conversation. */
export const responseInput = z.union(
  [
    z.string().min(1),
    boundedArray(inputItem)
      .min(1)
      .max(LIMITS.messages)
      .superRefine((items, context) => {
        const error = findCallError(items)
        if (error) context.addIssue({ code: 'custom', ...error })
      }),
  ],
  'expected a text that is not empty, or a list of items',
)

/** A function that the model may call, in the format of the Responses API. */
export const responseTool = z
  .object({
    type: z.literal('function', "only 'function' tools are supported"),
    ...toolFields,
    async: z.literal(false, 'background calls are not supported; send false').nullish(),
    defer_loading: z.literal(false, 'deferred loading is not supported; send false').nullish(),
  })
  .superRefine(checkStrict)
/** A function that the model may call. */
export type ResponseTool = z.output<typeof responseTool>

/** `tools` of a request; an empty list counts as none. */
export const responseTools = boundedArray(responseTool)
  .max(SCHEMA_LIMITS.tools)
  .superRefine((list, context) => checkToolFunctions(list, ['name'], context))

/** `tool_choice` of a request. */
export const responseToolChoice = z.union(
  [
    z.enum(['none', 'auto', 'required']),
    z.object({ type: z.literal('function', "only 'function' tools are supported"), name: functionName }),
  ],
  `expected 'none', 'auto', 'required' or {"type": "function", "name": …}`,
)

/** `text.format` of a request. */
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
  "expected 'text', 'json_object' or 'json_schema'",
)
/** A parsed `text.format`. */
export type ResponseTextFormat = z.output<typeof responseTextFormat>
