import { expect, test } from 'vitest'
import { z } from 'zod'
import { validate } from '@copal/shared/wire/validate.ts'

const schema = z.object({
  model: z.string(),
  patterns: z.record(z.string(), z.string()).optional(),
  n: z.int().optional(),
  temperature: z.number().min(0).max(2).optional(),
  share: z.number().gt(0).lt(1).optional(),
  name: z.string().max(4).optional(),
  list: z.array(z.string()).min(1).max(2).optional(),
  policy: z.enum(['never', 'opt_in']).optional(),
  kind: z.literal('text').optional(),
  confirm: z.union([z.literal('auto'), z.literal([1, 2])]).optional(),
  weights: z.union([z.enum(['equal', 'traffic']), z.record(z.string(), z.number())]).optional(),
  enabled: z.boolean().optional(),
  own: z.union([z.string(), z.number()], { error: 'say what' }).optional(),
  form: z.discriminatedUnion('type', [z.object({ type: z.literal('text') })]).optional(),
})

test.each([
  [{}, "'model' is missing."],
  [{ model: 3 }, "Invalid 'model': expected a string, got number."],
  [{ model: 'm', patterns: [] }, "Invalid 'patterns': expected an object, got array."],
  [{ model: 'm', n: 'x' }, "Invalid 'n': expected a number, got string."],
  [{ model: 'm', n: Infinity }, "Invalid 'n': expected a number, got infinity."],
  [{ model: 'm', temperature: 5 }, "Invalid 'temperature': expected a number of at most 2."],
  [{ model: 'm', temperature: -0.5 }, "Invalid 'temperature': expected a number of at least 0."],
  [{ model: 'm', share: 0 }, "Invalid 'share': expected a number of more than 0."],
  [{ model: 'm', share: 1 }, "Invalid 'share': expected a number of less than 1."],
  [{ model: 'm', name: 'abcde' }, "Invalid 'name': expected at most 4 characters."],
  [{ model: 'm', list: [] }, "Invalid 'list': expected at least 1 item."],
  [{ model: 'm', list: ['a', 'b', 'c'] }, "Invalid 'list': expected at most 2 items."],
  [{ model: 'm', policy: 'x' }, "Invalid 'policy': expected one of 'never', 'opt_in'."],
  [{ model: 'm', kind: 'x' }, "Invalid 'kind': expected 'text'."],
  [{ model: 'm', confirm: 7 }, "Invalid 'confirm': expected 'auto', 1 or 2."],
  [{ model: 'm', weights: 'x' }, "Invalid 'weights': expected 'equal', 'traffic' or an object."],
  [{ model: 'm', weights: { a: 'x' } }, "Invalid 'weights.a': expected a number, got string."],
  [{ model: 'm', enabled: 'maybe' }, "Invalid 'enabled': expected true or false, got string."],
  [{ model: 'm', own: true }, "Invalid 'own': say what."],
  [{ model: 'm', form: { type: 'x' } }, "Invalid 'form.type': Invalid discriminator value. Expected 'text'."],
  [[], 'Invalid request body: expected an object, got array.'],
  [undefined, 'Invalid request body: it is missing.'],
])('%j is rejected in plain words', (value, message) => {
  expect(() => validate(schema, value)).toThrow(message)
})
