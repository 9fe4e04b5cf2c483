import { expect, test } from 'vitest'
import { z } from 'zod'
import { validate } from '@copal/shared/wire/validate.ts'

const schema = z.object({
  model: z.string(),
  patterns: z.record(z.string(), z.string()).optional(),
  n: z.int().optional(),
})

test.each([
  [{}, "'model' is missing."],
  [{ model: 3 }, "Invalid 'model': a string is expected, not number."],
  [{ model: 'm', patterns: [] }, "Invalid 'patterns': an object is expected, not array."],
  [{ model: 'm', n: 'x' }, "Invalid 'n': a number is expected, not string."],
  [[], 'Invalid request body: an object is expected, not array.'],
  [undefined, 'Invalid request body: it is missing.'],
])('%j is refused in words', (value, message) => {
  expect(() => validate(schema, value)).toThrow(message)
})
