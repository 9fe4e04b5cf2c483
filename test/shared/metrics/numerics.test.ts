import { expect, test } from 'vitest'
import { numericsOf, sameNumerics } from '@copal/shared/metrics/numerics.ts'

test('the form is part of the numerics of int4 alone', () => {
  const head = { headPrecision: 'int8' } as const
  expect(numericsOf({ precision: 'int4', ...head, form: 'packed' })).toBe('int4 packed 2, head int8')
  expect(numericsOf({ precision: 'int4', ...head })).toBe('int4, head int8')
  for (const form of ['packed', 'dense', 'both', undefined] as const)
    expect(numericsOf({ precision: 'bf16', ...head, form })).toBe('bf16, head int8')
})

test('keys and values are part of the numerics where they are not in f16', () => {
  const stored = { precision: 'bf16', headPrecision: 'int8' } as const
  expect(numericsOf({ ...stored, kvPrecision: 'f16' })).toBe('bf16, head int8')
  expect(numericsOf({ ...stored, kvPrecision: 'int8' })).toBe('bf16, head int8, keys int8')
})

test.each([
  ['int4 packed 2, head int8', 'int4 packed 2, head int8', true],
  ['int4 packed 2, head int8', 'int4 packed, head int8', false],
  ['int4 packed 2, head int8', 'int4 dense, head int8', false],
  // The dense model has no form.
  ['int4 packed 2, head int8', 'int4, head int8', true],
  ['int4 packed, head int8', 'int4, head int8', true],
  ['int4, head int8', 'int4 dense, head int8', true],
  ['int4 packed 2, head int8', 'int4, head bf16', false],
  ['int8, head int8', 'bf16, head int8', false],
  ['int4 packed 2, head int8, keys int8', 'int4, head int8, keys int8', true],
  ['bf16, head int8, keys int8', 'bf16, head int8', false],
  ['bf16, head int8', null, false],
  [null, null, true],
])('losses of %s and %s can be compared: %s', (a, b, same) => {
  expect(sameNumerics(a, b)).toBe(same)
  expect(sameNumerics(b, a)).toBe(same)
})
