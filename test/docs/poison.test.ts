/** The page on poison quotes its measurement, and what one key moves is small. */
import { expect, test } from 'vitest'
import { readText, ROOT } from './markdown.ts'

const PAGE = 'docs/measurements/poison.md'
/** Most that poison may move the perplexity of the domain's next mask by. */
const MAX_MOVE = 0.01
const UPDATE = 'npx vitest run --project unit test/docs/poison.test.ts --update'
/** Quantiles of Student's t for intervals of 95 %, by degrees of freedom from 1 on. */
const T_QUANTILES = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131,
  2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
]

interface Draw {
  draw: number
  share: number
  token_share: number
  review: number
  perplexity: number
  /** The perplexity of the same draw without poison, where that was measured apart from the row without poison. */
  clean?: number
}
interface Row {
  poison: string | null
  sender: string | null
  requests: number
  draws: Draw[]
}
const { rows } = JSON.parse(readText('docs/results/poison/poison.json')) as { rows: Row[] }
const clean = new Map(rows.find(({ poison }) => poison === null)?.draws.map((one) => [one.draw, one]))

/** Returns the log ratio of each draw to the perplexity of the same draw without poison. */
function moves({ draws }: Row): number[] {
  return draws.map((one) => Math.log(one.perplexity / (one.clean ?? clean.get(one.draw)?.perplexity ?? 0)))
}

const meanOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length

/** Returns the half width of the interval of 95 % of the mean of values; undefined for one value. */
function halfWidth(values: readonly number[]): number | undefined {
  if (values.length < 2) return undefined
  const quantile = T_QUANTILES[values.length - 2]
  if (quantile === undefined) throw new Error(`Add the quantile for ${values.length} draws.`)
  const mean = meanOf(values)
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return quantile * Math.sqrt(squares / (values.length - 1) / values.length)
}

const percent = (share: number) => `${(share * 100).toFixed(1)} %`
const signed = (share: number) => {
  const text = (share * 100).toFixed(2)
  return Number(text) === 0 ? '0.00' : share > 0 ? `+${text}` : text
}

/** Returns the lowest and the highest of values as text. */
function rangeOf(values: readonly number[], digits: number, unit: string): string {
  const [least, most] = [Math.min(...values), Math.max(...values)].map((value) => value.toFixed(digits))
  return least === most ? `${least}${unit}` : `${least}–${most}${unit}`
}

/** Returns the row of a key that sends three in ten requests, and checks that it keeps to its share of the text. */
function ofOneKey(poison: string): Row {
  const row = rows.find((one) => one.poison === poison && one.sender === 'one key')
  if (!row) throw new Error('it was not measured')
  expect(row.requests).toBeCloseTo(0.3, 2)
  for (const { share } of row.draws) expect(share).toBeLessThanOrEqual(0.1)
  return row
}

test.each(['random tokens', 'one repeated text'])(
  'a key that sends three in ten requests as %s does not change the next mask',
  (poison) => {
    expect(moves(ofOneKey(poison)).map(Math.abs)).toEqual([0, 0, 0, 0, 0])
  },
)

test('a key that sends three in ten requests as 16 KB texts moves the perplexity by less than a hundredth, with confidence', () => {
  const values = moves(ofOneKey('16 KB texts'))
  expect(values.length).toBeGreaterThanOrEqual(13)
  expect(Math.abs(meanOf(values)) + (halfWidth(values) ?? Infinity)).toBeLessThan(MAX_MOVE)
})

test('ten keys that send one request in twenty-four as 16 KB texts give less than a sixth of the text', () => {
  const row = rows.find(({ poison, sender }) => poison === '16 KB texts' && sender === 'ten keys')
  expect(row?.requests).toBeCloseTo(0.041, 3)
  for (const { share } of row?.draws ?? []) expect(share).toBeLessThanOrEqual(0.15)
})

test('a key that writes another script gives less than a sixth of the tokens', () => {
  for (const { token_share: share } of ofOneKey('another script').draws) expect(share).toBeLessThan(1 / 6)
})

test(`the table of ${PAGE} is that of the measurement (to update it: ${UPDATE})`, async () => {
  const page = readText(PAGE)
  const updated = page.replace(
    /<!-- poison -->\n[\s\S]*?<!-- end -->/,
    `<!-- poison -->\n${renderTable()}<!-- end -->`,
  )
  expect(page).toContain('<!-- poison -->')
  await expect(updated).toMatchFileSnapshot(`${ROOT}/${PAGE}`)
})

function renderTable(): string {
  const header = [
    'Poison',
    'Sender',
    'Of requests',
    'Of bytes',
    'Of tokens',
    'Set aside',
    'Draws',
    'Moves perplexity by',
  ]
  const lines = [
    header,
    header.map(() => '---'),
    ...rows.filter(({ poison }) => poison !== null).map(cellsOf),
  ]
  return lines.map((cells) => `| ${cells.join(' | ')} |\n`).join('')
}

function cellsOf(row: Row): string[] {
  const { poison, sender, requests, draws } = row
  const mean = meanOf(moves(row))
  const half = halfWidth(moves(row))
  const interval = half === undefined ? '' : ` (${signed(mean - half)} to ${signed(mean + half)})`
  return [
    poison ?? '',
    sender ?? '',
    percent(requests),
    rangeOf(
      draws.map(({ share }) => share * 100),
      1,
      ' %',
    ),
    rangeOf(
      draws.map(({ token_share: share }) => share * 100),
      1,
      ' %',
    ),
    rangeOf(
      draws.map(({ review }) => review),
      0,
      '',
    ),
    String(draws.length),
    `${signed(mean)} %${interval}`,
  ]
}
