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
  runs: number
}

/** The runs by which a test repeats a result. */
export const FIRST_RUNS = 200

/** How often the gate rejected the candidate of a {@link GateCase}. */
export interface GateResult extends GateCase {
  /** By a constraint, whatever the purpose says. */
  by_constraint: number
  /** By any of its figures. */
  rejected: number
  /** The number of the first {@link FIRST_RUNS} runs that a constraint rejected. */
  first: number
}

/** Replays one case with fresh holdouts in each run. */
export function replayGate(windows: GateWindows, { name, ratios, newDomain, runs }: GateCase): GateResult {
  const random = createRandom(19)
  const { window_tokens: windowTokens, texts, losses } = windows
  const count = HOLDOUT_TOKENS / windowTokens
  const measured = Object.keys(texts).map((text) => {
    const parent = losses.parent[text] ?? []
    const differences = differencesOf(parent, losses.candidate[text] ?? [])
    const center = mean(differences)
    return { text, parent, differences: differences.map((difference) => difference - center) }
  })
  let byConstraint = 0
  let rejected = 0
  let first = 0
  for (let run = 0; run < runs; run++) {
    const holdouts = measured.map(({ text, parent, differences }): GateHoldout => {
      const drawn = Array.from({ length: count }, () => Math.floor(random() * parent.length))
      const reference = drawn.map((window) => parent[window] ?? 0)
      const shift = Math.log(ratios[text] ?? 1)
      const candidate = drawn.map((window) => (parent[window] ?? 0) + (differences[window] ?? 0) + shift)
      return {
        domain: text,
        sha256: text,
        windowTokens: drawn.map(() => windowTokens - 1),
        isNew: text === newDomain,
        weight: 1,
        candidate: { nllMean: mean(candidate), windowNll: candidate },
        parent: { nllMean: mean(reference), windowNll: reference },
        best: { version: 1, nllMean: mean(reference), windowNll: reference },
      }
    })
    const generation = { candidate: GENERATION, dense: GENERATION }
    const { verdict, figures } = gateVerdict({
      policy: PRESETS.production.gate,
      holdouts,
      generation,
    })
    if (verdict === 'failed') rejected += 1
    const violates = figures.some(({ name: figure, passed }) => !passed && CONSTRAINTS.includes(figure))
    if (violates) byConstraint += 1
    if (violates && run < FIRST_RUNS) first += 1
  }
  const situation = { name, ratios, ...(newDomain === undefined ? {} : { newDomain }), runs }
  return { ...situation, by_constraint: byConstraint / runs, rejected: rejected / runs, first }
}

/** Returns the cases of the table. */
export function gateCases({ texts }: Pick<GateWindows, 'texts'>, runs: number): GateCase[] {
  const names = Object.keys(texts)
  const worse = (percent: number) =>
    names.map((text) => ({
      name: `refresh, ${text} ${percent} % worse`,
      ratios: { [text]: 1 + percent / 100 },
      runs,
    }))
  // The gain of the new domain wins the purpose, so that only the constraint of the other one can catch its loss.
  const withGain = (text: string, percent: number) => {
    const newDomain = names.find((name) => name !== text) ?? ''
    const ratios = { [newDomain]: 0.8, [text]: 1 + percent / 100 }
    return { name: `${newDomain} new and 20 % better, ${text} ${percent} % worse`, ratios, newDomain, runs }
  }
  return [
    { name: 'refresh, no difference', ratios: {}, runs },
    ...worse(5),
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

function deviation(values: readonly number[]): number {
  const center = mean(values)
  return Math.sqrt(values.reduce((sum, value) => sum + (value - center) ** 2, 0) / (values.length - 1))
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}
