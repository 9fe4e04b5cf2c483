import { z } from 'zod'

/** Upper bounds of the schemas of one request; the node also limits the cost of compiling them. */
export const SCHEMA_LIMITS = {
  /** Characters of all schemas together, as compact JSON. */
  characters: 64 * 1024,
  /** Nesting of objects and arrays. */
  depth: 64,
  tools: 128,
} as const

/** Keywords of any JSON Schema draft that the grammar compiler cannot enforce. */
const UNSUPPORTED = new Set([
  'not',
  'if',
  'then',
  'else',
  'contains',
  'minContains',
  'maxContains',
  'uniqueItems',
  'propertyNames',
  'dependencies',
  'dependentRequired',
  'dependentSchemas',
  'unevaluatedItems',
  'unevaluatedProperties',
  '$recursiveRef',
  '$dynamicRef',
])

/** Keywords whose value is one schema, a list of schemas, or either. */
const NESTED = new Set([
  'items',
  'prefixItems',
  'additionalItems',
  'additionalProperties',
  'anyOf',
  'allOf',
  'oneOf',
])
/** Keywords whose value is an object of named schemas. */
const NAMED = new Set(['properties', 'patternProperties', '$defs', 'definitions'])

/** A JSON Schema that the output can be constrained to, as far as its keywords show. */
export const jsonSchema = z
  .record(z.string(), z.unknown(), 'expected a JSON schema object')
  .superRefine((schema, context) => {
    const reason = exceedsDepth(schema, SCHEMA_LIMITS.depth)
      ? `the schema is nested more than ${SCHEMA_LIMITS.depth} levels deep`
      : schemaCharacters(schema) > SCHEMA_LIMITS.characters
        ? `the schema has more than ${SCHEMA_LIMITS.characters} characters`
        : findUnsupportedKeyword(schema, '#')
    // Later checks recurse and would overflow the stack.
    if (reason) context.addIssue({ code: 'custom', message: reason, continue: false })
  })
/** A JSON Schema, as sent by a client. */
export type JsonSchema = z.output<typeof jsonSchema>

/** Returns the length of a schema as compact JSON. */
export function schemaCharacters(schema: JsonSchema): number {
  return JSON.stringify(schema).length
}

/**
 * Returns a copy of `schema` with each `$ref` replaced by the result of `change`. Data inside the schema (`const`, `enum`,
 * `default`, `examples`) stays as it is.
 */
export function mapRefs(schema: JsonSchema, change: (ref: string) => string): JsonSchema {
  return Object.fromEntries(
    Object.entries(schema).map(([keyword, value]) => {
      if (keyword === '$ref' && typeof value === 'string') return [keyword, change(value)]
      const each = (inner: unknown) => (isObject(inner) ? mapRefs(inner, change) : inner)
      if (NESTED.has(keyword)) return [keyword, Array.isArray(value) ? value.map(each) : each(value)]
      if (!NAMED.has(keyword) || !isObject(value)) return [keyword, value]
      return [keyword, Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, each(inner)]))]
    }),
  )
}

function findUnsupportedKeyword(schema: JsonSchema, path: string): string | undefined {
  for (const [keyword, value] of Object.entries(schema)) {
    if (UNSUPPORTED.has(keyword)) return `the keyword '${keyword}' at ${path} is not supported`
    const inner = NESTED.has(keyword)
      ? Array.isArray(value)
        ? value.map((each: unknown, index) => [`${keyword}/${index}`, each] as const)
        : [[keyword, value] as const]
      : NAMED.has(keyword) && isObject(value)
        ? Object.entries(value).map(([name, each]) => [`${keyword}/${name}`, each] as const)
        : []
    for (const [step, each] of inner) {
      const found = isObject(each) ? findUnsupportedKeyword(each, `${path}/${step}`) : undefined
      if (found) return found
    }
  }
  return undefined
}

function exceedsDepth(value: unknown, maxDepth: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  return maxDepth === 0 || Object.values(value).some((inner) => exceedsDepth(inner, maxDepth - 1))
}

function isObject(value: unknown): value is JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
