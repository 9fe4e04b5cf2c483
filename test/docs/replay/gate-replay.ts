/**
 * Replays the gate on window losses of real masks: how often a mask that is as good as the active one is rejected, and how
 * often one that is worse in one domain is caught, at the default holdout size.
 *
 * Differences between two masks that are equally good are drawn with replacement from those that were measured, after
 * their mean was subtracted; a regression is added to each. So the true difference is known.
 */
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { COMPARISONS } from '../../../gateway/src/adaptation/gate/gate-figures.ts'
import type { GateHoldout } from '../../../gateway/src/adaptation/gate/gate-input.ts'
import { gateVerdict } from '../../../gateway/src/adaptation/gate/gate-verdict.ts'
import { createRandom } from '../../support/harness/random.ts'

/** `docs/results/gate/windows.json`: losses of windows, nats a token, by mask and text. */
export interface GateWindows {
  model: string
  method: string
  pattern: string
  window_tokens: number
  texts: Record<string, string>
  losses: Record<'dense' | 'parent' | 'candidate', Record<string, number[]>>
}

/** The default size of a holdout. */
const HOLDOUT_TOKENS = 8192
const CONSTRAINTS: readonly string[] = [COMPARISONS.parent, COMPARISONS.best]
const GENERATION = { finite: true, tokens: 192, repetition: 0.4, entropy: 2.5 }

/** The losses of the two masks on one text, and how they differ window by window. */
export interface TextSummary {
  text: string
  windows: number
  dense_perplexity: number
  parent_ratio: number
  /** Mean and standard deviation of the paired differences, and the deviation of one mask's losses. */
  mean_difference: number
  paired_deviation: number
  unpaired_deviation: number
  /** Correlation of the paired differences of neighbouring windows. */
  neighbour_correlation: number
}

/** Summarises the measured losses of each text. */
export function summarise({ losses, texts }: GateWindows): TextSummary[] {
  return Object.keys(texts).map((text) => {
    const [dense, parent, candidate] = [losses.dense, losses.parent, losses.candidate].map(
      (mask) => mask[text] ?? [],
    )
    const differences = differencesOf(parent ?? [], candidate ?? [])
    return {
      text,
      windows: differences.length,
      dense_perplexity: round(Math.exp(mean(dense ?? [])), 2),
      parent_ratio: round(Math.exp(mean(parent ?? []) - mean(dense ?? [])), 3),
      mean_difference: round(mean(differences), 4),
      paired_deviation: round(deviation(differences), 4),
      unpaired_deviation: round(deviation(parent ?? []), 4),
      neighbour_correlation: round(neighbourCorrelation(differences), 2),
    }
  })
}

/** One simulated situation. */
export interface GateCase {
  name: string
  /** Ratio of the candidate's perplexity to the parent's, by text; 1 where it is not named. */
  ratios: Record<string, number>
  /** The domain that the update calibrates for the first time; none for a refresh. */
  newDomain?: string
  /** The only domain of the service; all three texts are domains if it is left out. */
  only?: string
  /** The numbers of the candidates, from 1, that are tested in turn until one passes. */
  candidates: readonly number[]
  runs: number
}

/** The runs by which a test repeats a result. */
export const FIRST_RUNS = 200

/** How often the gate rejected all candidates of a {@link GateCase}. */
export interface GateResult extends GateCase {
  /** Each by a constraint, whatever the purpose says. */
  by_constraint: number
  /** Each by any of its figures. */
  rejected: number
  /** The number of the first {@link FIRST_RUNS} runs that a constraint rejected. */
  first: number
}

/**
 * Replays one case with fresh holdouts in each run. Candidates of a run are tested on the same windows, and their differences
 * are drawn independently, which is the worst case: the errors of candidates that are alike come together.
 */
