/** The page on poison quotes its measurement, and what one key moves is small. */
import { expect, test } from 'vitest'
import { readText, tableWith } from './markdown.ts'

const PAGE = 'docs/measurements/poison.md'
/** Most that poison may move the perplexity of the domain's next mask by. */
const MAX_MOVE = 0.01

interface Row {
  poison: string | null
  sender: string | null
  described: boolean
  requests: number
  draws: {
    seed: string
    share: number
    share_before: number
    review: number
    perplexity: number
    perplexity_before: number | null
  }[]
}
const { rows } = JSON.parse(readText('docs/results/poison/poison.json')) as { rows: Row[] }
const clean = new Map(rows.find(({ poison }) => poison === null)?.draws.map((draw) => [draw.seed, draw]))
const percent = (share: number) => `${(share * 100).toFixed(1)} %`

test('30 % of the requests, by one key, move the perplexity of the next mask by less than 1 %', () => {
  const described = rows.filter(({ sender, described: isDescribed }) => sender === 'one key' && isDescribed)
  expect(new Set(described.map(({ poison }) => poison))).toEqual(
    new Set(['random tokens', 'one repeated text', '16 KB texts']),
  )
  for (const { requests, draws } of described) {
    expect(requests).toBeCloseTo(0.3, 2)
    for (const { seed, perplexity, share } of draws) {
      expect(share).toBeLessThanOrEqual(0.1)
      expect(Math.abs(perplexity / (clean.get(seed)?.perplexity ?? 0) - 1)).toBeLessThan(MAX_MOVE)
    }
  }
})

test(`the table of ${PAGE} is that of the measurement`, () => {
  expect(tableWith(readText(PAGE), 'Poison', 'Perplexity before').rows).toEqual(
    rows.flatMap(({ poison, sender, described, requests, draws }) =>
      draws.map((draw) => [
        poison ?? 'none',
        sender ?? '–',
        draw.seed,
        described ? 'yes' : 'no',
        percent(requests),
        percent(draw.share_before),
        percent(draw.share),
        String(draw.review),
        draw.perplexity_before === null ? '–' : draw.perplexity_before.toFixed(2),
        draw.perplexity.toFixed(2),
      ]),
    ),
  )
})
