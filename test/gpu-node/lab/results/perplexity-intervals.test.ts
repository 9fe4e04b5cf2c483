import { expect, test } from 'vitest'
import { createPerplexityIntervals } from '../../../../gpu-node/lab/results/perplexity-intervals.ts'
import type { LabEvaluation, LabRun } from '../../../../gpu-node/lab/results/lab-results.ts'
import { summarise } from '../../../../gpu-node/lab/results/summary.ts'
import { generatedResults } from '../../../support/pruning/lab-results.ts'

const results = generatedResults()
const runs = results.runs.filter(({ purpose, pattern }) => purpose === 'main' && pattern === '0.5')
const intervalsOf = createPerplexityIntervals(results)

test('every interval contains the mean perplexity of its summary', () => {
  const intervals = intervalsOf(runs)
  expect(intervals.size).toBe(runs.length)
  for (const [run, { own }] of intervals) {
    expect(own.mean).toBe(run.summary?.aPpl)
    expect(own.low).toBeLessThan(own.mean)
    expect(own.high).toBeGreaterThan(own.mean)
  }
})

test('windows that are hard under every method widen the intervals of perplexities, not those of ratios', () => {
  const relative = ({ mean, low, high }: { mean: number; low: number; high: number }) => (high - low) / mean
  for (const { own, ratioToLowest } of intervalsOf(runs).values())
    expect(relative(ratioToLowest)).toBeLessThan(0.5 * relative(own))
})

test('the lowest has the ratio 1 in every resample', () => {
  const { ratioToLowest } = intervalsOf(runs).get(lowestOf(runs)) ?? {}
  expect(ratioToLowest).toEqual({ mean: 1, low: 1, high: 1 })
})

test('for one domain with windows of two values the interval is that of their geometric means', () => {
  const [low, high] = [Math.log(10), Math.log(40)]
  const { given, run } = oneDomain([low, low, low, high, high, high])
  const { own } = createPerplexityIntervals(given)([run]).get(run) ?? {}
  expect(own?.mean).toBeCloseTo(20, 10)
  // The t quantile of 5 degrees of freedom divided by the normal one, and the correction for the variance of resamples.
  const stretch = (2.5706 / 1.96) * Math.sqrt(6 / 5)
  expect(own?.low).toBeCloseTo(10 * 4 ** (1 / 2 - stretch / 3), 1)
  expect(own?.high).toBeCloseTo(10 * 4 ** (1 / 2 + stretch / 3), 1)
})

test('equal windows have no spread', () => {
  const { given, run } = oneDomain([2, 2, 2, 2, 2, 2])
  const { own } = createPerplexityIntervals(given)([run]).get(run) ?? {}
  expect(own?.low).toBeCloseTo(Math.exp(2), 10)
  expect(own?.high).toBeCloseTo(Math.exp(2), 10)
})

test('fewer than six windows of a domain give no interval', () => {
  for (const windows of [[2], [2, 3, 2, 3, 2]]) {
    const { given, run } = oneDomain(windows)
    expect(createPerplexityIntervals(given)([run]).size).toBe(0)
  }
})

test('a run with unmeasured cells has no interval, nor has a sweep', () => {
  const incomplete = structuredClone(runs[1]!)
  delete incomplete.stages[0]?.evaluations['code']
  const sweep = results.runs.find(({ purpose }) => purpose === 'sparsity-sweep')!
  expect(intervalsOf([incomplete, sweep]).size).toBe(0)
})

test('with pruned propagation each order has its own masks', () => {
  const given = { ...results, settings: { ...results.settings, propagation: 'pruned' as const } }
  const run = structuredClone(runs.find(({ method }) => method === 'continual-wanda')!)
  run.matrices = run.matrices.filter(({ order }) => order.join() === 'newswire,encyclopedia,code')
  // The domains after each stage, in this order.
  for (const stage of run.stages)
    stage.domains = ['newswire', 'encyclopedia', 'code'].filter((name) => stage.domains.includes(name))
  run.summary = summarise(run.matrices)
  const { own } = createPerplexityIntervals(given)([run]).get(run) ?? {}
  expect(own?.mean).toBe(run.summary?.aPpl)
  expect(own?.low).toBeLessThan(run.summary?.aPpl ?? 0)
})

/** Results with one domain that was evaluated once. */
function oneDomain(windowNll: number[]) {
  const [domain] = results.domains
  const nllMean = windowNll.reduce((sum, nll) => sum + nll, 0) / windowNll.length
  const evaluation: LabEvaluation = { nllMean, perplexity: Math.exp(nllMean), tokens: 1, windowNll }
  const { name, evaluation: text } = domain!
  const matrices = [{ order: [name], R: [[evaluation.perplexity]], churn: [] }]
  const stage = { ...runs[5]!.stages[0]!, domains: [name], evaluations: { [name]: evaluation } }
  const run: LabRun = { ...runs[5]!, stages: [stage], matrices, summary: summarise(matrices) }
  const given = { ...results, domains: [{ ...domain!, evaluation: { ...text, windows: windowNll.length } }] }
  return { given, run }
}

function lowestOf(candidates: readonly LabRun[]): LabRun {
  return candidates.reduce((best, run) =>
    (run.summary?.aPpl ?? Infinity) < (best.summary?.aPpl ?? Infinity) ? run : best,
  )
}
