/** The pages on domains quote the replay and the background texts. */
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

test('the background has the texts that the pages tell of, each of them once', () => {
  const texts = JSON.parse(readText('gateway/src/adaptation/discovery/background-texts.json')) as {
    kind: string
    text: string
  }[]
  const excerpts = texts.filter(({ kind }) => kind === 'bundled')
  expect(new Set(texts.map(({ text }) => text)).size).toBe(texts.length)
  const said = `The classifier also learns ${texts.length} texts of no domain`
  expect(readText('docs/domains.md')).toContain(said)
  expect(readText('docs/domains.md')).toContain(
    `70 KB). The default model wrote ${texts.length - excerpts.length} of them`,
  )
  expect(readText('docs/domains.md')).toContain(`; ${excerpts.length} are excerpts`)
  expect(readText(PAGE)).toContain(`trained against ${texts.length} `)
  // They are part of the Worker.
  expect(JSON.stringify(texts).length).toBeLessThan(75_000)
})
