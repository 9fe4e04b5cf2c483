import { z } from 'zod'
import { boundedArray } from './bounded-collections.ts'
import { boundedSchema, findUnenforced, SCHEMA_LIMITS, schemaCharacters } from './json-schema.ts'
import { functionName } from './response-format.ts'
import type { JsonSchema } from './schema-walk.ts'

/** The fields of a function that the model may call. */
export const toolFields = {
  name: functionName,
  description: z.string().max(4096).nullish(),
  parameters: boundedSchema.nullish(),
  strict: z
    .boolean()
    .nullish()
    .describe(
      'Whether `parameters` with a keyword that is not supported are rejected; else it has no effect.',
    ),
}

/** Adds an issue for parameters that shall be followed strictly and cannot be. */
export function checkStrict(
  { parameters, strict }: { parameters?: JsonSchema | null | undefined; strict?: boolean | null | undefined },
  context: z.core.$RefinementCtx,
): void {
  const message = strict && parameters ? findUnenforced(parameters) : undefined
  if (message) context.addIssue({ code: 'custom', path: ['parameters'], message })
}

const tool = z.object({
  type: z.literal('function', "only 'function' tools are supported"),
  function: z.object(toolFields).superRefine(checkStrict),
})
/** A function that the model may call, in the format of chat completions. */
export type Tool = z.output<typeof tool>

/**
 * Adds issues for functions that share a name, and for schemas that are too large together.
 *
 * @param namePath path from an element of the list to the function's name
 */
export function checkToolFunctions(
  functions: readonly { name: string; parameters?: JsonSchema | null | undefined }[],
  namePath: readonly string[],
  context: z.core.$RefinementCtx,
): void {
  const names = functions.map(({ name }) => name)
  const duplicate = names.findIndex((name, index) => names.indexOf(name) !== index)
  if (duplicate >= 0)
    context.addIssue({
      code: 'custom',
      path: [duplicate, ...namePath],
      message: `another tool is already named '${names[duplicate]}'`,
    })
  const characters = functions.reduce((sum, each) => sum + schemaCharacters(each.parameters ?? {}), 0)
  if (characters > SCHEMA_LIMITS.characters)
    context.addIssue({
      code: 'custom',
      message: `the parameters of all tools together have more than ${SCHEMA_LIMITS.characters} characters`,
    })
}

/** `tools` of chat completions; an empty list counts as none. */
export const tools = boundedArray(tool)
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
  `expected 'none', 'auto', 'required' or {"type": "function", "function": {"name": …}}`,
)
/** A parsed `tool_choice`. */
export type ToolChoice = z.output<typeof toolChoice>

/** A function call in an assistant message; `arguments` is JSON text. */
export const toolCall = z.object({
  id: z.string().min(1).max(256),
  type: z.literal('function'),
  function: z.object({ name: functionName, arguments: z.string() }),
})
/** A function call in an assistant message. */
export type ToolCall = z.output<typeof toolCall>

/** A piece of a function call in a stream: the first has its id and name, the others more of its arguments. */
export const toolCallDelta = z.object({
  index: z.int(),
  id: z.string().optional(),
  type: z.literal('function').optional(),
  function: z.object({ name: z.string().optional(), arguments: z.string().optional() }),
})
/** A piece of a function call in a stream. */
export type ToolCallDelta = z.output<typeof toolCallDelta>

/**
 * Checks that `tool_choice` of a request matches its `tools`.
 *
 * @returns the wrong field and the reason, or undefined
 */
export function findToolChoiceError(request: {
  tools?: Tool[] | null | undefined
  tool_choice?: ToolChoice | null | undefined
}): { path: string[]; message: string } | undefined {
  const { tools: list, tool_choice: choice } = request
  if (!list?.length) {
    if (choice == null || choice === 'none' || choice === 'auto') return undefined
    return { path: ['tool_choice'], message: "requires 'tools'" }
  }
  if (
    typeof choice === 'object' &&
    choice &&
    !list.some((each) => each.function.name === choice.function.name)
  )
    return {
      path: ['tool_choice', 'function', 'name'],
      message: `no tool is named '${choice.function.name}'`,
    }
  return undefined
}
