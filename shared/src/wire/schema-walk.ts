/** Ways through the schemas inside a JSON Schema. Data inside it (`const`, `enum`, `default`, `examples`) is never entered. */

/** A JSON Schema that is an object, as sent by a client. */
export type JsonSchema = Record<string, unknown>

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

/** Tells whether a value is a schema that is an object. */
export function isSchema(value: unknown): value is JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Returns the schemas directly inside a schema, each with its path from there, such as `properties/name`. */
export function innerSchemas(schema: JsonSchema): [path: string, inner: JsonSchema][] {
  return Object.entries(schema).flatMap(([keyword, value]) => {
    const inner: [string, unknown][] = NESTED.has(keyword)
      ? Array.isArray(value)
        ? value.map((each: unknown, index) => [`${keyword}/${index}`, each])
        : [[keyword, value]]
      : NAMED.has(keyword) && isSchema(value)
        ? Object.entries(value).map(([name, each]) => [`${keyword}/${name}`, each])
        : []
    return inner.flatMap(([path, each]) => (isSchema(each) ? [[path, each] as [string, JsonSchema]] : []))
  })
}

/** Returns a copy of a schema in which each schema directly inside it is replaced by the result of `change`. */
export function mapInnerSchemas(
  schema: JsonSchema,
  change: (inner: JsonSchema) => JsonSchema | boolean,
): JsonSchema {
  const each = (inner: unknown) => (isSchema(inner) ? change(inner) : inner)
  return Object.fromEntries(
    Object.entries(schema).map(([keyword, value]) => {
      if (NESTED.has(keyword)) return [keyword, Array.isArray(value) ? value.map(each) : each(value)]
      if (!NAMED.has(keyword) || !isSchema(value)) return [keyword, value]
      return [keyword, Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, each(inner)]))]
    }),
  )
}

/** Returns a copy of a schema with each `$ref`, also of the schemas inside it, replaced by the result of `change`. */
export function mapRefs(schema: JsonSchema, change: (ref: string) => string): JsonSchema {
  const changed = mapInnerSchemas(schema, (inner) => mapRefs(inner, change))
  const { $ref: ref } = changed
  // An assignment to the copy keeps the order of keywords.
  if (typeof ref === 'string') changed['$ref'] = change(ref)
  return changed
}
