import { rm } from 'node:fs/promises'
import { AppError } from '@copal/shared/errors.ts'
import type { Backend } from '@copal/gpu-node/serving/contract/backend.ts'
import {
  DamagedArtifactError,
  listArtifacts,
  partId,
  type ArtifactPart,
} from '@copal/gpu-node/pruning/statistics/statistics-artifact.ts'
import { evaluateWindows } from '@copal/gpu-node/pruning/evaluation/evaluate-windows.ts'
import { sensitivityInputs } from '@copal/gpu-node/pruning/selection/allocate-ratios.ts'
import { parseMethod, revisionsOf } from '@copal/gpu-node/pruning/methods/method-registry.ts'
import { discardArtifact } from '@copal/gpu-node/pruning/statistics/artifact-folder.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import type { CachedEvaluation, CachedMask, LabCache, Rates } from './lab-cache.ts'
import { maskKey, pairKey, type Findings } from './findings.ts'
import type { LabProcess } from './lab-process.ts'
import { requiredCalibrations, type MaskPlan } from '../plan/plan-runs.ts'
import { LAB_DRAW, type PreparedDomain } from '../texts/prepare-domains.ts'
import type { TimingMachine } from '../results/lab-results.ts'

/** How much was done; results from the cache do not count. */
export interface WorkCounts {
  calibrated: number
  selected: number
  evaluated: number
}

/** Receives the progress of a step, 0 to 1. */
type OnProgress = (fraction: number, message: string) => void

/** Dependencies of {@link createLabSteps}. */
export interface LabStepsDeps {
  model: DenseModel
  domains: readonly PreparedDomain[]
  settings: {
    length: number
    seed: number
    windowTokens: number
    /** Patterns of single linears in every mask, sorted by name. */
    linearPatterns: Record<string, string>
  }
  child: LabProcess
  backend: Backend
  cache: LabCache
  findings: Findings
  rates: Rates
  /** Recorded beside measured seconds. */
  ranOn: TimingMachine
  /** Saves rates for the next run. */
  saveRates: (rates: Rates) => Promise<void>
  signal: AbortSignal
  nowMs: () => number
}

/** The steps of a laboratory run. Each does only what is not cached, and records it in the cache and the findings. */
export interface LabSteps {
  done: WorkCounts
  /** Reads into the findings what the cache holds of these masks. */
  loadCached(masks: readonly MaskPlan[]): Promise<void>
  hasStatistics(domain: string, samples: number): boolean
  calibrate(domain: string, samples: number, onProgress: OnProgress): Promise<void>
  /** Tokens of each calibration that selecting this mask includes; only with pruned propagation. */
  tokensToCalibrate(mask: MaskPlan): number[]
  /** Selects a mask whose statistics exist; damaged statistics are calibrated again. */
  select(mask: MaskPlan, onProgress: OnProgress): Promise<CachedMask>
  /** Evaluates a mask (null: the dense model) on these domains. */
  evaluate(mask: CachedMask | null, domains: readonly string[], onProgress: OnProgress): Promise<void>
  /** Reads the difference of two masks into the findings if it is known; returns whether it is. */
  loadCachedChurn(a: CachedMask, b: CachedMask): Promise<boolean>
  /** Measures the difference of two masks, whose files must exist. */
  measureChurn(a: CachedMask, b: CachedMask): Promise<void>
  /** Removes the pruned statistics of this mask's run; call it when all masks of the run are selected. */
  removePrunedStatistics(mask: MaskPlan): Promise<void>
}

/** Version of a weight set that is only evaluated, so that no request can be pinned to it. */
const NOT_SERVED = -1

