import { expect, test } from 'vitest'
import type { SettingSchema } from '../../../../gateway/dashboard/src/pages/policy/policy-schema.ts'
import {
  formatValue,
  hintOf,
  readValue,
  textOf,
} from '../../../../gateway/dashboard/src/pages/policy/setting-values.ts'
import type { Unit } from '../../../../gateway/dashboard/src/pages/policy/setting-words.ts'

/** Replaces the spaces that keep a number and its unit together. */
const plain = (text: string) => text.replaceAll('\u202F', ' ')

test.each([
  [0.9999, 'share', '99.99 %'],
  [1.08, 'above', '8 %'],
  [1, 'above', '0 %'],
  [60, 'minutes', '1 h'],
  [90, 'minutes', '1 h 30 min'],
  [10.5, 'minutes', '10.5 min'],
  [1441, 'minutes', '1,441 min'],
  [7 * 24 * 60, 'minutes', '7 d'],
  [1, 'days', '1 day'],
  [30, 'days', '30 days'],
  [0.5, 'nats', '0.5 nats a token'],
  [20_000, 'plain', '20,000'],
  [123_456, 'plain', '123,456'],
  [null, 'days', 'none'],
  [false, 'plain', 'no'],
  ['0 3 * * *', 'plain', '0 3 * * *'],
  [{ legal: 2, code: 0.5 }, 'plain', 'legal 2, code 0.5'],
] as const)('%j in %s is %s', (value, unit, text) => {
  expect(plain(formatValue(value, { unit }))).toBe(text)
})

const number = (min: number, max: number, isWhole = false, isExclusive = false): SettingSchema => ({
  description: '',
  isNullable: false,
  values: {
    kind: 'number',
    isWhole,
    min: { value: min, isExclusive },
    max: { value: max, isExclusive: false },
  },
})
const read = (text: string, schema: SettingSchema, unit: Unit = 'plain') =>
  readValue(text, schema, { label: '', unit })

test('shares and ratios are set in per cent, and are those of the API without noise', () => {
  for (const ratio of [1.01, 1.05, 1.08, 1.1, 1.5, 3.3])
    expect(read(textOf(ratio, 'above'), number(1, 10), 'above')).toEqual({ value: ratio })
  for (const share of [0.003, 0.07, 0.1, 0.29, 0.9999])
    expect(read(textOf(share, 'share'), number(0, 1), 'share')).toEqual({ value: share })
  expect(textOf(1.08, 'above')).toBe('8')
})

test('a number outside of its limits is named with them, in the unit of the form', () => {
  expect(read('901', number(1, 10), 'above')).toEqual({ problem: 'Expected per cent, from 0 to 900.' })
  expect(read('-1', number(1, 10), 'above')).toHaveProperty('problem')
  expect(read('0', number(0, 1, false, true), 'share')).toEqual({
    problem: 'Expected per cent, above 0 and at most 100.',
  })
  expect(read('1.5', number(1, 3, true))).toEqual({ problem: 'Expected a whole number, from 1 to 3.' })
  for (const text of ['', '1,5', '5 %', '1e3', 'many'])
    expect(read(text, number(0, 9))).toHaveProperty('problem')
  expect(read('20,000', number(0, 1e6))).toEqual({ value: 20_000 })
})

test('only a setting that may be none is emptied', () => {
  const text: SettingSchema = { description: '', isNullable: true, values: { kind: 'text' } }
  expect(read(' ', text)).toEqual({ value: null })
  expect(read(' 22:00-06:00 ', text)).toEqual({ value: '22:00-06:00' })
  expect(read('', { ...text, isNullable: false })).toHaveProperty('problem')
  expect(hintOf(text, { unit: 'plain' })).toBe('Empty for none.')
  expect(hintOf(text, { unit: 'plain', none: 'the best one offered' })).toBe(
    'Empty for the best one offered.',
  )
  expect(hintOf({ ...number(0, 3650, false, true), isNullable: true }, { unit: 'days' })).toBe(
    'Days, above 0 and at most 3,650; empty for none.',
  )
})

test('a choice keeps the type of its values, and weights of single domains are none of them', () => {
  const confirm: SettingSchema = {
    description: '',
    isNullable: false,
    values: { kind: 'choice', choices: [1, 2, 'auto'] },
  }
  expect(read('2', confirm)).toEqual({ value: 2 })
  expect(read('auto', confirm)).toEqual({ value: 'auto' })
  expect(textOf({ legal: 2 }, 'plain')).toBe('')
  expect(read('', confirm)).toHaveProperty('problem')
  expect(read('false', { ...confirm, values: { kind: 'switch' } })).toEqual({ value: false })
})
