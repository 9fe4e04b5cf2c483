import { expect, test } from 'vitest'
import { createDraftLookup, MATCH_LENGTHS } from '../../../../gpu-node/src/serving/engine/draft-lookup.ts'
import { createRandom } from '../../../support/harness/random.ts'

/** Tokens that are indexed in a call, where all shall be. */
const ALL = 1e6
const range = (from: number, count: number) => Array.from({ length: count }, (_, index) => from + index)

test('the longest match of the last tokens wins over a later and shorter one', () => {
  const [long, , short] = MATCH_LENGTHS
  const text = [
    ...range(10, long),
    100,
    101,
    ...range(10 + long - short, short),
    200,
    201,
    ...range(10, long),
  ]
  expect(createDraftLookup().find(text, 2, ALL)).toEqual({ tokens: [100, 101], source: 0 })
  expect(createDraftLookup().find(text.slice(long - short), 2, ALL)?.tokens).toEqual([200, 201])
})

test('of equal matches the latest counts', () => {
  const text = [1, 2, 30, 1, 2, 40, 1, 2]
  expect(createDraftLookup().find(text, 3, ALL)).toEqual({
    tokens: [40, 1, 2],
    source: MATCH_LENGTHS.length - 1,
  })
})

test('a text that repeats itself goes on repeating', () => {
  expect(createDraftLookup().find([9, 5, 6, 7, 5, 6], 7, ALL)?.tokens).toEqual([7, 5, 6, 7, 5, 6, 7])
  expect(createDraftLookup().find([4, 4, 4], 3, ALL)?.tokens).toEqual([4, 4, 4])
})

test.each([[[]], [[1]], [[1, 2]], [[1, 2, 3, 4]]])('the text %j repeats nothing', (text) => {
  expect(createDraftLookup().find(text, 4, ALL)).toBeUndefined()
})

test('a text that grew is looked up as a new one', () => {
  const random = createRandom(3)
  const lookup = createDraftLookup()
  const text: number[] = []
  let found = 0
  for (let step = 0; step < 300; step++) {
    text.push(...Array.from({ length: 1 + Math.floor(random() * 3) }, () => Math.floor(random() * 12)))
    const draft = lookup.find(text, 4, ALL)
    expect(draft).toEqual(createDraftLookup().find(text, 4, ALL))
    if (draft) found += 1
  }
  expect(found).toBeGreaterThan(100)
})

test('a long text is indexed in parts, and drafts of the first part go on behind it', () => {
  const prompt = range(0, 20_000)
  const lookup = createDraftLookup(prompt.length)
  const text = [...prompt, 15_000, 15_001]
  for (let call = 0; call < 3; call++) expect(lookup.find(text, 1, 4_500)).toBeUndefined()
  expect(lookup.find(text, 1, 4_500)?.tokens).toEqual([15_002])
  const end = [...prompt, 17_996, 17_997]
  expect(lookup.find(end, 3, 0)?.tokens).toEqual([17_998, 17_999, 18_000])
})

test('a prediction is drafted from the first token on, and before what followed in the prompt', () => {
  const prompt = [1, 2, 3, 4, 5, 1, 2, 9]
  const lookup = createDraftLookup(prompt.length, [60, 1, 2, 70, 71])
  expect(lookup.find(prompt, 3, ALL)?.tokens).toEqual([60, 1, 2])
  expect(lookup.find([...prompt, 60, 1, 2], 2, ALL)?.tokens).toEqual([70, 71])
  expect(lookup.find([...prompt, 60, 1, 2, 3, 4], 2, ALL)?.tokens).toEqual([5, 1])
  expect(lookup.find([...prompt, 60, 1, 2, 3, 4, 1, 2], 2, ALL)?.tokens).toEqual([3, 4])
})

test('a prediction of a prompt of one token is found', () => {
  expect(createDraftLookup(1, [5, 6, 7]).find([8, 5, 6], 1, ALL)?.tokens).toEqual([7])
})
