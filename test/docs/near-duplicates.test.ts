/** The share of different texts that the recognition of near-duplicates drops: the committed figures are those of the code, and small. */
import { expect, test } from 'vitest'
import { readText, tableWith } from './markdown.ts'
import { measureFixtures, measureTemplates, type Dropped } from './replay/near-duplicates.ts'

const PAGE = 'docs/measurements/poison.md'
/** Kinds of text that repeat boilerplate. */
const REPETITIVE = ['manual', 'licence']
const MAX_DROPPED = 0.02

const results = JSON.parse(readText('docs/results/poison/near-duplicates.json')) as {
  packaged: ({ text: string; package: string } & Dropped)[]
  fixtures: Record<string, Dropped>
  templates: ({ system: number; exchange: number } & Dropped)[]
}
const percent = ({ texts, dropped }: Dropped) => `${((100 * dropped) / texts).toFixed(1)} %`

test('of prose none is dropped, as committed', () => {
  expect(measureFixtures()).toEqual(results.fixtures)
  for (const { dropped } of Object.values(results.fixtures)) expect(dropped).toBe(0)
})

test('of packaged mail, code, news and fiction at most 2 % is dropped', () => {
  const ordinary = results.packaged.filter(({ text }) => !REPETITIVE.includes(text))
  expect(ordinary.length).toBe(6)
  for (const { texts, dropped } of ordinary) expect(dropped / texts).toBeLessThanOrEqual(MAX_DROPPED)
})

test('texts that begin alike are kept while at most two thirds of them are the same, as committed', () => {
  expect(measureTemplates()).toEqual(results.templates)
  const short = results.templates.filter(({ system, exchange }) => system <= 2 * exchange)
  expect(short.length).toBe(3)
  for (const { texts, dropped } of short) expect(dropped / texts).toBeLessThanOrEqual(MAX_DROPPED)
})

test(`the tables of ${PAGE} on near-duplicates are those of the measurement`, () => {
  const page = readText(PAGE)
  expect(tableWith(page, 'Package', 'Dropped').rows).toEqual(
    results.packaged.map((row) => [row.text, row.package, String(row.texts), percent(row)]),
  )
  expect(tableWith(page, 'Same beginning', 'Dropped').rows).toEqual(
    results.templates.map((row) => [String(row.system), String(row.exchange), percent(row)]),
  )
})
