/** Figures that documents quote from committed results: prose and tables must not drift from the data. */
import { describe, expect, test } from 'vitest'
import { readText, tableWith } from './markdown.ts'

interface Stage {
  domains: string[]
  evaluations: Record<string, { perplexity: number }>
}
interface Run {
  purpose: 'main' | 'sparsity-sweep' | 'sample-sweep'
  method: string
  scope: 'row' | 'matrix'
  pattern: string
  samples: number
  stages: Stage[]
  summary: { aBwt: number; aPpl: number } | null
}
interface Results {
  dense: Record<string, { perplexity: number }>
  runs: Run[]
}
interface Point {
  name: string
  megabytes: number
  perplexity: number
  tokensPerSecond: { median: number }
}

const results = JSON.parse(readText('docs/results/smollm2-135m/results.json')) as Results
const front = JSON.parse(readText('docs/results/front/front.json')) as { points: Point[] }

const DOMAINS = ['code', 'mail', 'news']
const SAMPLES = 16
const RESULTS = 'docs/results/README.md'
const FRONT = 'docs/results/front/README.md'

test("the README's results are those of the run", () => {
  const { header, rows } = tableWith(readText('README.md'), 'Method', 'manual')
  const columns = header.flatMap((domain, column) => (domain in results.dense ? [{ domain, column }] : []))
  const figures = rows.flatMap((row) => {
    const method = (row[0] ?? '').replaceAll('`', '')
    return columns.map(({ domain, column }) =>
      figure(`${method}, ${domain}`, row[column], perplexity(method, domain)),
    )
  })
  expect(figures.length).toBeGreaterThanOrEqual(4 * 8)
  expect(drifted(figures)).toEqual([])
})

describe(`tables of ${RESULTS}`, () => {
  const page = readText(RESULTS)

  test('ratios to continual Wanda and SparseGPT, accumulated and over all stages', () => {
    const { rows } = tableWith(page, '÷ continual Wanda', '÷ continual SparseGPT')
    const figures = rows.flatMap(([name, ...cells]) => {
      const method = methodOf(name)
      return ['continual-wanda', 'continual-sparsegpt'].flatMap((base, column) => {
        const [accumulated, allStages] = numbers(cells[column])
        return [
          figure(`${method} ÷ ${base}`, accumulated, mean(method) / mean(base)),
          figure(`${method} ÷ ${base}, a-ppl`, allStages, summary(method).aPpl / summary(base).aPpl),
        ]
      })
    })
    expect(figures.length).toBeGreaterThanOrEqual(16)
    expect(drifted(figures)).toEqual([])
  })

  test('ratios to the same method on one domain alone', () => {
    const { rows } = tableWith(page, '÷ alone')
    const figures = rows.flatMap(([name, ...cells]) => {
      const ratios = ratiosToAlone(methodOf(name))
      return DOMAINS.map((domain, column) =>
        figure(`${name}, ${domain}`, numbers(cells[column])[0], ratios[column] ?? Number.NaN),
      )
    })
    expect(figures.length).toBeGreaterThanOrEqual(18)
    expect(drifted(figures)).toEqual([])
  })

  test('ratios to continual SparseGPT by sparsity', () => {
    const { header, rows } = tableWith(page, '30 %', '70 %')
    const figures = rows.flatMap(([name, ...cells]) =>
      header.slice(1).map((percent, column) => {
        const pattern = String(Number.parseInt(percent, 10) / 100)
        const ratio = mean(methodOf(name), { pattern }) / mean('continual-sparsegpt', { pattern })
        return figure(`${name} at ${percent}`, numbers(cells[column])[0], ratio)
      }),
    )
    expect(figures.length).toBeGreaterThanOrEqual(20)
    expect(drifted(figures)).toEqual([])
  })

  test('ratios to 16 samples by the number of samples', () => {
    const { header, rows } = tableWith(page, '4 samples', '64')
    const figures = rows.flatMap(([name, ...cells]) =>
      header.slice(1).map((samples, column) => {
        const method = methodOf(name)
        const ratio = mean(method, { samples: Number.parseInt(samples, 10) }) / mean(method)
        return figure(`${name} at ${samples}`, numbers(cells[column])[0], ratio)
      }),
    )
    expect(figures.length).toBeGreaterThanOrEqual(20)
    expect(drifted(figures)).toEqual([])
  })

  test('a-ppl at 2:4 and 4:8', () => {
    const { header, rows } = tableWith(page, 'a-ppl', '`copal`')
    const figures = rows.flatMap(([pattern = '', ...cells]) =>
      header.slice(1).flatMap((name, column) => {
        const [aPpl, ratio] = numbers(cells[column]?.replace("SparseGPT's", ''))
        const value = summary(methodOf(name), { pattern }).aPpl
        const toSparseGpt = value / summary('continual-sparsegpt', { pattern }).aPpl
        const named = `${name} at ${pattern}`
        return [
          figure(named, aPpl, value),
          ...(ratio === undefined ? [] : [figure(`${named} ÷ SparseGPT`, ratio, toSparseGpt)]),
        ]
      }),
    )
    expect(figures.length).toBeGreaterThanOrEqual(16)
    expect(drifted(figures)).toEqual([])
  })

  test('a-ppl and a-bwt at 50 %', () => {
    const { rows } = tableWith(page, 'a-ppl', 'a-bwt')
    const figures = rows.flatMap(([name, aPpl, aBwt]) => {
      const found = summary(methodOf(name))
      return [figure(`a-ppl of ${name}`, aPpl, found.aPpl), figure(`a-bwt of ${name}`, aBwt, found.aBwt)]
    })
    expect(figures.length).toBeGreaterThanOrEqual(16)
    expect(drifted(figures)).toEqual([])
  })
})

