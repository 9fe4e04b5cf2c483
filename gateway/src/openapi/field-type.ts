import type { JsonSchema } from './openapi-schema.ts'

/** The bounds that zod writes for integers without bounds of their own. */
const UNBOUNDED = new Set([Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER])

/** Describes a JSON Schema in a few words: `integer from 1 to 16`, `list of text`, `"auto" or "none"`. Omits null. */
export function fieldType(schema: JsonSchema): string {
  const { anyOf, oneOf, const: constant, enum: values, items } = schema
  // A nullable type is a list of two types.
  const type = Array.isArray(schema['type']) ? schema['type'].find((one) => one !== 'null') : schema['type']
  const choices = (anyOf ?? oneOf) as JsonSchema[] | undefined
  if (choices) {
    const types = choices.filter((choice) => choice['type'] !== 'null').map((choice) => fieldType(choice))
    return [...new Set(types)].join(' or ')
  }
  if (constant !== undefined) return JSON.stringify(constant)
  if (Array.isArray(values)) return values.map((value) => JSON.stringify(value)).join(' or ')
  switch (type) {
    case 'string':
      return `text${bounds(schema['minLength'], schema['maxLength'], ' characters')}`
    case 'integer':
    case 'number':
      return `${String(type)}${bounds(schema['minimum'] ?? schema['exclusiveMinimum'], schema['maximum'] ?? schema['exclusiveMaximum'])}`
    case 'boolean':
      return 'true or false'
    case 'array': {
      const of = items as JsonSchema | undefined
      return of && !('not' in of) ? `list of ${fieldType(of)}` : 'empty list'
    }
    case 'object':
      return objectType(schema)
    case 'null':
      return ''
    default:
      return 'anything'
  }
}

function objectType({ properties, additionalProperties }: JsonSchema): string {
  const names = Object.keys(properties ?? {})
  if (names.length > 0) return `{ ${names.join(', ')} }`
  return typeof additionalProperties === 'object' && additionalProperties !== null
    ? `pairs of ${fieldType(additionalProperties as JsonSchema)}`
    : 'object'
}

function bounds(min: unknown, max: unknown, unit = ''): string {
  const low = typeof min === 'number' && !UNBOUNDED.has(min) ? min : undefined
  const high = typeof max === 'number' && !UNBOUNDED.has(max) ? max : undefined
  if (low !== undefined && high !== undefined) return ` from ${low} to ${high}${unit}`
  if (high !== undefined) return ` of at most ${high}${unit}`
  return low === undefined ? '' : ` of at least ${low}${unit}`
}
