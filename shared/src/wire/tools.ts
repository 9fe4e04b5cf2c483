import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import { jsonSchema, SCHEMA_LIMITS, schemaCharacters, type JsonSchema } from './json-schema.ts'
import { functionName } from './response-format.ts'

const tool = z.object({
  type: z.literal('function', "only 'function' tools are supported"),
  function: z.object({
    name: functionName,
    description: z.string().max(4096).nullish(),
    parameters: jsonSchema.nullish(),
    strict: z.boolean().nullish(),
  }),
})
export type Tool = z.output<typeof tool>

/**
 * Refuses functions that share a name, or have more schemas than a request may.
 *
 * @param inTool the way from an element of the list to the function's name
 */
export function checkToolFunctions(
  functions: readonly { name: string; parameters?: JsonSchema | null | undefined }[],
  inTool: readonly string[],
  context: z.core.$RefinementCtx,
): void {
  const names = functions.map(({ name }) => name)
  const twice = names.findIndex((name, index) => names.indexOf(name) !== index)
  if (twice >= 0)
    context.addIssue({
      code: 'custom',
      path: [twice, ...inTool],
      message: `there is another tool '${names[twice]}'`,
    })
  const characters = functions.reduce((sum, each) => sum + schemaCharacters(each.parameters ?? {}), 0)
  if (characters > SCHEMA_LIMITS.characters)
    context.addIssue({
      code: 'custom',
      message: `all parameters together have more than ${SCHEMA_LIMITS.characters} characters`,
    })
}

/** `tools` of chat completions. */
export const tools = boundedArray(tool)
  .min(1, 'at least one tool is expected; leave the field out for none')
  .max(SCHEMA_LIMITS.tools)
  .superRefine((list, context) =>
    checkToolFunctions(
      list.map((each) => each.function),
      ['function', 'name'],
      context,
    ),
  )

/** `tool_choice` of chat completions. */
export const toolChoice = z.union(
  [
    z.enum(['none', 'auto', 'required']),
    z.object({ type: z.literal('function'), function: z.object({ name: functionName }) }),
  ],
  `'none', 'auto', 'required' or {"type": "function", "function": {"name": …}} is expected`,
)
export type ToolChoice = z.output<typeof toolChoice>

/** A call in an assistant's message, as it was answered; `arguments` is JSON as text. */
export const toolCall = z.object({
  id: z.string().min(1).max(256),
  type: z.literal('function'),
  function: z.object({ name: functionName, arguments: z.string() }),
})
export type ToolCall = z.output<typeof toolCall>

/** A piece of a call in a stream: the first names it, the others bring more of its arguments. */
export const toolCallDelta = z.object({
  index: z.int(),
  id: z.string().optional(),
  type: z.literal('function').optional(),
  function: z.object({ name: z.string().optional(), arguments: z.string().optional() }),
})
export type ToolCallDelta = z.output<typeof toolCallDelta>

/**
 * Says what is wrong with how the tool fields of a request go together.
 *
 * @returns the field and why, or undefined
 */
export function findToolChoiceError(request: {
  tools?: Tool[] | null | undefined
  tool_choice?: ToolChoice | null | undefined
}): { path: string[]; message: string } | undefined {
  const { tools: list, tool_choice: choice } = request
  if (!list) {
    if (choice == null || choice === 'none') return undefined
    return { path: ['tool_choice'], message: "it needs 'tools'" }
  }
  if (
    typeof choice === 'object' &&
    choice &&
    !list.some((each) => each.function.name === choice.function.name)
  )
    return {
      path: ['tool_choice', 'function', 'name'],
      message: `no tool is called '${choice.function.name}'`,
    }
  return undefined
}
