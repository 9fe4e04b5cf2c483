import { AppError } from '@copal/shared/errors.ts'
import type { ChatRequest } from '@copal/shared/wire/chat.ts'
import { enforcedSchema } from '@copal/shared/wire/enforced-schema.ts'
import type { JsonSchema } from '@copal/shared/wire/schema-walk.ts'
import type { Tool } from '@copal/shared/wire/tools.ts'
import { NativeUnavailableError } from '../../../platform/native-addon.ts'
import type { TokenConstraint } from '../../contract/token-constraint.ts'
import type { CompileOptions, GrammarCompiler, GrammarSource } from '../../grammar/grammar-compiler.ts'
import { schemaOf, withLayout } from '../../grammar/json-grammar.ts'
import { toolGrammar } from '../../grammar/tool-grammar.ts'

/** The structure that the output of a chat must have. */
export interface OutputStructure {
  /** Tools that the prompt describes. */
  tools: readonly Tool[]
  /** Grammar of the output; undefined for plain text. */
  grammar: GrammarSource | undefined
  /** The schemas that the grammar combines, with the request field of each. */
  parts: readonly SchemaField[]
}

interface SchemaField {
  param: string
  schema: JsonSchema
}

/** Names of the fields of an API that request structure. */
export interface StructureParams {
  format: string
  /** The schema of a format. */
  schema: string
  parameters: (index: number) => string
}

/** The field names of chat completions. */
export const CHAT_FIELDS: StructureParams = {
  format: 'response_format',
  schema: 'response_format.json_schema.schema',
  parameters: (index) => `tools[${index}].function.parameters`,
}

/** The field names of responses. */
export const RESPONSE_FIELDS: StructureParams = {
  format: 'text.format',
  schema: 'text.format.schema',
  parameters: (index) => `tools[${index}].parameters`,
}

/** Combines `response_format`, `tools`, `tool_choice` and `parallel_tool_calls` into one structure. */
export function structureOf(
  request: Pick<ChatRequest, 'response_format' | 'tools' | 'tool_choice' | 'parallel_tool_calls'>,
  fields: StructureParams,
): OutputStructure {
  const { tool_choice: choice, response_format: format } = request
  const named = typeof choice === 'object' ? choice?.function.name : undefined
  const all = request.tools ?? []
  const tools =
    choice === 'none' ? [] : all.filter((tool) => named === undefined || tool.function.name === named)
  const requested = schemaOf(format)
  const schema = requested && enforcedSchema(requested, { drops: false })
  const formatSchema = schema && {
    param: format?.type === 'json_schema' ? fields.schema : fields.format,
    schema,
  }
  if (tools.length === 0)
    return {
      tools,
      grammar: formatSchema && grammarOf(formatSchema),
      parts: formatSchema ? [formatSchema] : [],
    }
  const enforced = tools.map(withEnforcedParameters)
  const text = toolGrammar({
    tools: enforced,
    mode: named !== undefined || choice === 'required' ? 'required' : 'auto',
    parallel: named === undefined && (request.parallel_tool_calls ?? true),
    schema,
  })
  const toolSchemas = enforced.flatMap(({ function: { parameters } }, index) =>
    parameters ? [{ param: fields.parameters(all.indexOf(tools[index]!)), schema: parameters }] : [],
  )
  return {
    tools,
    grammar: { language: 'lark', text, param: 'tools' },
    parts: [...toolSchemas, ...(formatSchema ? [formatSchema] : [])],
  }
}

/** Rewrites the parameters of a tool for the compiler. Only a strict tool is rejected for keywords that it does not have. */
function withEnforcedParameters(tool: Tool): Tool {
  const { parameters, strict } = tool.function
  if (!parameters) return tool
  return {
    ...tool,
    function: { ...tool.function, parameters: enforcedSchema(parameters, { drops: strict !== true }) },
  }
}

/**
 * Compiles the grammar of a structure.
 *
 * @returns a function that creates the constraint of one choice; undefined for plain text
 * @throws AppError `invalid_request` that names the schema that is not supported, and why
 */
export async function compileStructure(
  grammars: GrammarCompiler,
  { grammar, parts }: OutputStructure,
  options: CompileOptions,
): Promise<(() => TokenConstraint) | undefined> {
  if (!grammar) return undefined
  try {
    return await grammars.compile(grammar, options)
  } catch (thrown) {
    const isRejected = thrown instanceof AppError && thrown.code === 'invalid_request'
    const isSingleSchema = grammar.language === 'json_schema'
    if (!isRejected || thrown.cause instanceof NativeUnavailableError || isSingleSchema) throw thrown
    // The error of a combined grammar does not name the schema, so each schema is compiled alone.
    for (const part of parts) await grammars.compile(grammarOf(part), options)
    throw thrown
  }
}

function grammarOf({ param, schema }: SchemaField): GrammarSource {
  return { language: 'json_schema', text: JSON.stringify(withLayout(schema)), param }
}
