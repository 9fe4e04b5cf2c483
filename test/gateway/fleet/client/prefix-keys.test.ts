import { promptPrefixKeys } from '@copal/shared/wire/prefix.ts'
import { expect, test } from 'vitest'
import {
  createPrefixSalts,
  hasPrefixKeys,
  prefixKeys,
} from '../../../../gateway/src/fleet/client/prefix-keys.ts'

const SALT = [1, 2] as const
const keysOf = (...parts: (string | number[])[]) => prefixKeys(SALT, parts)
/** Returns a text without repeated parts. */
const text = (length: number) =>
  Array.from({ length }, (_, index) => `${index} `)
    .join('')
    .slice(0, length)

test('a prompt has a key for each doubling of the first prefix length that it reaches', () => {
  expect([0, 511, 512, 1023, 1024, 5_000].map((length) => keysOf(text(length)).length)).toEqual([
    0, 0, 1, 1, 2, 4,
  ])
  expect(hasPrefixKeys(['a'.repeat(300), 'b'.repeat(211)])).toBe(false)
  expect(hasPrefixKeys(['a'.repeat(300), 'b'.repeat(212)])).toBe(true)
  const longest = keysOf('x'.repeat(3_000_000))
  expect(promptPrefixKeys.parse(longest)).toHaveLength(11)
})

test('prompts share only the keys of their common prefixes', () => {
  const [first, second] = [keysOf(`${text(2_100)}a`.padEnd(9_000)), keysOf(`${text(2_100)}b`.padEnd(9_000))]
  expect(second.slice(0, 3)).toEqual(first.slice(0, 3))
  expect(new Set([...first, ...second]).size).toBe(5 + 2)
  // One different unit, or a different end of a part, changes the prefix.
  const whole = text(512)
  const variants = [
    [whole],
    [`!${whole.slice(1)}`],
    [`${whole.slice(0, 511)}!`],
    [whole.slice(0, 200), whole.slice(200)],
    [whole.slice(0, 201), whole.slice(201)],
    ['', whole],
  ]
  expect(new Set(variants.map((parts) => keysOf(...parts)[0])).size).toBe(variants.length)
})

test('token ids are units of their own', () => {
  const ids = Array.from({ length: 600 }, (_, index) => 100_000 + index)
  expect(keysOf(ids)).toHaveLength(1)
  expect(keysOf([...ids.slice(0, 511), 1, ...ids.slice(512)])).not.toEqual(keysOf(ids))
})

test('a hundred thousand texts that differ in a few characters have different keys', () => {
  const seen = new Set<string>()
  const beginning = 'a'.repeat(504)
  for (let index = 0; index < 100_000; index += 1)
    seen.add(keysOf(beginning + String(index).padStart(8))[0] ?? '')
  expect(seen.size).toBe(100_000)
})

test('every tenant has its own keys, which depend on the secret', async () => {
  const salts = createPrefixSalts('a secret of sixteen bytes')
  const [ours, theirs] = [await salts('ours'), await salts('theirs')]
  expect(ours).not.toEqual(theirs)
  expect(await salts('ours')).toEqual(ours)
  expect(await createPrefixSalts('a secret of sixteen bytes')('ours')).toEqual(ours)
  expect(await createPrefixSalts('another of sixteen bytes')('ours')).not.toEqual(ours)
  const prompt = [text(70_000)]
  const keys = [...prefixKeys(ours, prompt), ...prefixKeys(theirs, prompt)]
  expect(new Set(keys).size).toBe(2 * 8)
})
