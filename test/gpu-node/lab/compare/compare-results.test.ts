import { describe, expect, test } from 'vitest'
import { compareMethods, compareResults } from '../../../../gpu-node/lab/compare/compare-results.ts'
import { generatedResults } from '../../../support/pruning/lab-results.ts'

const FIRST = { seed: 1, methods: ['wanda', 'copal', 'continual-wanda'] }
/** Enough where no row is looked at. */
const ONE = { seed: 1, methods: ['continual-wanda'] }

describe('two results', () => {
  test('with the same inputs and numbers have no differences', () => {
    const comparison = compareResults(generatedResults(FIRST), generatedResults(FIRST))
    expect(comparison).toMatchObject({ inputs: [], refused: [], onlyInA: [], onlyInB: [] })
    for (const { nll, ratio } of comparison.rows) {
      expect(nll).toEqual({ mean: 0, low: 0, high: 0 })
      expect(ratio).toEqual({ mean: 1, low: 1, high: 1 })
    }
  })

  test('a shift of every window is found exactly, and as a ratio of perplexities', () => {
    const { rows } = compareResults(generatedResults(ONE), generatedResults({ ...ONE, shift: 0.02 }))
    const row = rows.find(
      ({ method, domain, pattern }) => method === 'continual-wanda' && domain === 'mail' && pattern === '2:4',
    )
    expect(row?.nll.mean).toBeCloseTo(0.02, 12)
    expect(row?.nll.low).toBeCloseTo(0.02, 12)
    expect(row?.ratio.mean).toBeCloseTo(Math.exp(0.02), 12)
    expect((row?.perplexityB ?? 0) / (row?.perplexityA ?? 1)).toBeCloseTo(row?.ratio.mean ?? 0, 12)
  })

  test('windows are paired, so windows that are hard under both do not hide a small difference', () => {
    const { rows } = compareResults(generatedResults(FIRST), generatedResults({ ...FIRST, shift: 0.02 }))
    const noisy = generatedResults(FIRST)
    const hardness = noisy.dense['mail']?.windowNll ?? []
    const spread = Math.max(...hardness) - Math.min(...hardness)
    const [row] = rows.filter(({ method, domain }) => method === 'copal' && domain === 'mail')
    expect(spread).toBeGreaterThan(0.3)
    expect((row?.nll.high ?? 1) - (row?.nll.low ?? 0)).toBeLessThan(0.01)
  })

  test('every different input is listed with both values', () => {
    const b = generatedResults(ONE)
    b.settings.samples = 32
    b.machine.cores = 8
    b.domains[0]!.calibration!.sha256 = 'e'.repeat(64)
    b.domains[4]!.calibration = { path: 'mail.txt', sha256: 'd'.repeat(64), tokens: 5 }
    const { inputs } = compareResults(generatedResults(ONE), b)
    expect(inputs).toEqual([
      { what: 'calibration samples', a: '16', b: '32' },
      { what: 'cores', a: '2', b: '8' },
      {
        what: 'encyclopedia: calibration text',
        a: generatedResults(ONE).domains[0]?.calibration?.sha256.slice(0, 12),
        b: 'eeeeeeeeeeee',
      },
      { what: 'mail: calibration text', a: 'none', b: 'dddddddddddd' },
    ])
  })

  test('different orders and sensitivities are listed with both values', () => {
    const [a, b] = [generatedResults(ONE), generatedResults(ONE)]
    a.permutations = [
      ['code', 'newswire'],
      ['newswire', 'code'],
    ]
    b.permutations = [['code', 'newswire']]
    b.settings.patternRules = { 'model.layers.0.*': 'dense', '*.q_proj.weight': '0.4' }
    const [file, text, other] = ['1'.repeat(64), '2'.repeat(64), '3'.repeat(64)]
    a.sensitivities = { layers: { sha256: file, textSha256: text }, rows: null }
    b.sensitivities = {
      layers: { sha256: other, textSha256: text },
      rows: { sha256: other, textSha256: other },
    }
    expect(compareResults(a, b).inputs).toEqual([
      { what: 'single linears', a: 'none', b: 'model.layers.0.*: dense, *.q_proj.weight: 0.4' },
      { what: 'orders', a: expect.stringMatching(/^2 \([0-9a-f]{12}\)$/), b: 'code → newswire' },
      { what: 'layer sensitivity', a: '1'.repeat(12), b: '3'.repeat(12) },
      { what: 'row sensitivity', a: 'none', b: '3'.repeat(12) },
      { what: 'row sensitivity: text', a: 'none', b: '3'.repeat(12) },
    ])
  })

  test('inputs that older results did not record are not treated as equal', () => {
    const old = generatedResults(ONE)
    old.runs[0]!.method = 'continual-wanda+rows'
    expect(compareResults(old, old).inputs).toEqual([
      { what: 'row sensitivity', a: 'not recorded', b: 'not recorded' },
      { what: 'row sensitivity: text', a: 'not recorded', b: 'not recorded' },
    ])
  })

  test('perplexities on different evaluation texts are not compared, and the domain is named', () => {
    const b = generatedResults(ONE)
    b.domains[1]!.evaluation.sha256 = 'f'.repeat(64)
    const { refused, rows } = compareResults(generatedResults(ONE), b)
    expect(refused).toEqual([
      {
        domain: 'newswire',
        reason: expect.stringMatching(/^evaluation texts differ \([0-9a-f]{12} and ffffffffffff\)$/),
      },
    ])
    expect(new Set(rows.map(({ domain }) => domain))).toEqual(
      new Set(['encyclopedia', 'code', 'speeches', 'mail']),
    )
  })

  test('perplexities on the same text under another tokenizer are not compared', () => {
    const b = generatedResults(ONE)
    b.domains[0]!.evaluation.tokens += 1
    expect(compareResults(generatedResults(ONE), b).refused).toMatchObject([{ domain: 'encyclopedia' }])
  })

  test('another tokenizer is found even with equal token counts, except in results of an older copal', () => {
    const [a, b, old] = [generatedResults(ONE), generatedResults(ONE), generatedResults(ONE)]
    for (const { evaluation } of a.domains) evaluation.windowsSha256 = 'a'.repeat(64)
    for (const { evaluation } of b.domains) evaluation.windowsSha256 = 'a'.repeat(64)
    b.domains[0]!.evaluation.windowsSha256 = 'b'.repeat(64)
    expect(compareResults(a, b).refused).toEqual([
      {
        domain: 'encyclopedia',
        reason: 'the same text has different tokens (aaaaaaaaaaaa and bbbbbbbbbbbb): the tokenizers differ',
      },
    ])
    expect(compareResults(a, old).refused).toEqual([])
  })

  test('without a comparable domain there is an error with every reason', () => {
    const b = generatedResults(ONE)
    b.settings.windowTokens = 512
    expect(() => compareResults(generatedResults(ONE), b)).toThrow(
      'These results cannot be compared: encyclopedia: windows of 1024 and 512 tokens; newswire:',
    )
    const strange = generatedResults(ONE)
    strange.domains = []
    expect(() => compareResults(generatedResults(ONE), strange)).toThrow(
      'These results cannot be compared: they have no domain in common.',
    )
  })

  test('runs in only one of the results are listed', () => {
    const b = generatedResults(FIRST)
    b.runs = b.runs.filter(({ method, purpose }) => method !== 'copal' && purpose !== 'sample-sweep')
    const { onlyInA, onlyInB } = compareResults(generatedResults(FIRST), b)
    expect(onlyInA).toEqual(
      expect.arrayContaining(['copal per matrix, 0.5', 'copal, 2:4', 'wanda, 0.5, 64 samples']),
    )
    expect(onlyInB).toEqual([])
  })

  test('main runs are paired even if one was calibrated on more samples', () => {
    const b = generatedResults(FIRST)
    b.settings.samples = 32
    for (const run of b.runs) if (run.purpose === 'main') run.samples = 32
    const { rows } = compareResults(generatedResults(FIRST), b)
    expect(rows.some(({ method, pattern }) => method === 'copal' && pattern === '2:4')).toBe(true)
  })

  test('a sweep point that repeats a main run is compared once', () => {
    const { rows } = compareResults(generatedResults(FIRST), generatedResults(FIRST))
    const points = rows.map((row) => [row.method, row.pattern, row.samples, row.domain].join())
    expect(new Set(points).size).toBe(points.length)
  })
})

