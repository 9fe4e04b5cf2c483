import { z } from 'zod'
import { enforcedSchema, findUnsupportedKeyword } from './enforced-schema.ts'
import type { JsonSchema } from './schema-walk.ts'

/** Upper bounds of the schemas of one request; the node also limits the cost of compiling them. */
export const SCHEMA_LIMITS = {
  /** Characters of all schemas together, as compact JSON. */
  characters: 64 * 1024,
  /** Nesting of objects and arrays. */
  depth: 64,
  tools: 128,
} as const

/** A JSON Schema within the limits of size. */
export const boundedSchema = z
  .record(z.string(), z.unknown(), 'expected a JSON schema object')
  .superRefine((schema, context) => {
    const reason = exceedsDepth(schema, SCHEMA_LIMITS.depth)
      ? `the schema is nested more than ${SCHEMA_LIMITS.depth} levels deep`
      : schemaCharacters(schema) > SCHEMA_LIMITS.characters
        ? `the schema has more than ${SCHEMA_LIMITS.characters} characters`
        : undefined
    // Later checks recurse and would overflow the stack.
    if (reason) context.addIssue({ code: 'custom', message: reason, continue: false })
  })

/** A JSON Schema that the output can be constrained to, as far as its keywords show. */
export const jsonSchema = boundedSchema.superRefine((schema, context) => {
  const message = findUnenforced(schema)
  if (message) context.addIssue({ code: 'custom', message })
})

/** Returns why the output cannot be constrained to a schema, as far as its keywords show. */
export function findUnenforced(schema: JsonSchema): string | undefined {
  return findUnsupportedKeyword(enforcedSchema(schema, { drops: false }))
}

/** Returns the length of a schema as compact JSON. */
export function schemaCharacters(schema: JsonSchema): number {
  return JSON.stringify(schema).length
}

function exceedsDepth(value: unknown, maxDepth: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  return maxDepth === 0 || Object.values(value).some((inner) => exceedsDepth(inner, maxDepth - 1))
}
