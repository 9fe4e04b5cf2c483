import { z } from 'zod'

/** Bounds on the schemas of one request; what they cost to compile is bounded by the node too. */
export const SCHEMA_LIMITS = {
  /** Characters of all schemas of a request, as compact JSON. */
  characters: 64 * 1024,
  /** Objects and lists within one another. */
  depth: 64,
  tools: 128,
} as const

/** JSON Schema keywords, as of any draft, that no answer can be kept to. */
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
/** Keywords whose value has schemas under names of its own. */
const NAMED = new Set(['properties', 'patternProperties', '$defs', 'definitions'])

/** A JSON Schema that an answer can be kept to, as far as its keywords tell. */
export const jsonSchema = z
  .record(z.string(), z.unknown(), 'a JSON schema is expected, an object')
  .superRefine((schema, context) => {
    const reason = exceedsDepth(schema, SCHEMA_LIMITS.depth)
      ? `the schema is nested more than ${SCHEMA_LIMITS.depth} deep`
      : schemaCharacters(schema) > SCHEMA_LIMITS.characters
        ? `the schema has more than ${SCHEMA_LIMITS.characters} characters`
        : findUnsupportedKeyword(schema, '#')
    // Whoever checks behind could not even measure one that is deep enough.
    if (reason) context.addIssue({ code: 'custom', message: reason, continue: false })
  })
export type JsonSchema = z.output<typeof jsonSchema>

/** Characters of a schema as compact JSON. */
export function schemaCharacters(schema: JsonSchema): number {
  return JSON.stringify(schema).length
}

/**
 * A copy of `schema` with other references: each `$ref` of it, not what is data in it (`const`, `enum`, `default`,
 * `examples`), is given to `change`.
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

function exceedsDepth(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  return levels === 0 || Object.values(value).some((inner) => exceedsDepth(inner, levels - 1))
}

function isObject(value: unknown): value is JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
