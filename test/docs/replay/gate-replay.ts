/**
 * Replays the gate on window losses of real masks: how often a mask that is as good as the active one is rejected, and how
 * often one that is worse is caught, by the size of the holdouts.
 *
 * Differences between two masks that are equally good are drawn with replacement from those that were measured, after
 * their mean was subtracted; a regression is added to each. So the true difference is known.
 */
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { COMPARISONS } from '../../../gateway/src/adaptation/gate/gate-figures.ts'
import type { GateHoldout } from '../../../gateway/src/adaptation/gate/gate-input.ts'
import { judge } from '../../../gateway/src/adaptation/gate/gate-verdict.ts'
import { targetTokens } from '../../../gateway/src/adaptation/holdouts/holdout-rules.ts'
import { createRandom } from '../../support/harness/random.ts'

/** `docs/results/gate/windows.json`: losses of windows, nats a token, by mask and text. */
export interface GateWindows {
  model: string
  method: string
  pattern: string
  texts: Record<string, string>
  /** Scored tokens of each window. */
  tokens: Record<string, number[]>
  losses: Record<'dense' | 'parent' | 'candidate' | 'refreshed', Record<string, number[]>>
}

/** The size of a holdout that has not grown beyond what a domain needs to be judged by itself. */
const FULL_HOLDOUT_TOKENS = 8192
/** Texts that a reservoir holds out at most (`gateway/src/adaptation/sampling/reservoir.ts`). */
const MAX_TEXTS = 512
const CONSTRAINTS: readonly string[] = [COMPARISONS.parent, COMPARISONS.best]
const GENERATION = { finite: true, tokens: 192, repetition: 0.4, entropy: 2.5 }

/** The losses of two masks on one text, and how they differ window by window. */
export interface TextSummary {
  text: string
  windows: number
  dense_perplexity: number
  parent_ratio: number
  /** Mean and standard deviation of the paired differences of the windows. */
  mean_difference: number
  paired_deviation: number
  /** The deviation for the mask that was selected from other text. */
  refreshed_deviation: number
  /** The deviation of one mask's losses. */
  unpaired_deviation: number
  /** Correlation of the paired differences of neighbouring windows. */
  neighbour_correlation: number
}

/** Summarises the measured losses of each text. */
export function summarise({ losses, tokens }: GateWindows): TextSummary[] {
  return Object.entries(tokens).map(([text, sizes]) => {
    const [dense = [], parent = [], candidate = [], refreshed = []] = [
      losses.dense,
      losses.parent,
      losses.candidate,
      losses.refreshed,
    ].map((mask) => mask[text])
    const differences = differencesOf(parent, candidate)
    const meanOf = (values: readonly number[]) => weightedMean(values, sizes)
    return {
      text,
      windows: differences.length,
      dense_perplexity: round(Math.exp(meanOf(dense)), 2),
      parent_ratio: round(Math.exp(meanOf(parent) - meanOf(dense)), 3),
      mean_difference: round(meanOf(differences), 4),
      paired_deviation: round(deviation(differences), 4),
      refreshed_deviation: round(deviation(differencesOf(parent, refreshed)), 4),
      unpaired_deviation: round(deviation(parent), 4),
      neighbour_correlation: round(neighbourCorrelation(differences), 2),
    }
  })
}

/** One simulated situation. */
export interface GateCase {
  group: 'equal' | 'limit' | 'constraint' | 'in a row'
  /** The service, or the domain whose constraint is tested. */
  service: string
  /** The texts that are domains of the service, with their traffic. */
  traffic: Record<string, number>
  /** Part of its target that the holdout of each domain has; at least 8,192 tokens. */
  grown: number
  /** Ratio of the candidate's perplexity to the parent's, by text; 1 where it is not named. */
  ratios: Record<string, number>
  /** The domain that the update calibrates for the first time; none for a refresh. */
  newDomain?: string
  /** Windows that follow each other in the text, in the mean; each is drawn by itself if left out. */
  inARow?: number
  /** The numbers of the candidates, from 1, that are tested in turn until one passes. */
  candidates: readonly number[]
  runs: number
}

/** The runs by which a test repeats a result. */
export const FIRST_RUNS = 50

/** How often the gate rejected all candidates of a {@link GateCase}. */
export interface GateResult extends GateCase {
  /** Windows of each holdout. */
  windows: number[]
  /** Each by a constraint, whatever the purpose says. */
  by_constraint: number
  /** Each by any of its figures. */
  rejected: number
  /** The number of the first {@link FIRST_RUNS} runs that were rejected. */
  first: number
}

/** A domain to draw from: the losses of the parent, and centred differences of the candidate. */
interface MeasuredText {
  text: string
  weight: number
  /** Windows of its holdout. */
  count: number
  tokens: readonly number[]
  parent: readonly number[]
  differences: readonly number[]
}