export function replayGate(windows: GateWindows, situation: GateCase): GateResult {
  const { ratios, newDomain, only, candidates, runs } = situation
  const random = createRandom(19)
  const { window_tokens: windowTokens, texts, losses } = windows
  const count = HOLDOUT_TOKENS / windowTokens
  const names = Object.keys(texts).filter((text) => only === undefined || text === only)
  const measured = names.map((text) => {
    const parent = losses.parent[text] ?? []
    const differences = differencesOf(parent, losses.candidate[text] ?? [])
    const center = mean(differences)
    return { text, parent, differences: differences.map((difference) => difference - center) }
  })
  let byConstraint = 0
  let rejected = 0
  let first = 0
  for (let run = 0; run < runs; run++) {
    const drawn = measured.map(({ parent }) => drawWindows(random, count, parent.length))
    const judged = candidates.map((candidate, place) => {
      const holdouts = measured.map(({ text, parent, differences }, index): GateHoldout => {
        const shown = drawn[index] ?? []
        const reference = shown.map((window) => parent[window] ?? 0)
        const own = place === 0 ? shown : drawWindows(random, count, parent.length)
        const shift = Math.log(ratios[text] ?? 1)
        const ofCandidate = reference.map(
          (loss, window) => loss + (differences[own[window] ?? 0] ?? 0) + shift,
        )
        const parentLosses = { nllMean: mean(reference), windowNll: reference }
        return {
          domain: text,
          sha256: text,
          windowTokens: shown.map(() => windowTokens - 1),
          isNew: text === newDomain,
          weight: 1,
          candidate: { nllMean: mean(ofCandidate), windowNll: ofCandidate },
          parent: parentLosses,
          best: { version: 1, ...parentLosses },
        }
      })
      const generation = { candidate: GENERATION, dense: GENERATION }
      const { verdict, figures } = gateVerdict({
        policy: PRESETS.production.gate,
        holdouts,
        generation,
        candidate,
      })
      const violates = figures.some(({ name, passed }) => !passed && CONSTRAINTS.includes(name))
      return { isRejected: verdict === 'failed', violates }
    })
    const violate = judged.every(({ violates }) => violates)
    if (judged.every(({ isRejected }) => isRejected)) rejected += 1
    if (violate) byConstraint += 1
    if (violate && run < FIRST_RUNS) first += 1
  }
  return { ...situation, by_constraint: byConstraint / runs, rejected: rejected / runs, first }
}

function drawWindows(random: () => number, count: number, windows: number): number[] {
  return Array.from({ length: count }, () => Math.floor(random() * windows))
}

/** Returns the cases of the table. */
export function gateCases({ texts }: Pick<GateWindows, 'texts'>, runs: number): GateCase[] {
  const names = Object.keys(texts)
  const worse = (percent: number) =>
    names.map((text) => ({
      name: `refresh, ${text} ${percent} % worse`,
      ratios: { [text]: 1 + percent / 100 },
      candidates: [1],
      runs,
    }))
  // The gain of the new domain wins the purpose, so that only the constraint of the other one can catch its loss.
  const withGain = (text: string, percent: number) => {
    const newDomain = names.find((name) => name !== text) ?? ''
    const ratios = { [newDomain]: 0.8, [text]: 1 + percent / 100 }
    return {
      name: `${newDomain} new and 20 % better, ${text} ${percent} % worse`,
      ratios,
      newDomain,
      candidates: [1],
      runs,
    }
  }
  const equal = (candidate: number, only?: string) => ({
    name: `refresh${only === undefined ? '' : ` of ${only} alone`}, no difference${candidate === 1 ? '' : `, candidate ${candidate}`}`,
    ratios: {},
    ...(only === undefined ? {} : { only }),
    candidates: [candidate],
    runs,
  })
  const inTurn = names.map((text) => {
    const situation = withGain(text, 5)
    return { ...situation, name: `${situation.name}, three candidates in turn`, candidates: [1, 2, 3] }
  })
  return [
    ...[1, 2, 3, 12].map((candidate) => equal(candidate)),
    ...[1, 2, 3].map((candidate) => equal(candidate, names[0])),
    ...worse(5),
    ...inTurn,
    ...names.flatMap((text) => [2, 3, 4, 5, 6].map((percent) => withGain(text, percent))),
  ]
}

/** Replays every case of the table. */
export function replayAll(windows: GateWindows, runs: number): GateResult[] {
  return gateCases(windows, runs).map((each) => replayGate(windows, each))
}

function differencesOf(parent: readonly number[], candidate: readonly number[]): number[] {
  return candidate.map((loss, window) => loss - (parent[window] ?? Number.NaN))
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
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
