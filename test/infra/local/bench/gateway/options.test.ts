import { expect, test } from 'vitest'
import { readOptions } from '../../../../../infra/local/bench/gateway/options.ts'

test('without flags there are standards, and folders of others come from the environment', () => {
  expect(readOptions({}, { COPAL_BENCH_PORTKEY: '/portkey', COPAL_BENCH_LITELLM: '' })).toEqual({
    rounds: 5,
    seconds: 3,
    connections: 16,
    prompt: undefined,
    against: undefined,
    portkey: '/portkey',
    litellm: undefined,
    memory: undefined,
  })
})

test('flags come before the environment', () => {
  const flags = {
    rounds: '1',
    seconds: '0.5',
    memory: '100000',
    prompt: '4096',
    portkey: '/mine',
    against: '../old',
  }
  expect(readOptions(flags, { COPAL_BENCH_PORTKEY: '/portkey' })).toMatchObject({
    rounds: 1,
    seconds: 0.5,
    memory: 100_000,
    prompt: 4096,
    portkey: '/mine',
    against: '../old',
  })
})

test.each([
  ['rounds', '1.5', 'a whole number'],
  ['connections', '0', 'a number above 0'],
  ['seconds', 'ten', 'a number above 0'],
  ['memory', '', 'a number above 0'],
])('--%s %j is refused by name', (flag, value, expected) => {
  expect(() => readOptions({ [flag]: value }, {})).toThrow(`--${flag}: ${expected}`)
})
