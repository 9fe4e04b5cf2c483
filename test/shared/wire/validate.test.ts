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
  [{ model: 3 }, "Invalid 'model': expected a string, got number."],
  [{ model: 'm', patterns: [] }, "Invalid 'patterns': expected an object, got array."],
  [{ model: 'm', n: 'x' }, "Invalid 'n': expected a number, got string."],
  [[], 'Invalid request body: expected an object, got array.'],
  [undefined, 'Invalid request body: it is missing.'],
])('%j is rejected in plain words', (value, message) => {
  expect(() => validate(schema, value)).toThrow(message)
})
