import { AppError } from '@copal/shared/errors.ts'
import type { ChatRequest } from '@copal/shared/wire/chat.ts'
import type { JsonSchema } from '@copal/shared/wire/json-schema.ts'
import type { Tool } from '@copal/shared/wire/tools.ts'
import { NativeUnavailableError } from '../../platform/native-addon.ts'
import type { TokenConstraint } from '../contract/token-constraint.ts'
import type { GrammarAsker, Grammars, GrammarSource } from '../grammar/grammar-compiler.ts'
import { schemaOf, withLayout } from '../grammar/json-grammar.ts'
import { toolGrammar } from '../grammar/tool-grammar.ts'

/** What an answer of a chat is made to be. */
export interface Structure {
  /** Tools that the model is told of. */
  tools: readonly Tool[]
  /** What keeps the answer to it; undefined for plain text. */
  grammar: GrammarSource | undefined
  /** Each schema that the grammar is made of, by the field that it comes from. */
  parts: readonly SchemaField[]
}

interface SchemaField {
  param: string
  schema: JsonSchema
}

/** How an API names the fields that ask for structure. */
export interface StructureFields {
  format: string
  /** The schema of a format. */
  schema: string
  parameters: (index: number) => string
}

/** As chat completions name them. */
export const CHAT_FIELDS: StructureFields = {
  format: 'response_format',
  schema: 'response_format.json_schema.schema',
  parameters: (index) => `tools[${index}].function.parameters`,
}

/** As responses name them. */
export const RESPONSE_FIELDS: StructureFields = {
  format: 'text.format',
  schema: 'text.format.schema',
  parameters: (index) => `tools[${index}].parameters`,
}

/** What `response_format`, `tools`, `tool_choice` and `parallel_tool_calls` ask for together. */
export function structureOf(
  request: Pick<ChatRequest, 'response_format' | 'tools' | 'tool_choice' | 'parallel_tool_calls'>,
  fields: StructureFields,
): Structure {
  const { tool_choice: choice, response_format: format } = request
  const named = typeof choice === 'object' ? choice?.function.name : undefined
  const all = request.tools ?? []
  const tools =
    choice === 'none' ? [] : all.filter((tool) => named === undefined || tool.function.name === named)
  const schema = schemaOf(format)
  const ofFormat = schema && {
    param: format?.type === 'json_schema' ? fields.schema : fields.format,
    schema,
  }
  if (tools.length === 0)
    return { tools, grammar: ofFormat && grammarOf(ofFormat), parts: ofFormat ? [ofFormat] : [] }
  const text = toolGrammar({
    tools,
    mode: named !== undefined || choice === 'required' ? 'required' : 'auto',
    parallel: named === undefined && (request.parallel_tool_calls ?? true),
    schema,
  })
  const ofTools = tools.flatMap((tool) =>
    tool.function.parameters
      ? [{ param: fields.parameters(all.indexOf(tool)), schema: tool.function.parameters }]
      : [],
  )
  return {
    tools,
    grammar: { language: 'lark', text, param: 'tools' },
    parts: [...ofTools, ...(ofFormat ? [ofFormat] : [])],
  }
}

/**
 * Compiles what keeps the answer to its structure.
 *
 * @returns makes the constraint of one choice; undefined for plain text
 * @throws AppError `invalid_request` that names the schema that cannot be followed, and why
 */
export async function compileStructure(
  grammars: Grammars,
  { grammar, parts }: Structure,
  asker: GrammarAsker,
): Promise<(() => TokenConstraint) | undefined> {
  if (!grammar) return undefined
  try {
    return await grammars.compile(grammar, asker)
  } catch (thrown) {
    const isRefusal = thrown instanceof AppError && thrown.code === 'invalid_request'
    const isOfOne = grammar.language === 'json_schema'
    if (!isRefusal || thrown.cause instanceof NativeUnavailableError || isOfOne) throw thrown
    // Of many schemas together nobody can tell which it was: each is tried alone.
    for (const part of parts) await grammars.compile(grammarOf(part), asker)
    throw thrown
  }
}

function grammarOf({ param, schema }: SchemaField): GrammarSource {
  return { language: 'json_schema', text: JSON.stringify(withLayout(schema)), param }
}
