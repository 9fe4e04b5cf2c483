/** The recall and precision of redaction: the committed figures are those of the rules, and good enough. */
import { describe, expect, test } from 'vitest'
import { REDACTION_VERSION, redactCounted } from '../../gateway/src/adaptation/redaction/redact.ts'
import { REDACTION_CLASSES } from '../../gateway/src/adaptation/redaction/span.ts'
import {
  measureNumbers,
  measureRecall,
  measureWrong,
  readCorpus,
  readLookalikes,
  type Recall,
} from '../support/redaction/corpus.ts'
import { readText, repositoryFiles, tableWith } from './markdown.ts'

const MIN_RECALL = 0.95
const MAX_WRONG = 0.02
const PAGE = 'docs/measurements/redaction.md'

interface Results {
  version: number
  recall: Record<string, Recall>
  wrong: Record<string, number>
  numbers: { digits: number; numbers: number; replaced: number }[]
  ordinary: { text: string; package: string; lines: number; replaced: number; wrong: number }[]
  times: { text: string; ms: number }[]
}
const results = JSON.parse(readText('docs/results/redaction/redaction.json')) as Results

test('the corpus has 300 strings in the forms of twelve countries, of every class', () => {
  const corpus = readCorpus()
  expect(corpus.length).toBeGreaterThanOrEqual(300)
  expect(new Set(corpus.map(({ country }) => country)).size).toBeGreaterThanOrEqual(13)
  expect(new Set(corpus.map((string) => string.class))).toEqual(new Set(REDACTION_CLASSES))
  expect(readLookalikes().length).toBeGreaterThanOrEqual(100)
})

test('at least 95 % of the strings of each class come out exactly as expected, as committed', () => {
  const recall = measureRecall()
  for (const { strings, exact } of Object.values(recall))
    expect(exact / strings).toBeGreaterThanOrEqual(MIN_RECALL)
  expect(recall).toEqual(results.recall)
  expect(results.version).toBe(REDACTION_VERSION)
})

test('nothing that only looks like personal data is replaced, as committed', () => {
  expect(measureWrong()).toEqual(results.wrong)
  expect(results.wrong).toEqual({})
})

test('at most 2 % of bare numbers are replaced where they are no personal data, as committed', () => {
  expect(measureNumbers()).toEqual(results.numbers)
  // Of longer ones each tenth has the check digit of a card, and many of these have an issuer.
  const shares = results.numbers.filter(({ digits }) => digits < 13)
  for (const { numbers, replaced } of shares) expect(replaced / numbers).toBeLessThanOrEqual(MAX_WRONG)
})

describe('at most 2 % of ordinary texts have a wrong replacement', () => {
  test('of packaged prose and code, as committed', () => {
    for (const { lines, wrong } of results.ordinary) expect(wrong / lines).toBeLessThanOrEqual(MAX_WRONG)
    expect(results.ordinary.map(({ text }) => text)).toEqual(
      expect.arrayContaining(['code', 'news', 'manual']),
    )
  })

  test('of the novel and the speeches among the fixtures: none', () => {
    for (const name of ['novel', 'speech']) {
      const lines = readText(`test/fixtures/text/${name}.evaluation.txt`).split('\n')
      expect(lines.filter((line) => redactCounted(line).spans.length > 0)).toEqual([])
    }
  })

  test('of the lines of our own sources and documents', () => {
    const lines = repositoryFiles('gpu-node/src', 'docs')
      .filter((path) => /\.(?:ts|md)$/.test(path) && !/redact/.test(path))
      .flatMap((path) => readText(path).split('\n'))
    // Addresses of examples are right to replace; everything else counts as wrong here.
    const wrong = lines.filter((line) =>
      redactCounted(line).spans.some(({ of }) => of !== 'ip' && of !== 'email'),
    )
    expect(lines.length).toBeGreaterThan(20_000)
    expect(wrong.length / lines.length).toBeLessThan(MAX_WRONG / 20)
  })
})

test('the page has the committed figures', () => {
  const page = readText(PAGE)
  const classes = tableWith(page, 'Class', 'Exact').rows
  expect(classes).toEqual(
    Object.entries(results.recall).map(([of, { strings, exact, gone }]) => [
      `\`[${of}]\``,
      String(strings),
      percent(exact / strings),
      percent(gone / strings),
      percent(exact / (exact + (results.wrong[of] ?? 0))),
    ]),
  )
  const numbers = tableWith(page, 'Digits', 'Replaced').rows
  expect(numbers).toEqual(
    results.numbers.map(({ digits, numbers: count, replaced }) => [
      String(digits),
      String(count),
      percent(replaced / count),
    ]),
  )
  const ordinary = tableWith(page, 'Text', 'Wrong').rows
  expect(ordinary).toEqual(
    results.ordinary.map(({ text, package: name, lines, replaced, wrong }) => [
      text,
      name,
      String(lines),
      String(replaced),
      `${wrong} (${percent(wrong / lines, 3)})`,
    ]),
  )
  const times = tableWith(page, '64 KiB of', 'ms').rows
  expect(times).toEqual(results.times.map(({ text, ms }) => [`\`${text}\``, ms.toFixed(1)]))
})

function percent(share: number, digits = 1): string {
  return `${(100 * share).toFixed(digits)} %`
}