describe('two methods of one result', () => {
  const results = generatedResults({ seed: 1 })

  test('are compared at every common pattern and number of samples', () => {
    const rows = compareMethods(results, ['continual-wanda', 'continual-wanda+swaps'])
    expect(new Set(rows.map(({ pattern, samples }) => `${pattern} ${samples}`))).toEqual(
      new Set(['0.5 16', '2:4 16', '0.3 16', '0.4 16', '0.6 16', '0.7 16', '0.5 1', '0.5 4', '0.5 64']),
    )
    const [row] = rows
    expect(row).toMatchObject({ method: 'continual-wanda → continual-wanda+swaps', domain: 'encyclopedia' })
    expect(row?.nll.high).toBeLessThan(0)
    expect(row?.perplexityB).toBeLessThan(row?.perplexityA ?? 0)
  })

  test('in reverse order have the opposite sign', () => {
    const [forward] = compareMethods(results, ['wanda', 'copal'])
    const [back] = compareMethods(results, ['copal', 'wanda'])
    expect(back?.nll.mean).toBeCloseTo(-(forward?.nll.mean ?? 0), 12)
    expect(back?.nll.low).toBeCloseTo(-(forward?.nll.high ?? 0), 12)
  })

  test('may be the dense model on either side', () => {
    const [gain] = compareMethods(results, ['copal per matrix', 'dense'])
    const [loss] = compareMethods(results, ['dense', 'copal per matrix'])
    expect(loss).toMatchObject({ pattern: '0.5', samples: 16 })
    expect(loss?.nll.low).toBeGreaterThan(1)
    expect(gain?.nll.mean).toBeCloseTo(-(loss?.nll.mean ?? 0), 12)
    expect(gain).toMatchObject({ pattern: '0.5', samples: 16 })
  })

  test('that were not run are rejected with a list of those that were', () => {
    expect(() => compareMethods(results, ['wanda', 'wandaa'])).toThrow(
      'This result has no method wandaa. It has: dense, magnitude per matrix, wanda, sparsegpt,',
    )
  })

  test('without a common pattern are rejected', () => {
    const runs = results.runs.filter(({ method, pattern }) =>
      method === 'wanda' ? pattern === '2:4' : pattern === '0.5',
    )
    expect(() => compareMethods({ ...results, runs }, ['wanda', 'copal'])).toThrow(
      'wanda and copal were never evaluated with the same pattern, number of samples and domain',
    )
  })
})