/**
 * Replays one case with fresh holdouts in each run. The windows of each candidate are drawn independently, which is the worst
 * case for candidates in turn: the errors of candidates that are alike come together.
 */
export function replayGate(measured: GateWindows, situation: GateCase): GateResult {
  const { ratios, newDomain, candidates, runs, inARow = 1 } = situation
  const random = createRandom(19)
  const domains = measuredTexts(measured, situation)
  const generation = { candidate: GENERATION, dense: GENERATION }
  const counts = { byConstraint: 0, rejected: 0, first: 0 }
  for (let run = 0; run < runs; run++) {
    const judged = candidates.map((candidate) => {
      const holdouts = domains.map((domain) => ({
        ...drawHoldout(random, domain, Math.log(ratios[domain.text] ?? 1), inARow),
        isNew: domain.text === newDomain,
      }))
      const { verdict, figures } = judge({
        policy: PRESETS.production.gate,
        holdouts,
        generation,
        candidate,
      })
      const violates = figures.some(({ name, passed }) => !passed && CONSTRAINTS.includes(name))
      return { isRejected: verdict === 'failed', violates }
    })
    const isRejected = judged.every((each) => each.isRejected)
    counts.byConstraint += Number(judged.every(({ violates }) => violates))
    counts.rejected += Number(isRejected)
    counts.first += Number(isRejected && run < FIRST_RUNS)
  }
  return {
    ...situation,
    windows: domains.map(({ count }) => count),
    by_constraint: counts.byConstraint / runs,
    rejected: counts.rejected / runs,
    first: counts.first,
  }
}

function measuredTexts({ tokens, losses }: GateWindows, { traffic, grown }: GateCase): MeasuredText[] {
  const total = Object.values(traffic).reduce((sum, weight) => sum + weight, 0)
  return Object.entries(traffic).map(([text, weight]) => {
    const parent = losses.parent[text] ?? []
    const differences = differencesOf(parent, losses.candidate[text] ?? [])
    const sizes = tokens[text] ?? []
    const center = weightedMean(differences, sizes)
    const size = Math.max(FULL_HOLDOUT_TOKENS, grown * targetTokens(weight / total))
    return {
      text,
      weight,
      // The first token of a window is context only. Each short text is a window.
      count: Math.min(MAX_TEXTS, Math.round(size / (mean(sizes) + 1))),
      tokens: sizes,
      parent,
      differences: differences.map((difference) => difference - center),
    }
  })
}

/** Draws windows with replacement, as many in a row as `inARow` in the mean; `shift` is the true difference of the masks. */
function drawHoldout(
  random: () => number,
  domain: MeasuredText,
  shift: number,
  inARow: number,
): Omit<GateHoldout, 'isNew'> {
  const { text, weight, count, tokens, parent, differences } = domain
  const drawn: number[] = []
  while (drawn.length < count) {
    const last = drawn.at(-1)
    const follows = last !== undefined && inARow > 1 && random() < 1 - 1 / inARow
    drawn.push(follows ? (last + 1) % parent.length : Math.floor(random() * parent.length))
  }
  const windowTokens = drawn.map((window) => tokens[window] ?? 0)
  const reference = drawn.map((window) => parent[window] ?? 0)
  const candidate = drawn.map((window) => (parent[window] ?? 0) + (differences[window] ?? 0) + shift)
  const lossesOf = (windowNll: number[]) => ({ nllMean: weightedMean(windowNll, windowTokens), windowNll })
  return {
    domain: text,
    sha256: text,
    windowTokens,
    weight,
    candidate: lossesOf(candidate),
    parent: lossesOf(reference),
    best: { version: 1, ...lossesOf(reference) },
  }
}

function differencesOf(parent: readonly number[], candidate: readonly number[]): number[] {
  return candidate.map((loss, window) => loss - (parent[window] ?? Number.NaN))
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function weightedMean(values: readonly number[], weights: readonly number[]): number {
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  return values.reduce((sum, value, index) => sum + value * (weights[index] ?? 0), 0) / total
}

function neighbourCorrelation(values: readonly number[]): number {
  const center = mean(values)
  const deviations = values.map((value) => value - center)
  const products = deviations.slice(1).map((value, index) => value * (deviations[index] ?? 0))
  const sum = (of: readonly number[]) => of.reduce((total, value) => total + value, 0)
  return sum(products) / sum(deviations.map((value) => value ** 2))
}

function deviation(values: readonly number[]): number {
  const center = mean(values)
  return Math.sqrt(values.reduce((sum, value) => sum + (value - center) ** 2, 0) / (values.length - 1))
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}
