import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { discardPartials } from '@copal/gpu-node/pruning/statistics/partial-artifact.ts'
import type { TokenSequences } from '@copal/gpu-node/pruning/calibration/token-sequences.ts'
import { CHUNK_TOKENS } from '@copal/gpu-node/pruning/calibration/token-chunks.ts'
import { assembleResults, isStageDone, masksOfOrder, runLabel } from './assemble-results.ts'
import type { CachedMask } from './lab-cache.ts'
import {
  blocksPerToken,
  calibrateSeconds,
  estimateRun,
  loadSeconds,
  selectSeconds,
  type Estimate,
} from './estimate-run.ts'
import { maskKey, pairKey, type Findings } from './findings.ts'
import { writeFolderModel } from './folder-model.ts'
import { explainFullDisk } from './explain-full-disk.ts'
import { openLab, type LabHooks, type OpenLab } from './open-lab.ts'
import { scheduleStages, type MaskPlan, type RunPlan, type StagePlan } from '../plan/plan-runs.ts'
import { writeResults } from '../results/results-file.ts'
import type { LabResults } from '../results/lab-results.ts'
import type { LabSettings } from '../plan/lab-settings.ts'
import { hasNoWork, findRemainingWork } from './remaining-work.ts'
import { createRunProgress, type RunProgress } from './run-progress.ts'
import type { WorkCounts } from './lab-steps.ts'

/** The work that a run will do, and its estimate. */
export interface LabPlan {
  runs: readonly RunPlan[]
  /** Distinct masks over all runs; `masksToSelect` of them have yet to be selected. */
  masks: number
  masksToSelect: number
  calibrations: number
  /** Weight sets to load and score. */
  evaluations: number
  estimate: Estimate
}

/** Callbacks of a whole run. */
export interface RunHooks extends LabHooks {
  /** Called before the work begins. */
  onPlan?: ((plan: LabPlan) => void) | undefined
}

/** The outcome of a run. */
export interface LabOutcome {
  results: LabResults
  done: WorkCounts
  seconds: number
}

/**
 * Runs a laboratory: calibrates, selects and evaluates what its folder does not hold yet, most valuable first, and
 * rewrites `results.json` after every stage. If it is killed, the same call resumes: finished blocks of statistics,
 * masks and evaluations are found in the cache.
 *
 * @throws AppError for unusable inputs, a folder of another model or in use (`conflict`), or a full disk; the signal's
 * reason when it aborts
 */
export async function runLab(settings: LabSettings, hooks: RunHooks): Promise<LabOutcome> {
  return withLab(settings, hooks, async (lab) => {
    const startedMs = performance.now()
    const plan = await planLab(lab)
    hooks.onPlan?.(plan)
    const progress = createRunProgress(plan.estimate.seconds.total, (fraction, message) =>
      hooks.onProgress?.('Laboratory', fraction, message),
    )
    // Progress must use the rates of the plan: with newer rates its steps would not add up to the planned total.
    const labWithPlanRates = { ...lab, rates: structuredClone(lab.rates) }
    await writeFolderModel(settings.outDir, { id: lab.model.id, identity: lab.identity })
    const results = await runStages(labWithPlanRates, settings.outDir, progress, hooks.signal)
    return { results, done: lab.steps.done, seconds: (performance.now() - startedMs) / 1000 }
  })
}

