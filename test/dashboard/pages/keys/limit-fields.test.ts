import { expect, test } from 'vitest'
import {
  limitChangesOf,
  parseLimit,
  textsOf,
  withText,
} from '../../../../gateway/dashboard/src/pages/keys/limit-fields.ts'

test.each([
  ['', null],
  ['100', 100],
  ['1,000', 1_000],
  ['20k', 20_000],
  ['1.5M', 1_500_000],
  ['4.1M', 4_100_000],
  ['16.1k', 16_100],
  ['2b', 2e9],
  ['0', undefined],
  ['-1', undefined],
  ['1.5', undefined],
  ['many', undefined],
  ['2000b', undefined],
])('%j is the limit %s', (text, limit) => {
  expect(parseLimit(text)).toBe(limit)
})

test('only limits that differ are changed, and an emptied field removes one', () => {
  const before = {
    requests_per_minute: 60,
    tokens_per_minute: 1_000,
    tokens_per_month: null,
    concurrent_requests: null,
  }
  const texts = { ...textsOf(before), tokens_per_minute: '', tokens_per_month: '1M' }
  expect(limitChangesOf(texts, before)).toEqual({ tokens_per_minute: null, tokens_per_month: 1_000_000 })
  expect(limitChangesOf({ ...texts, concurrent_requests: 'x' }, before)).toBeUndefined()
})

test('limits are shown with their digits in groups, and read as the same limits', () => {
  const limits = {
    requests_per_minute: 600,
    tokens_per_minute: null,
    tokens_per_month: 1_234_567_891,
    concurrent_requests: 4,
  }
  const texts = textsOf(limits)
  expect(texts).toMatchObject({ requests_per_minute: '600', tokens_per_month: '1,234,567,891' })
  expect(limitChangesOf(texts, limits)).toEqual({})
})

test('two fields that change at once keep both texts', () => {
  const texts = [withText('tokens_per_minute', '5'), withText('tokens_per_month', '7')].reduce(
    (before, change) => change(before),
    textsOf(undefined),
  )
  expect(texts).toMatchObject({ tokens_per_minute: '5', tokens_per_month: '7' })
})
