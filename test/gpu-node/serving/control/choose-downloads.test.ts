import { expect, test } from 'vitest'
import { chooseDownloads } from '../../../../gpu-node/src/serving/control/choose-downloads.ts'

const ref = (artifact: string, datasets: string, bytes: number) => ({
  artifact,
  domain: 'legal',
  datasets: Array.from(datasets),
  bytes,
})
const chosen = (stored: ReturnType<typeof ref>[], missing: string, held: string[] = []) =>
  chooseDownloads(
    stored,
    Array.from(missing),
    held.map((datasets) => Array.from(datasets)),
  ).map(({ artifact }) => artifact)

test('one sum of everything is fetched rather than its parts, if that is fewer bytes', () => {
  const parts = [ref('a', 'a', 10), ref('b', 'b', 10), ref('c', 'c', 10)]
  expect(chosen([...parts, ref('abc', 'abc', 20)], 'abc')).toEqual(['abc'])
  expect(chosen([...parts, ref('abc', 'abc', 60)], 'abc').toSorted()).toEqual(['a', 'b', 'c'])
})

test('no dataset is fetched twice', () => {
  expect(chosen([ref('ab', 'ab', 10), ref('bc', 'bc', 12), ref('c', 'c', 30)], 'abc')).toEqual(['ab', 'c'])
})

test('what is on disk is fetched again only as part of a sum that contains all of its artifact', () => {
  expect(chosen([ref('ab', 'ab', 10)], 'b', ['a'])).toEqual(['ab'])
  expect(chosen([ref('ab', 'ab', 10)], 'b', ['ac'])).toEqual([])
  expect(chosen([ref('a', 'a', 10)], '', ['a'])).toEqual([])
})

test('the artifacts of a year are chosen at once, because the streams of the node wait meanwhile', () => {
  const name = (update: number, text: number) => `${update}:${text}`
  const updates = Array.from({ length: 500 }, (_, update) => ({
    artifact: String(update).padStart(3, '0'),
    domain: 'legal',
    datasets: Array.from({ length: 40 }, (__, text) => name(update, text)),
    bytes: 1_000,
  }))
  const startedMs = performance.now()
  expect(
    chooseDownloads(
      updates,
      updates.flatMap(({ datasets }) => datasets),
      [],
    ),
  ).toEqual(updates)
  expect(performance.now() - startedMs).toBeLessThan(2_000)
})
