import { describe, expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import { jsonSchema } from '@copal/shared/wire/json-schema.ts'
import { mapRefs } from '@copal/shared/wire/schema-walk.ts'
import { validate } from '@copal/shared/wire/validate.ts'

function errorOf(schema: unknown): string {
  try {
    validate(jsonSchema, schema)
  } catch (error) {
    if (error instanceof AppError) return error.message
    throw error
  }
  return ''
}

describe('a keyword that the output cannot be constrained to is rejected with its path', () => {
  test.each<[object, string]>([
    [{ not: {} }, "'not' at #"],
    [{ properties: { a: { anyOf: [{ type: 'string' }, { if: {} }] } } }, "'if' at #/properties/a/anyOf/1"],
    [{ items: { uniqueItems: true } }, "'uniqueItems' at #/items"],
    [{ $defs: { x: { prefixItems: [true, { contains: {} }] } } }, "'contains' at #/$defs/x/prefixItems/1"],
  ])('%j', (schema, message) => expect(errorOf(schema)).toContain(message))
})

test('names and data that only look like keywords are accepted', () => {
  const schema = {
    properties: { not: { type: 'string' }, if: { const: { not: 1 } } },
    default: { contains: 1 },
    examples: [{ not: {} }],
    required: ['not'],
    nullable: true,
  }
  expect(errorOf(schema)).toBe('')
  expect(validate(jsonSchema, schema)).toEqual(schema)
})

test('schemas that are not objects, too deep or too long are rejected', () => {
  expect(errorOf('string')).toMatch(/expected a JSON schema object/)
  expect(errorOf([])).toMatch(/expected a JSON schema object/)
  let deep: object = {}
  for (let level = 0; level < 5000; level++) deep = { items: deep }
  expect(errorOf(deep)).toMatch(/more than 64 levels deep/)
  expect(errorOf({ description: 'x'.repeat(70_000) })).toMatch(/more than 65536 characters/)
})

test('only real references are changed, and the order of properties stays', () => {
  const schema = {
    $ref: '#/$defs/a',
    const: { $ref: '#/no' },
    properties: { $ref: { $ref: '#' }, b: { items: [{ $ref: '#/x' }], enum: [{ $ref: '#/no' }] } },
    $defs: { a: { anyOf: [{ $ref: '#/y' }, true] } },
  }
  const changed = mapRefs(schema, (ref) => `${ref}!`)
  expect(changed).toEqual({
    $ref: '#/$defs/a!',
    const: { $ref: '#/no' },
    properties: { $ref: { $ref: '#!' }, b: { items: [{ $ref: '#/x!' }], enum: [{ $ref: '#/no' }] } },
    $defs: { a: { anyOf: [{ $ref: '#/y!' }, true] } },
  })
  expect(Object.keys(changed)).toEqual(Object.keys(schema))
})
