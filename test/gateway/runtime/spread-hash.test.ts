import { expect, test } from 'vitest'
import { spreadHash } from '../../../gateway/src/runtime/spread-hash.ts'

test('the hash is that of the code points, also of astral ones and of halves of them', () => {
  const fnv = (text: string) => {
    let hash = 0x811c9dc5
    for (const character of text) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193)
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
    return (hash ^ (hash >>> 16)) >>> 0
  }
  const texts = [
    '',
    'ascii',
    'Größe, ね',
    '🙂🙂 two',
    '\ud83d',
    '\ude42 a',
    '\ud83d\ud83d\ude42',
    'end \ud83d',
  ]
  expect(texts.map(spreadHash)).toEqual(texts.map(fnv))
})

test('texts that differ in their last character are spread evenly', () => {
  const counts = Array.from({ length: 10 }, () => 0)
  for (let index = 0; index < 10_000; index++) {
    const bucket = Math.floor((spreadHash(`conversation ${index}`) / 2 ** 32) * 10)
    counts[bucket] = (counts[bucket] ?? 0) + 1
  }
  for (const count of counts) expect(Math.abs(count - 1_000)).toBeLessThan(4 * Math.sqrt(900))
})
