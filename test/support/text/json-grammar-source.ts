import type { JsonSchema } from '@copal/shared/wire/schema-walk.ts'
import type { GrammarSource } from '../../../gpu-node/src/serving/grammar/grammar-compiler.ts'
import { withLayout } from '../../../gpu-node/src/serving/grammar/json-grammar.ts'

/** Returns the grammar of a response format with this schema. */
export const jsonOf = (schema: JsonSchema): GrammarSource => ({
  language: 'json_schema',
  text: JSON.stringify(withLayout(schema)),
  param: 'response_format.json_schema.schema',
})
