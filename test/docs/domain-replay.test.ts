/** The page on domains quotes its replay. */
import { expect, test } from 'vitest'
import { readText, tableWith } from './markdown.ts'

interface Case {
  known: string[]
  tokens: number
  draws: { right: number; nearest: number; unknown_rejected: Record<string, number> }[]
  clusters: object[]
  purity: number
}

const PAGE = 'docs/measurements/domains.md'
const { cases } = JSON.parse(readText('docs/results/domains/replay.json')) as { cases: Case[] }
const percent = (shares: readonly number[]) =>
  `${((100 * shares.reduce((sum, share) => sum + share, 0)) / shares.length).toFixed(1)} %`

test(`the table of ${PAGE} is that of the replay`, () => {
  expect(tableWith(readText(PAGE), 'Known', 'Purity').rows).toEqual(
    cases.map(({ known, tokens, draws, purity, clusters }) => [
      known.join(', '),
      String(tokens),
      percent(draws.map(({ right }) => right)),
      percent(draws.map(({ nearest }) => nearest)),
      percent([purity]),
      String(clusters.length),
      Object.keys(draws[0]?.unknown_rejected ?? {})
        .map((kind) => `${kind} ${percent(draws.map((draw) => draw.unknown_rejected[kind] ?? 0))}`)
        .join(', '),
    ]),
  )
})