describe('docs/measurements.md', () => {
  const page = readText('docs/measurements.md')
  const masks = 'continual-wanda+allocated+rows+swaps'
  const solved = `${masks}+reconstruct`

  test('the outcome of aims for masks', () => {
    const measured = new Map(tableWith(page, 'Aim', 'Measured').rows.map(([aim, cell]) => [aim, cell]))
    const at60 = { pattern: '0.6' }
    const aims: [string, number][] = [
      ["masks: perplexity at most 0.78 of continual Wanda's", mean(masks) / mean('continual-wanda')],
      ["masks: at most 0.93 of continual SparseGPT's", mean(masks) / mean('continual-sparsegpt')],
      ["reconstructed: at most 0.70 of continual Wanda's", mean(solved) / mean('continual-wanda')],
      ["reconstructed: at most 0.80 of continual SparseGPT's", mean(solved) / mean('continual-sparsegpt')],
      [
        "reconstructed at 60 %: at most 0.5 of continual SparseGPT's",
        mean(solved, at60) / mean('continual-sparsegpt', at60),
      ],
    ]
    expect(drifted(aims.map(([aim, ratio]) => figure(aim, measured.get(aim), ratio)))).toEqual([])
  })

  test('what accumulating costs a domain', () => {
    const [aim, cell] = tableWith(page, 'Aim', 'Measured').rows.find(([one]) =>
      one?.startsWith('accumulating:'),
    ) ?? ['no such aim']
    const quoted = numbers(cell)
    const extremes = [masks, solved].flatMap((method) => {
      const ratios = ratiosToAlone(method)
      return [Math.min(...ratios), Math.max(...ratios)]
    })
    expect(drifted(extremes.map((ratio, index) => figure(aim ?? '', quoted[index], ratio)))).toEqual([])
  })

  test('speeds of the front', () => {
    const { rows } = tableWith(page, 'Machine', 'Backend')
    const at = rows.findIndex(([machine]) => machine?.includes('results/front/README.md'))
    const quoted = [rows[at]?.[2], rows[at + 1]?.[2]].flatMap((cell) =>
      numbers(cell?.replace(/\b(?:bf16|int8|int4|BF16|Q\d_\d)\b/g, '')),
    )
    const points = ['bf16 0.5', 'int8 0.5', 'int4 dense', 'int4/int4 dense']
    const theirs = ['llama.cpp BF16', 'llama.cpp Q8_0', 'llama.cpp Q4_0']
    const figures = [...points, ...theirs].map((name, index) => figure(name, quoted[index], speed(name)))
    expect(drifted(figures)).toEqual([])
  })
})

