/** Rewrites JSON schemas to keywords that the grammar compiler can enforce. */
import { innerSchemas, isSchema, mapInnerSchemas, type JsonSchema } from './schema-walk.ts'

/** Keywords of any JSON Schema draft that the grammar compiler cannot enforce. */
const UNSUPPORTED_KEYWORDS: ReadonlySet<string> = new Set([
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

/** Characters that listed names of properties may add to a schema. */
const MAX_ADDED_CHARACTERS = 64 * 1024

/** Formats of strings that the compiler enforces. Others are annotations, as the specification has it. */
const ENFORCED_FORMATS: ReadonlySet<unknown> = new Set([
  'date-time',
  'date',
  'time',
  'duration',
  'email',
  'hostname',
  'ipv4',
  'ipv6',
  'uuid',
  'uri',
])

/**
 * Patterns of zod with look-around, which the compiler does not have, and equal ones without it. Every text of the format
 * `duration`, which stands beside its pattern, has the pattern.
 */
const EQUAL_PATTERNS: ReadonlyMap<unknown, string | undefined> = new Map([
  [
    String.raw`^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$`,
    String.raw`^([A-Za-z0-9_'+\-]+\.)*[A-Za-z0-9_'+\-]*[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$`,
  ],
  [
    String.raw`^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$`,
    undefined,
  ],
])

/** Keywords that combine schemas of one value. */
const COMBINING = ['allOf', 'anyOf', 'oneOf', '$ref', 'then', 'else', 'dependentSchemas']
/** Keywords that describe an object itself. */
const OF_OBJECTS = ['properties', 'patternProperties', 'required']
/** Keywords that constrain nothing. */
const ANNOTATIONS: ReadonlySet<string> = new Set([
  '$schema',
  '$comment',
  'title',
  'description',
  'default',
  'examples',
  'deprecated',
])

/**
 * Rewrites a schema to keywords that the grammar compiler can enforce.
 *
 * What fits the result fits `schema` too, but for formats that are not enforced and, with `drops`, for the keywords that
 * are left out. `propertyNames` becomes properties. An object that lists its properties has no others unless the schema
 * says so, as in llama.cpp and XGrammar: small models invent names until their token limit.
 *
 * @param drops whether keywords without support are left out; otherwise they stay, for the compiler to reject
 */
export function enforcedSchema(root: JsonSchema, { drops }: { drops: boolean }): JsonSchema {
  const closes = !combinesObjects(root)
  /** What is left of them. */
  const room = { characters: MAX_ADDED_CHARACTERS }

  function rewrite(schema: JsonSchema): JsonSchema | false {
    // How zod writes a value that must not be there.
    if (isSchema(schema['not']) && Object.keys(schema['not']).length === 0) return false
    const inner = mapInnerSchemas(schema, rewrite)
    const named = withoutPropertyNames(inner, root, room)
    const supported = drops ? withoutUnsupported(named) : named
    return (closes ? closed : unchanged)(withoutAnnotations(supported))
  }
  return rewrite(root) || root
}

/** Returns the first keyword of a schema that the compiler cannot enforce, with its path; undefined if there is none. */
export function findUnsupportedKeyword(schema: JsonSchema, path = '#'): string | undefined {
  const keyword = Object.keys(schema).find((each) => UNSUPPORTED_KEYWORDS.has(each))
  if (keyword !== undefined) return `the keyword '${keyword}' at ${path} is not supported`
  for (const [step, inner] of innerSchemas(schema)) {
    const found = findUnsupportedKeyword(inner, `${path}/${step}`)
    if (found) return found
  }
  return undefined
}

function unchanged(schema: JsonSchema): JsonSchema {
  return schema
}

/** Tells whether a schema composes objects of parts, which must not be closed each for itself. */
function combinesObjects(schema: JsonSchema): boolean {
  const { allOf } = schema
  const combining = COMBINING.filter((keyword) => keyword in schema).length
  const describes = OF_OBJECTS.some((keyword) => keyword in schema)
  return (
    (combining > 0 && combining + Number(describes) > 1) ||
    (Array.isArray(allOf) && allOf.length > 1) ||
    innerSchemas(schema).some(([, inner]) => combinesObjects(inner))
  )
}

/** Allows the listed properties only, where the schema lists them and says nothing about others. */
function closed(schema: JsonSchema): JsonSchema {
  const { properties, required } = schema
  const saysMore = [
    'additionalProperties',
    'patternProperties',
    'unevaluatedProperties',
    'propertyNames',
    'minProperties',
  ]
  if (!isSchema(properties) || saysMore.some((keyword) => keyword in schema)) return schema
  const isListed = (name: unknown) => Object.hasOwn(properties, String(name))
  if (Array.isArray(required) && !required.every(isListed)) return schema
  return { ...schema, additionalProperties: false }
}

/** Leaves out what constrains nothing here: formats that are not enforced, `uniqueItems: false`; and replaces known patterns. */
function withoutAnnotations(schema: JsonSchema): JsonSchema {
  const { format, pattern, uniqueItems, ...rest } = schema
  const equal = EQUAL_PATTERNS.has(pattern) ? EQUAL_PATTERNS.get(pattern) : pattern
  return {
    ...rest,
    ...(ENFORCED_FORMATS.has(format) || (format !== undefined && typeof format !== 'string')
      ? { format }
      : {}),
    ...(equal === undefined ? {} : { pattern: equal }),
    ...(uniqueItems === undefined || uniqueItems === false ? {} : { uniqueItems }),
  }
}

/** Leaves out keywords and patterns that the compiler does not have. */
function withoutUnsupported(schema: JsonSchema): JsonSchema {
  const { oneOf, ...rest } = schema
  const kept = Object.entries(rest).filter(
    ([keyword, value]) =>
      !UNSUPPORTED_KEYWORDS.has(keyword) &&
      !(
        keyword === 'pattern' &&
        !EQUAL_PATTERNS.has(value) &&
        typeof value === 'string' &&
        looksAround(value)
      ),
  )
  // The compiler takes a `oneOf` only where it sees that its schemas exclude each other.
  const either = oneOf === undefined ? {} : { [rest['anyOf'] === undefined ? 'anyOf' : 'oneOf']: oneOf }
  return { ...Object.fromEntries(kept), ...either }
}

/** Tells whether a pattern uses look-around or a back-reference. */
function looksAround(pattern: string): boolean {
  const unescaped = pattern.replaceAll(/\\[^1-9k]/g, '')
  return /\(\?<?[=!]|\\[1-9k]/.test(unescaped)
}

/**
 * Replaces `propertyNames`: names that are listed become properties with the schema of additional ones, a pattern becomes
 * one of `patternProperties`. Leaves it where this is not possible, or the names would take more than `room`.
 */
function withoutPropertyNames(
  schema: JsonSchema,
  root: JsonSchema,
  room: { characters: number },
): JsonSchema {
  if (!('propertyNames' in schema)) return schema
  const { propertyNames, ...rest } = schema
  const names = resolved(propertyNames, root)
  if (names === true) return rest
  if (!isSchema(names) || (names['type'] ?? 'string') !== 'string') return schema
  const [constraint, ...more] = Object.entries(names).filter(
    ([keyword]) => keyword !== 'type' && !ANNOTATIONS.has(keyword),
  )
  if (!constraint) return rest
  const { properties = {}, additionalProperties: value = true, patternProperties } = rest
  if (more.length > 0 || patternProperties !== undefined || !isSchema(properties)) return schema
  const [keyword, constrained] = constraint
  if (keyword === 'pattern' && typeof constrained === 'string' && Object.keys(properties).length === 0)
    return { ...rest, patternProperties: { [constrained]: value }, additionalProperties: false }
  const listed = keyword === 'const' ? [constrained] : keyword === 'enum' ? constrained : undefined
  if (!Array.isArray(listed)) return schema
  room.characters -= listed.length * JSON.stringify(value).length
  if (room.characters < 0) return schema
  const entries = listed
    .filter((name) => typeof name === 'string')
    .map((name) => [name, Object.hasOwn(properties, name) ? properties[name] : value] as const)
    .filter(([, allowed]) => allowed !== false)
  return { ...rest, properties: Object.fromEntries(entries), additionalProperties: false }
}

/** Returns the definition of the root that a schema refers to; else the schema itself. */
function resolved(schema: unknown, root: JsonSchema): unknown {
  const [, group = '', name = ''] =
    /^#\/(\$defs|definitions)\/([^/~%]+)$/.exec(String(isSchema(schema) && schema['$ref'])) ?? []
  const definitions = root[group]
  return isSchema(definitions) && Object.hasOwn(definitions, name) ? definitions[name] : schema
}