/** Creates the steps of a run. */
export async function createLabSteps(deps: LabStepsDeps): Promise<LabSteps> {
  const { model, settings, child, cache, findings, rates, ranOn } = deps
  const { baseSha256 } = model.master
  const byName = new Map(deps.domains.map((domain) => [domain.name, domain]))
  const done: WorkCounts = { calibrated: 0, selected: 0, evaluated: 0 }
  const calibratedPruned = new Set<string>()
  /** Empty if no linear has a pattern of its own, so that cache keys stay those of versions without this setting. */
  const linearPatternsKey = Object.keys(settings.linearPatterns).length > 0 ? [settings.linearPatterns] : []
  const onDisk = new Set((await listArtifacts(cache.statisticsDir, baseSha256)).map(({ id }) => id))

  const requireDomain = (name: string): PreparedDomain => {
    const domain = byName.get(name)
    if (!domain) throw new RangeError(`unknown domain ${name}`)
    return domain
  }
  const statisticsOf = (name: string, samples: number) => {
    const { calibration } = requireDomain(name)
    const sequences = calibration?.sequences.get(samples)
    if (!calibration || !sequences) throw new RangeError(`${name} has no ${samples} sequences`)
    const { sha256: datasetSha256 } = calibration
    const { length, seed } = settings
    const spec = { baseSha256, datasetSha256, samples, length, seed, draw: LAB_DRAW }
    const part: ArtifactPart = {
      id: partId(spec),
      datasetSha256,
      domain: name,
      tokens: sequences.tokens.length,
    }
    return { part, spec, sequences }
  }
  const partIds = ({ domains, samples }: MaskPlan) =>
    domains.map((name) => statisticsOf(name, samples).part.id)
  const maskCacheKey = (mask: MaskPlan) => [
    baseSha256,
    mask.method,
    mask.pattern,
    mask.scope,
    ...(mask.propagation === 'dense' ? [partIds(mask).toSorted()] : [mask.propagation, partIds(mask)]),
    ...sensitivityInputs(mask.method, model),
    ...revisionsKey(mask.method),
    ...linearPatternsKey,
  ]
  const evaluationKey = (maskSha256: string | null, name: string) => [
    baseSha256,
    maskSha256 ?? 'dense',
    requireDomain(name).evaluation.cut.sha256,
    settings.windowTokens,
  ]
  const churnKey = (a: string, b: string) => [a, b].toSorted()
  const recordChurn = (a: string, b: string, churn: number) => {
    findings.churns.set(pairKey(a, b), churn)
    findings.churns.set(pairKey(b, a), churn)
  }

  async function loadCachedEvaluations(maskSha256: string | null): Promise<void> {
    for (const { name } of deps.domains) {
      const found = await cache.evaluations.get(evaluationKey(maskSha256, name))
      if (found) findings.evaluations.set(pairKey(maskSha256, name), found)
    }
  }

  async function calibrate(name: string, samples: number, onProgress: OnProgress): Promise<void> {
    const { part, sequences } = statisticsOf(name, samples)
    if (onDisk.has(part.id)) return
    const work = { statisticsDir: cache.statisticsDir, part, sequences }
    const { seconds, blocks } = await child.call('calibrate', work, onProgress)
    onDisk.add(part.id)
    done.calibrated++
    if (blocks === 0) return
    // The time of blocks that an earlier run did is unknown: extrapolate from those done now.
    const whole = { seconds: (seconds * model.config.layers) / blocks, tokens: part.tokens, ranOn }
    findings.calibrations.set(pairKey(name, samples), whole)
    await cache.calibrations.put([part.id], whole)
    rates.calibrateToken = whole.seconds / whole.tokens
    await deps.saveRates(rates)
  }

  async function selectOnce(mask: MaskPlan, created: string, onProgress: OnProgress): Promise<CachedMask> {
    const { method, pattern, scope, samples, domains } = mask
    const { masksDir } = cache
    const common = {
      selection: { method, pattern, scope, patterns: settings.linearPatterns },
      created,
      masksDir,
      statisticsDir: statisticsDirOf(mask),
    }
    if (mask.propagation !== 'dense') {
      const stages = domains.map((domain) => {
        const { spec, sequences } = statisticsOf(domain, samples)
        return { spec, domain, sequences }
      })
      const result = await child.call('selectPruned', { ...common, stages }, onProgress)
      done.calibrated += result.calibrated
      for (const { key } of requiredCalibrations(mask)) calibratedPruned.add(key)
      return { ...result.mask, created }
    }
    const work = { ...common, domains, parts: partIds(mask) }
    return { ...(await child.call('select', work, onProgress)), created }
  }

  /** Statistics of pruned propagation are valid for one method and pattern only. */
  function statisticsDirOf({ propagation, method, pattern, scope, samples }: MaskPlan): string {
    if (propagation === 'dense') return cache.statisticsDir
    return cache.prunedStatisticsDir([
      propagation,
      baseSha256,
      method,
      pattern,
      scope,
      samples,
      settings.length,
      settings.seed,
      ...(parseMethod(method).rows ? sensitivityInputs(method, model) : []),
      ...revisionsKey(method),
      ...linearPatternsKey,
    ])
  }

  return {
    done,
    async loadCached(masks) {
      await loadCachedEvaluations(null)
      for (const mask of masks) {
        for (const name of mask.domains) {
          const { part } = statisticsOf(name, mask.samples)
          const calibration = await cache.calibrations.get([part.id])
          if (calibration) findings.calibrations.set(pairKey(name, mask.samples), calibration)
        }
        const found = await cache.masks.get(maskCacheKey(mask))
        if (!found) continue
        findings.masks.set(maskKey(mask), found)
        await loadCachedEvaluations(found.sha256)
      }
    },
    hasStatistics: (name, samples) => onDisk.has(statisticsOf(name, samples).part.id),
    calibrate,
    tokensToCalibrate(mask) {
      if (mask.propagation === 'dense') return []
      return requiredCalibrations(mask)
        .filter(({ key }) => !calibratedPruned.has(key))
        .map(({ name }) => statisticsOf(name, mask.samples).part.tokens)
    },
    async select(mask, onProgress) {
      // A mask selected again must have the same bytes, so that its evaluations still count.
      const created = findings.masks.get(maskKey(mask))?.created ?? new Date(deps.nowMs()).toISOString()
      for (let repairs = 0; ; repairs++) {
        try {
          const found = { ...(await selectOnce(mask, created, onProgress)), ranOn }
          findings.masks.set(maskKey(mask), found)
          await cache.masks.put(maskCacheKey(mask), found)
          done.selected++
          // With pruned propagation most of the time is calibration.
          if (mask.propagation === 'dense') rates.select[mask.method] = found.seconds
          await deps.saveRates(rates)
          return found
        } catch (error) {
          // Statistics can be computed again from their text; the limit is for a disk that damages everything.
          if (!(error instanceof DamagedArtifactError) || repairs > mask.domains.length) throw error
          await discardArtifact(statisticsDirOf(mask), error.artifactId)
          onDisk.delete(error.artifactId)
          if (mask.propagation !== 'dense') continue
          for (const name of mask.domains) await calibrate(name, mask.samples, onProgress)
        }
      }
    },
    async evaluate(mask, names, onProgress) {
      const sha256 = mask?.sha256 ?? null
      const missing = names.filter((name) => !findings.evaluations.has(pairKey(sha256, name)))
      if (missing.length === 0) return
      const weights = {
        model,
        version: mask ? NOT_SERVED : 0,
        maskPath: sha256 === null ? null : cache.maskPath(sha256),
      }
      let next = 0
      let startedMs = performance.now()
      const timer = createWindowTimer()
      const sources = missing.map((name) => requireDomain(name).evaluation.cut)
      const scoring = evaluateWindows(deps.backend, weights, sources, {
        signal: deps.signal,
        onProgress: (windows, total) => {
          timer.reached(windows)
          onProgress(windows / total, `evaluating, window ${windows} of ${total}`)
        },
      })
      for await (const { nllMean, perplexity, tokens, windowNll } of scoring) {
        const name = missing[next++] as string
        if (!Number.isFinite(nllMean)) {
          throw new AppError(
            'node_failed',
            `The loss of ${sha256 === null ? 'the dense model' : `mask ${sha256}`} on '${name}' is not finite.`,
          )
        }
        const found: CachedEvaluation = {
          nllMean,
          perplexity: Math.min(perplexity, Number.MAX_VALUE),
          tokens,
          windowNll,
          seconds: (performance.now() - startedMs) / 1000,
          ranOn,
        }
        startedMs = performance.now()
        findings.evaluations.set(pairKey(sha256, name), found)
        await cache.evaluations.put(evaluationKey(sha256, name), found)
        done.evaluated++
      }
      rates.evaluateToken = timer.secondsPerWindow() / settings.windowTokens || rates.evaluateToken
      await deps.saveRates(rates)
    },
    async removePrunedStatistics(mask) {
      if (mask.propagation !== 'dense') await rm(statisticsDirOf(mask), { recursive: true, force: true })
    },
    async loadCachedChurn(a, b) {
      if (a.sha256 === b.sha256 || findings.churns.has(pairKey(a.sha256, b.sha256))) return true
      const found = await cache.churns.get(churnKey(a.sha256, b.sha256))
      if (found) recordChurn(a.sha256, b.sha256, found.churn)
      return found !== undefined
    },
    async measureChurn(a, b) {
      const paths = { path: cache.maskPath(a.sha256), otherPath: cache.maskPath(b.sha256) }
      const found = await child.call('churn', paths)
      await cache.churns.put(churnKey(a.sha256, b.sha256), found)
      recordChurn(a.sha256, b.sha256, found.churn)
    },
  }
}

/** Empty if all revisions are 0, so that cache keys stay those of versions without revisions. */
function revisionsKey(method: string): Record<string, number>[] {
  const raised = revisionsOf(parseMethod(method))
  return Object.keys(raised).length > 0 ? [raised] : []
}

/** Measures the time per window between the first and the last, which excludes loading the weights. */
function createWindowTimer() {
  let first: { windows: number; atMs: number } | undefined
  let last: { windows: number; atMs: number } | undefined
  return {
    reached(windows: number): void {
      if (windows === 0) return
      last = { windows, atMs: performance.now() }
      first ??= last
    },
    /** NaN for fewer than two windows. */
    secondsPerWindow: (): number =>
      first && last ? (last.atMs - first.atMs) / 1000 / (last.windows - first.windows) : Number.NaN,
  }
}
