import { mapRefs, type JsonSchema } from '@copal/shared/wire/json-schema.ts'
import type { Tool } from '@copal/shared/wire/tools.ts'
import { withLayout } from './json-grammar.ts'

/**
 * How a call is written in an answer, as Hermes and Qwen do:
 * `<tool_call>`, a line with `{"name": …, "arguments": …}`, `</tool_call>`; several calls are on lines of their own.
 */
export const CALL_BEGIN = '<tool_call>'
export const CALL_END = '</tool_call>'

/** Which of the tools may be called, and how. */
export interface ToolGrammarOptions {
  tools: readonly Tool[]
  /** `auto`: the answer may be text instead, or begin with text. */
  mode: 'auto' | 'required'
  /** More than one call. */
  parallel: boolean
  /** What the answer is if it is no call; text when left out. */
  schema?: JsonSchema | undefined
}

/** A Lark grammar of answers that call tools with arguments that fit their parameters. */
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
    // Lazy: once the mark is written, there is no way but a call.
    `lead[lazy]: TEXT "${CALL_BEGIN}"`,
    'text: TEXT',
    'TEXT: /(.|\\n)*/',
    ...rules,
  ].join('\n')
}

/** What one call is; references of the parameters are to where they now are. */
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
