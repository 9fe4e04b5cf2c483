import { AppError } from '@copal/shared/errors.ts'
import type { ChatRequest } from '@copal/shared/wire/chat.ts'
import type { Tool } from '@copal/shared/wire/tools.ts'
import { NativeUnavailableError } from '../backends/sparse/native.ts'
import type { TokenConstraint } from '../engine/constraint.ts'
import type { Grammars, GrammarSource } from '../grammar/grammars.ts'
import { schemaOf, withLayout } from '../grammar/json-grammar.ts'
import { toolGrammar } from '../grammar/tool-grammar.ts'

/** What an answer of a chat is made to be. */
export interface Structure {
  /** Tools that the model is told of. */
  tools: readonly Tool[]
  /** What keeps the answer to it; undefined for plain text. */
  grammar: GrammarSource | undefined
}

/** The field that schemas of answers come from. */
const FORMAT_PARAM = 'response_format.json_schema.schema'

/** What `response_format`, `tools`, `tool_choice` and `parallel_tool_calls` ask for together. */
export function structureOf(
  request: Pick<ChatRequest, 'response_format' | 'tools' | 'tool_choice' | 'parallel_tool_calls'>,
): Structure {
  const { tool_choice: choice } = request
  const named = typeof choice === 'object' ? choice?.function.name : undefined
  const tools =
    choice === 'none'
      ? []
      : (request.tools ?? []).filter((tool) => named === undefined || tool.function.name === named)
  const schema = schemaOf(request.response_format)
  if (tools.length === 0) {
    const text = schema && JSON.stringify(withLayout(schema))
    const param = request.response_format?.type === 'json_schema' ? FORMAT_PARAM : 'response_format'
    return { tools, grammar: text ? { language: 'json_schema', text, param } : undefined }
  }
  const text = toolGrammar({
    tools,
    mode: named !== undefined || choice === 'required' ? 'required' : 'auto',
    parallel: named === undefined && (request.parallel_tool_calls ?? true),
    schema,
  })
  return { tools, grammar: { language: 'lark', text, param: 'tools' } }
}

/**
 * Compiles what keeps the answer to its structure.
 *
 * @returns makes the constraint of one choice; undefined for plain text
 * @throws AppError `invalid_request` that names the schema that cannot be followed, and why
 */
export async function compileStructure(
  grammars: Grammars,
  { tools, grammar }: Structure,
  request: Pick<ChatRequest, 'response_format' | 'tools'>,
): Promise<(() => TokenConstraint) | undefined> {
  if (!grammar) return undefined
  try {
    return await grammars.compile(grammar)
  } catch (thrown) {
    const isRefusal = thrown instanceof AppError && thrown.code === 'invalid_request'
    if (!isRefusal || thrown.cause instanceof NativeUnavailableError || tools.length === 0) throw thrown
    // Of many schemas together nobody can tell which it was: each is tried alone.
    for (const tool of tools) {
      const index = request.tools?.indexOf(tool) ?? 0
      await compileAlone(grammars, tool.function.parameters, `tools[${index}].function.parameters`)
    }
    await compileAlone(grammars, schemaOf(request.response_format), FORMAT_PARAM)
    throw thrown
  }
}

async function compileAlone(grammars: Grammars, schema: object | null | undefined, param: string) {
  if (schema)
    await grammars.compile({
      language: 'json_schema',
      text: JSON.stringify(withLayout({ ...schema })),
      param,
    })
}