/** Figures in sentences: each pattern must occur, and its groups must be the values. */
const SENTENCES: [page: string, pattern: RegExp, values: number[]][] = [
  [
    FRONT,
    /\b(\d+) tokens\/s at (\d+) MB a token and perplexity ([\d.]+)/,
    [speed('int4/int4 dense'), point('int4/int4 dense').megabytes, point('int4/int4 dense').perplexity],
  ],
  [
    FRONT,
    /in int8 it has (\d+) at (\d+) MB and ([\d.]+\d)/,
    [speed('int4 dense'), point('int4 dense').megabytes, point('int4 dense').perplexity],
  ],
  [
    FRONT,
    /int8 at 50 % has (\d+) at (\d+) MB and ([\d.]+\d)/,
    [speed('int8 0.5'), point('int8 0.5').megabytes, point('int8 0.5').perplexity],
  ],
  [
    FRONT,
    /at 50 % int8 is ([\d.]+) times as fast as dense, bf16 ([\d.]+) times/,
    [speed('int8 0.5') / speed('int8 dense'), speed('bf16 0.5') / speed('bf16 dense')],
  ],
  [
    FRONT,
    /dense ([\d.]+) \(BF16\), ([\d.]+) \(Q8_0\), ([\d.]+) \(int4 against Q4_0\); at 50 % ([\d.]+) and ([\d.]+\d)/,
    [
      speed('bf16 dense') / speed('llama.cpp BF16'),
      speed('int8 dense') / speed('llama.cpp Q8_0'),
      speed('int4 dense') / speed('llama.cpp Q4_0'),
      speed('bf16 0.5') / speed('llama.cpp BF16'),
      speed('int8 0.5') / speed('llama.cpp Q8_0'),
    ],
  ],
]

test.each(SENTENCES)('%s quotes %s', (page, pattern, values) => {
  const quoted = pattern.exec(readText(page).replace(/\s+/g, ' '))?.slice(1)
  expect(drifted(values.map((value, index) => figure(String(pattern), quoted?.[index], value)))).toEqual([])
})

interface Choice {
  domains?: string[]
  pattern?: string
  samples?: number
}

/** A method's run: `copal@matrix` is `copal` over the whole matrix. */
function runOf(method: string, { pattern = '0.5', samples = SAMPLES }: Choice = {}): Run {
  const [name, scope = 'row'] = method.split('@')
  const found = results.runs.filter(
    (run) => run.method === name && run.scope === scope && run.pattern === pattern && run.samples === samples,
  )
  const [run] = found
  if (!run || found.length > 1) throw new Error(`There are ${found.length} runs of ${method} at ${pattern}.`)
  return run
}

/** Perplexity on a domain with everything accumulated, or with the domains given. */
function perplexity(method: string, domain: string, choice: Choice = {}): number {
  if (method === 'dense') return valueOf(results.dense, domain)
  const run = runOf(method, choice)
  const domains = choice.domains ?? DOMAINS
  const stage =
    run.stages.find((one) => [...one.domains].sort().join() === [...domains].sort().join()) ??
    run.stages.find((one) => one.domains.length === 0)
  if (!stage) throw new Error(`${method} has no stage with ${domains.join(', ')}.`)
  return valueOf(stage.evaluations, domain)
}

function valueOf(evaluations: Record<string, { perplexity: number }>, domain: string): number {
  const value = evaluations[domain]?.perplexity
  if (value === undefined) throw new Error(`There is no evaluation on ${domain}.`)
  return value
}

/** Mean perplexity over the calibrated domains, everything accumulated. */
function mean(method: string, choice: Choice = {}): number {
  const values = DOMAINS.map((domain) => perplexity(method, domain, choice))
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function summary(method: string, choice: Choice = {}): { aBwt: number; aPpl: number } {
  const found = runOf(method, choice).summary
  if (!found) throw new Error(`${method} has no summary.`)
  return found
}

function point(name: string): Point {
  const found = front.points.find((one) => one.name === name)
  if (!found) throw new Error(`front.json has no point '${name}'.`)
  return found
}

function speed(name: string): number {
  return point(name).tokensPerSecond.median
}

/** The method in a cell such as "`copal@matrix`, as published". */
function methodOf(cell: string | undefined): string {
  return /`([^`]+)`/.exec(cell ?? '')?.[1] ?? ''
}

function numbers(cell: string | undefined): string[] {
  return (cell ?? '').match(/\d+(?:\.\d+)?/g) ?? []
}

/** Returns the perplexity on each domain, divided by that of the method on the statistics of this domain alone. */
function ratiosToAlone(method: string): number[] {
  return DOMAINS.map(
    (domain) => perplexity(method, domain) / perplexity(method, domain, { domains: [domain] }),
  )
}

/** A figure as a document quotes it, beside the value of the data. */
interface Figure {
  name: string
  quoted: string | undefined
  value: number
}

function figure(name: string, quoted: string | undefined, value: number): Figure {
  return { name, quoted, value }
}

/** The figures that are not their value, rounded to the decimals that are quoted. */
function drifted(figures: readonly Figure[]): string[] {
  return figures
    .map(({ name, quoted, value }) => ({
      name,
      quoted,
      rounded: value.toFixed(quoted?.split('.')[1]?.length ?? 0),
    }))
    .filter(({ quoted, rounded }) => quoted !== rounded)
    .map(({ name, quoted, rounded }) => `${name}: ${quoted} is quoted, and ${rounded} was measured`)
}
