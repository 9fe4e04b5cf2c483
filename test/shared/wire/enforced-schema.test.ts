import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { enforcedSchema } from '@copal/shared/wire/enforced-schema.ts'
import { findUnenforced } from '@copal/shared/wire/json-schema.ts'

const enforced = (schema: object, drops = false) => enforcedSchema({ ...schema }, { drops })
const EMAIL = String.raw`^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$`

describe('names of properties', () => {
  const integer = { type: 'integer' }

  test.each<[string, object, object]>([
    ['any', { propertyNames: { type: 'string', title: 'Name' } }, {}],
    ['true', { propertyNames: true }, {}],
    [
      'a list',
      { propertyNames: { enum: ['a', 'b'] }, required: ['a'] },
      { properties: { a: integer, b: integer }, required: ['a'] },
    ],
    ['one name', { propertyNames: { const: 'a' } }, { properties: { a: integer } }],
    [
      'a list beside properties, of which only those in the list can occur',
      { propertyNames: { enum: ['b', 'a'] }, properties: { a: { type: 'null' }, c: { type: 'null' } } },
      { properties: { b: integer, a: { type: 'null' } } },
    ],
    [
      'a pattern',
      { propertyNames: { type: 'string', pattern: '^x' } },
      { patternProperties: { '^x': integer } },
    ],
  ])('of %s are written as properties', (_name, fields, expected) => {
    const closes = 'properties' in expected || 'patternProperties' in expected
    expect(enforced({ type: 'object', additionalProperties: integer, ...fields })).toEqual({
      type: 'object',
      ...expected,
      additionalProperties: closes ? false : integer,
    })
  })

  test('that refer to a definition are those of the definition, as pydantic writes a dictionary of an enumeration', () => {
    const schema = {
      properties: {
        d: { type: 'object', propertyNames: { $ref: '#/$defs/K' }, additionalProperties: integer },
      },
      $defs: { K: { enum: ['x', 'y'], type: 'string', title: 'K' } },
    }
    expect(enforced(schema)).toHaveProperty('properties.d.properties', { x: integer, y: integer })
  })

  test.each([
    { propertyNames: { minLength: 2 } },
    { propertyNames: { type: 'string', enum: ['a'], pattern: 'a' } },
    { propertyNames: { enum: ['a'] }, patternProperties: { a: {} } },
    { propertyNames: { $ref: '#/$defs/none' } },
  ])('that cannot be written so are not supported: %j', (schema) => {
    expect(findUnenforced(schema)).toBe("the keyword 'propertyNames' at # is not supported")
  })

  test('that would make the schema far longer are not supported', () => {
    const names = Array.from({ length: 1000 }, (_, index) => `name-${index}`)
    const value = { const: 'x'.repeat(100) }
    const schema = { propertyNames: { enum: names }, additionalProperties: value }
    expect(findUnenforced(schema)).toMatch(/'propertyNames' at #/)
    expect(findUnenforced({ ...schema, propertyNames: { enum: names.slice(0, 100) } })).toBeUndefined()
  })
})

describe('objects that list their properties', () => {
  const listed = { type: 'object', properties: { a: { type: 'object', properties: {} } } }

  test('have no others, at any depth', () => {
    expect(enforced(listed)).toEqual({
      type: 'object',
      properties: { a: { type: 'object', properties: {}, additionalProperties: false } },
      additionalProperties: false,
    })
  })

  test.each([
    { type: 'object' },
    { properties: {}, additionalProperties: true },
    { properties: {}, additionalProperties: { type: 'string' } },
    { properties: {}, patternProperties: { a: {} } },
    { properties: {}, required: ['a'] },
    { properties: { a: true }, minProperties: 2 },
  ])('keep what the schema says about others: %j', (schema) => expect(enforced(schema)).toEqual(schema))

  test.each([
    { allOf: [{ properties: { a: {} } }, { properties: { b: {} } }] },
    { properties: { a: {} }, anyOf: [{ properties: { b: {} } }] },
    { $ref: '#/$defs/x', properties: { a: {} }, $defs: { x: { properties: { b: {} } } } },
    { anyOf: [{ properties: { a: {} } }], required: ['b'] },
  ])('stay open where objects are composed of parts: %j', (schema) =>
    expect(enforced(schema)).toEqual(schema),
  )

  test('are closed inside a choice and a reference with annotations, as pydantic writes optional models', () => {
    const schema = {
      properties: { c: { anyOf: [{ $ref: '#/$defs/x' }, { type: 'null' }], default: null, title: 'C' } },
      $defs: { x: { properties: { b: {} } } },
    }
    expect(enforced(schema)).toMatchObject({
      additionalProperties: false,
      $defs: { x: { additionalProperties: false } },
    })
  })
})

describe('what constrains nothing is left out', () => {
  test('other formats, which are annotations, and the supported ones stay', () => {
    expect(enforced({ type: 'string', format: 'password', pattern: '^a' })).toEqual({
      type: 'string',
      pattern: '^a',
    })
    expect(enforced({ type: 'string', format: 'uuid' })).toEqual({ type: 'string', format: 'uuid' })
    expect(enforced({ properties: { format: { const: 'csv' } } })).toHaveProperty('properties.format')
  })

  test('items that need not be unique, and values that must not be there', () => {
    expect(enforced({ items: { type: 'string' }, uniqueItems: false })).toEqual({ items: { type: 'string' } })
    expect(findUnenforced({ uniqueItems: true })).toBe("the keyword 'uniqueItems' at # is not supported")
    expect(enforced({ properties: { a: { not: {} } } })).toHaveProperty('properties.a', false)
    expect(findUnenforced({ not: {} })).toBe("the keyword 'not' at # is not supported")
  })

  test('data that only looks like a schema stays', () => {
    const schema = {
      const: { format: 'x', not: {} },
      enum: [{ uniqueItems: false }],
      default: { properties: {} },
    }
    expect(enforced(schema)).toEqual(schema)
  })
})

test('patterns of zod are replaced by equal ones without look-around', () => {
  const { pattern } = enforced({ type: 'string', format: 'email', pattern: EMAIL })
  expect(pattern).not.toMatch(/\(\?[!=]/)
  const [theirs, ours] = [new RegExp(EMAIL), new RegExp(String(pattern))]
  const parts = ['a', "'", '.', '-', '@', 'b.c', '.de', '!', '']
  let matches = 0
  for (let index = 0; index < parts.length ** 5; index++) {
    const text = [0, 1, 2, 3, 4]
      .map((at) => parts[Math.floor(index / parts.length ** at) % parts.length])
      .join('')
    if (ours.test(text) !== theirs.test(text)) throw new Error(`${text} fits one pattern only`)
    if (ours.test(text)) matches += 1
  }
  expect(matches).toBeGreaterThan(100)
  const duration = z.toJSONSchema(z.iso.duration())
  expect(duration.pattern).toMatch(/\(\?[!=]/)
  expect(enforced(duration)).not.toHaveProperty('pattern')
})

describe('a schema that need not be followed strictly', () => {
  test('loses the keywords that are not supported', () => {
    const schema = {
      properties: {
        tags: { type: 'array', uniqueItems: true, contains: { const: 'a' }, items: { not: { const: 'b' } } },
        either: { oneOf: [{ type: 'string', minLength: 2 }, { type: 'string' }] },
        names: { propertyNames: { minLength: 2 } },
      },
      dependentRequired: { tags: ['either'] },
    }
    expect(enforced(schema, true)).toEqual({
      properties: {
        tags: { type: 'array', items: {} },
        either: { anyOf: [{ type: 'string', minLength: 2 }, { type: 'string' }] },
        names: {},
      },
      additionalProperties: false,
    })
  })

  test.each([
    [String.raw`^(?!a)b`, false],
    [String.raw`(?<=a)b`, false],
    [String.raw`(a)\1`, false],
    [String.raw`^(?:a|b)\(?=?$`, true],
    [String.raw`\\d(?<name>a)`, true],
  ])('keeps the pattern %s: %j', (pattern, kept) => {
    expect('pattern' in enforced({ type: 'string', pattern }, true)).toBe(kept)
  })

  test('is not closed where dropped keywords may name properties', () => {
    const schema = { properties: { a: {} }, dependentSchemas: { a: { properties: { b: {} } } } }
    expect(enforced(schema, true)).toEqual({ properties: { a: {} } })
  })
})
