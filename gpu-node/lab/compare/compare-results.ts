import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { counted } from '@copal/gpu-node/platform/quantities.ts'
import { BOOTSTRAP, createPairedBootstrap, type Estimate } from '../results/bootstrap.ts'
import { distinct, methodLabel } from '../results/labels.ts'
import { evaluationAfterLastStage } from '../results/last-stage.ts'
import type { LabEvaluation, LabResults, LabRun } from '../results/lab-results.ts'
import {
  comparableDomains,
  inputDifferences,
  type InputDifference,
  type IncomparableDomain,
} from './input-differences.ts'

/** The comparison of two methods or results on one domain, after the last stage. */
export interface ComparedRow {
  /** `dense` or a method; `a → b` for two methods. */
  method: string
  pattern: string
  samples: number
  domain: string
  perplexityA: number
  perplexityB: number
  /** NLL of B minus that of A, in nats per token; negative means that B is better. */
  nll: Estimate
  /** Perplexity of B divided by that of A. */
  ratio: Estimate
}

/** The comparison of two results. */
export interface Comparison {
  inputs: InputDifference[]
  refused: IncomparableDomain[]
  rows: ComparedRow[]
  onlyInA: string[]
  onlyInB: string[]
}

/** A run, or the dense model, as one side of a pair. */
interface ComparedSide {
  key: string
  method: string
  pattern: string
  samples: number
  evaluate: (domain: string) => LabEvaluation | null
}

/**
 * Compares result A with result B. Runs are paired by method, pattern, and number of samples. Main runs are paired even
 * if their number of samples differs, which `inputs` then reports.
 *
 * @throws UserError `results_incomparable` when no domain was evaluated on the same windows in both
 */
export function compareResults(a: LabResults, b: LabResults): Comparison {
  const { comparable, refused } = comparableDomains(a, b)
  if (comparable.length === 0) {
    const reasons = refused.map(({ domain, reason }) => `${domain}: ${reason}`)
    throw new UserError(
      'results_incomparable',
      `These results cannot be compared: ${
        reasons.length > 0 ? reasons.join('; ') : 'they have no domain in common'
      }. Run both on the same evaluation texts.`,
    )
  }
  const left = sidesOf(a)
  const right = sidesOf(b)
  const pairs = left.flatMap((side) => {
    const other = right.find(({ key }) => key === side.key)
    return other ? [{ method: side.method, a: side, b: other }] : []
  })
  return {
    inputs: inputDifferences(a, b),
    refused,
    rows: comparePairs(pairs, comparable),
    onlyInA: missingFrom(left, right),
    onlyInB: missingFrom(right, left),
  }
}

/**
 * Compares two methods of one result, at every pattern and number of samples of both.
 *
 * @param methods labels like `continual-wanda`, `copal per matrix`, or `dense`
 * @throws UserError `method_unknown`, `results_incomparable`
 */
export function compareMethods(results: LabResults, methods: readonly [string, string]): ComparedRow[] {
  const sides = sidesOf(results)
  for (const method of methods) {
    if (sides.some((side) => side.method === method)) continue
    throw new UserError(
      'method_unknown',
      `This result has no method ${method}. It has: ${distinct(sides.map((side) => side.method)).join(', ')}.`,
    )
  }
  const [first, second] = methods
  const pairs = sides
    .filter(({ method }) => method === (first === 'dense' ? second : first))
    .flatMap((side) => {
      const partnerMethod = first === 'dense' ? first : second
      const partner = sides.find(
        (other) =>
          other.method === partnerMethod &&
          (partnerMethod === 'dense' || (other.pattern === side.pattern && other.samples === side.samples)),
      )
      if (!partner) return []
      const [a, b] = first === 'dense' ? [partner, side] : [side, partner]
      return [{ method: `${first} → ${second}`, a, b }]
    })
  const rows = comparePairs(
    pairs,
    results.domains.map(({ name }) => name),
  )
  if (rows.length > 0) return rows
  throw new UserError(
    'results_incomparable',
    `${first} and ${second} were never evaluated with the same pattern, number of samples and domain.`,
  )
}

function comparePairs(
  pairs: readonly { method: string; a: ComparedSide; b: ComparedSide }[],
  domains: readonly string[],
): ComparedRow[] {
  const bootstrap = createPairedBootstrap(BOOTSTRAP)
  return pairs.flatMap(({ method, a, b }) =>
    domains.flatMap((domain) => {
      const [left, right] = [a.evaluate(domain), b.evaluate(domain)]
      if (!left || !right || left.windowNll.length === 0) return []
      const nll = bootstrap(right.windowNll.map((value, window) => value - (left.windowNll[window] ?? 0)))
      // The dense model has no pattern, so the other side's is used.
      const { pattern, samples } = a.method === 'dense' ? b : a
      return [
        {
          method,
          pattern,
          samples,
          domain,
          perplexityA: left.perplexity,
          perplexityB: right.perplexity,
          nll,
          ratio: exponential(nll),
        },
      ]
    }),
  )
}

function exponential({ mean, low, high }: Estimate): Estimate {
  if (low === null) return { mean: Math.exp(mean), low, high }
  return { mean: Math.exp(mean), low: Math.exp(low), high: Math.exp(high) }
}

/** Returns the dense model and every run; points of a sweep that repeat a main run are left out. */
function sidesOf(results: LabResults): ComparedSide[] {
  const dense: ComparedSide = {
    key: 'dense',
    method: 'dense',
    pattern: '',
    samples: 0,
    evaluate: (domain) => results.dense[domain] ?? null,
  }
  const main = results.runs.filter(({ purpose }) => purpose === 'main')
  const sweeps = results.runs.filter(({ purpose }) => purpose !== 'main')
  const sides = [...main, ...sweeps].map((run) => sideOf(run, results))
  const first = sides.filter((side, index) => sides.findIndex(({ key }) => key === side.key) === index)
  return [dense, ...first]
}

function sideOf(run: LabRun, results: LabResults): ComparedSide {
  const method = methodLabel(run)
  const { pattern, samples } = run
  const count = samples === results.settings.samples ? '' : counted(samples, 'sample')
  return {
    key: [method, pattern, count].filter((part) => part !== '').join(', '),
    method,
    pattern,
    samples,
    evaluate: (domain) => evaluationAfterLastStage(run, domain, results),
  }
}

function missingFrom(sides: readonly ComparedSide[], others: readonly ComparedSide[]): string[] {
  return sides.flatMap(({ key }) => (others.some((other) => other.key === key) ? [] : [key]))
}
