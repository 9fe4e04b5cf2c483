import { mapRefs, type JsonSchema } from '@copal/shared/wire/schema-walk.ts'
import type { Tool } from '@copal/shared/wire/tools.ts'
import { withLayout } from './json-grammar.ts'

/**
 * The marker before a tool call. Calls are written as Hermes and Qwen write them: `<tool_call>`, a line with
 * `{"name": …, "arguments": …}`, `</tool_call>`; several calls are on lines of their own.
 */
export const CALL_BEGIN = '<tool_call>'
/** The marker after a tool call. */
export const CALL_END = '</tool_call>'

/** Options of a tool grammar. */
export interface ToolGrammarOptions {
  tools: readonly Tool[]
  /** `auto`: the output may be text instead, or begin with text. */
  mode: 'auto' | 'required'
  /** Whether several calls are allowed. */
  parallel: boolean
  /** Schema of output without calls; plain text when undefined. */
  schema?: JsonSchema | undefined
}

/** Returns a Lark grammar of output that calls tools with arguments that fit their parameters. */
export function toolGrammar({ tools, mode, parallel, schema }: ToolGrammarOptions): string {
  const more = parallel ? ` ("\\n${CALL_BEGIN}" body)*` : ''
  const rules = [
    `body: "\\n" %json ${JSON.stringify(withLayout({ anyOf: tools.map(callSchema) }))} "\\n${CALL_END}"`,
  ]
  if (mode === 'required') return [`start: "${CALL_BEGIN}" body${more}`, ...rules].join('\n')
  if (schema) {
    return [
      `start: answer | "${CALL_BEGIN}" body${more}`,
      `answer: %json ${JSON.stringify(withLayout(schema))}`,
      ...rules,
    ].join('\n')
  }
  return [
    `start: text | lead body${more}`,
    // Lazy: once the marker is written, a call must follow.
    `lead[lazy]: TEXT "${CALL_BEGIN}"`,
    'text: TEXT',
    'TEXT: /(.|\\n)*/',
    ...rules,
  ].join('\n')
}

/** Returns the schema of one call. References within the parameters are rewritten to their place in the grammar. */
function callSchema({ function: { name, parameters } }: Tool, index: number): JsonSchema {
  const root = `#/anyOf/${index}/properties/arguments`
  return {
    type: 'object',
    properties: {
      name: { const: name },
      arguments: parameters
        ? mapRefs(parameters, (ref) => (ref.startsWith('#') ? root + ref.slice(1) : ref))
        : { type: 'object', properties: {}, additionalProperties: false },
    },
    required: ['name', 'arguments'],
    additionalProperties: false,
  }
}