/** Plans and estimates a run without starting it. A folder without a cache is left untouched. */
export async function planLabRun(settings: LabSettings, hooks: LabHooks): Promise<LabPlan> {
  if (existsSync(join(settings.outDir, 'cache'))) return withLab(settings, hooks, planLab)
  const scratch = await mkdtemp(join(tmpdir(), 'copal-plan-'))
  try {
    return await withLab({ ...settings, outDir: scratch }, hooks, planLab)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

async function withLab<T>(
  settings: LabSettings,
  hooks: LabHooks,
  use: (lab: OpenLab) => Promise<T>,
): Promise<T> {
  try {
    const lab = await openLab(settings, hooks)
    try {
      return await use(lab)
    } finally {
      await lab.close()
    }
  } catch (error) {
    // Errors that follow from an abort are reported as the abort.
    hooks.signal.throwIfAborted()
    throw explainFullDisk(error)
  }
}

async function planLab(lab: OpenLab): Promise<LabPlan> {
  const { runs, domains, cache, findings, model, rates } = lab
  const stages = scheduleStages(runs)
  const workload = await findRemainingWork(stages, domains, lab.steps, cache, findings)
  if (!hasNoWork(workload) && (rates.calibrateToken === null || rates.evaluateToken === null)) {
    await measureRates(lab)
  }
  const { sizes } = lab
  return {
    runs,
    masks: new Set(stages.map(({ stage }) => maskKey(stage.mask))).size,
    masksToSelect: workload.selections.length,
    calibrations: workload.calibrations.length,
    evaluations: workload.weightSetLoads,
    estimate: estimateRun(model.config, workload, sizes, rates),
  }
}

/** Measures the speed of blocks if no earlier run on this machine did. */
async function measureRates({ child, domains, rates, model, sizes }: OpenLab): Promise<void> {
  const sequences = firstSequences(domains, sizes.length)
  if (!sequences) return
  const { forward, calibrate } = await child.call('measure', { sequences })
  rates.calibrateToken ??= calibrate * model.config.layers
  rates.evaluateToken ??= forward * blocksPerToken(model.config)
}

/** About one chunk of calibration text, or of evaluation text if there is no calibration text. */
function firstSequences(domains: OpenLab['domains'], length: number): TokenSequences | undefined {
  for (const { calibration } of domains) {
    for (const { tokens, sequences } of calibration?.sequences.values() ?? []) {
      const count = Math.min(sequences, Math.max(1, Math.floor(CHUNK_TOKENS / length)))
      return { tokens: tokens.slice(0, count * length), sequences: count, length }
    }
  }
  const [window] = domains[0]?.evaluation.cut.windows ?? []
  return window && { tokens: window, sequences: 1, length: window.length }
}

async function runStages(
  lab: OpenLab,
  outDir: string,
  progress: RunProgress,
  signal: AbortSignal,
): Promise<LabResults> {
  const { runs, about, findings } = lab
  const saveResults = async (): Promise<LabResults> => {
    const results = assembleResults(about, runs, findings)
    await writeResults(outDir, results)
    return results
  }
  for (const run of runs) {
    for (const { a, b } of consecutiveMasks(run, findings)) await lab.steps.loadCachedChurn(a.found, b.found)
  }
  let isDenseDone = false
  for (const { run, stage } of scheduleStages(runs)) {
    if (isStageDone(stage, findings)) continue
    signal.throwIfAborted()
    const mask = await selectMask(lab, stage.mask, progress)
    // After selection, which reads every weight and names a linear that is not finite; an evaluation could not.
    if (!isDenseDone) await evaluateDense(lab, progress)
    isDenseDone = true
    await evaluateMask(lab, run, stage, mask, progress)
    await measureChurns(lab, run, progress)
    await saveResults()
    if (run.stages.every((one) => isStageDone(one, findings)))
      await lab.steps.removePrunedStatistics(stage.mask)
  }
  await evaluateDense(lab, progress)
  for (const run of runs) await measureChurns(lab, run, progress)
  // Removes what stopped or killed runs left behind.
  await discardPartials(lab.cache.statisticsDir)
  await lab.cache.discardPrunedStatistics()
  return saveResults()
}

async function evaluateDense(lab: OpenLab, progress: RunProgress): Promise<void> {
  const { domains, model, rates, findings } = lab
  const names = domains.map(({ name }) => name)
  if (names.every((name) => findings.evaluations.has(pairKey(null, name)))) return
  const seconds = loadSeconds(model.config) + scoringSeconds(lab, names, rates.evaluateToken)
  await lab.steps.evaluate(null, names, progress.startStep(seconds, 'dense: '))
}

/** Selects a mask, after calibrating the domains that it needs; returns the cached one if it exists. */
async function selectMask(lab: OpenLab, mask: MaskPlan, progress: RunProgress): Promise<CachedMask> {
  const { model, rates, findings, cache } = lab
  const known = findings.masks.get(maskKey(mask))
  if (known && (await cache.hasMaskFile(known))) return known
  const secondsOf = (tokens: number) => calibrateSeconds(model.config, { ...mask, tokens }, lab.sizes, rates)
  for (const name of mask.propagation === 'dense' ? mask.domains : []) {
    if (lab.steps.hasStatistics(name, mask.samples)) continue
    const domain = lab.domains.find((one) => one.name === name)
    const tokens = domain?.calibration?.sequences.get(mask.samples)?.tokens.length ?? 0
    await lab.steps.calibrate(name, mask.samples, progress.startStep(secondsOf(tokens), ''))
  }
  const seconds =
    selectSeconds(model.config, mask.method, lab.sizes.threads, rates) +
    lab.steps.tokensToCalibrate(mask).reduce((total, tokens) => total + secondsOf(tokens), 0)
  return lab.steps.select(mask, progress.startStep(seconds, ''))
}

async function evaluateMask(
  lab: OpenLab,
  run: RunPlan,
  { mask, evaluateOn }: StagePlan,
  selected: CachedMask,
  progress: RunProgress,
): Promise<void> {
  const { model, rates } = lab
  const after = mask.domains.length > 0 ? ` after ${mask.domains.join(' + ')}` : ''
  const seconds = loadSeconds(model.config) + scoringSeconds(lab, evaluateOn, rates.evaluateToken)
  await lab.steps.evaluate(selected, evaluateOn, progress.startStep(seconds, `${runLabel(run)}${after}: `))
}

/** Measures the difference between consecutive masks of the run's orders, where both were selected. */
async function measureChurns(lab: OpenLab, run: RunPlan, progress: RunProgress): Promise<void> {
  for (const { a, b } of consecutiveMasks(run, lab.findings)) {
    if (await lab.steps.loadCachedChurn(a.found, b.found)) continue
    await lab.steps.measureChurn(
      await selectMask(lab, a.mask, progress),
      await selectMask(lab, b.mask, progress),
    )
  }
}

/** Pairs of consecutive masks of the run's orders, where both were selected. */
function consecutiveMasks(run: RunPlan, { masks }: Findings) {
  const pairs = []
  for (const order of run.orders) {
    const along = masksOfOrder(run, order).map((mask) => ({ mask, found: masks.get(maskKey(mask)) }))
    for (const [stage, { mask, found }] of along.entries()) {
      const next = along[stage + 1]
      if (found && next?.found) {
        pairs.push({ a: { mask, found }, b: { mask: next.mask, found: next.found } })
      }
    }
  }
  return pairs
}

function scoringSeconds({ domains }: OpenLab, names: readonly string[], tokenSeconds: number | null): number {
  const windows = domains
    .filter(({ name }) => names.includes(name))
    .flatMap(({ evaluation }) => evaluation.cut.windows)
  return windows.reduce((tokens, window) => tokens + window.length, 0) * (tokenSeconds ?? 0)
}
