import type { MethodVariant } from '@copal/gpu-node/pruning/methods/method-variant.ts'
import { rmdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { createOnnxBackend } from '@copal/gpu-node/serving/backends/onnx/onnx-backend.ts'
import { requireContext } from '@copal/gpu-node/pruning/evaluation/evaluate-windows.ts'
import { withAllocation } from '@copal/gpu-node/pruning/selection/allocate-ratios.ts'
import { checkPatterns, expandPatterns } from '@copal/gpu-node/pruning/selection/mask-patterns.ts'
import { createRandom } from '@copal/gpu-node/platform/seeded-random.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { modelIdentity } from '@copal/gpu-node/model/master/model-identity.ts'
import { openModel } from '@copal/gpu-node/model/open-model.ts'
import type { OnModelProgress } from '@copal/gpu-node/platform/progress.ts'
import { haveSameInputs, describeRun } from './describe-run.ts'
import type { RunDescription } from './assemble-results.ts'
import { openLabCache, type LabCache, type Rates } from './lab-cache.ts'
import { requireDistinctDomains } from '../texts/domain-spec.ts'
import { createFindings, type Findings } from './findings.ts'
import { requireFolderModel } from './folder-model.ts'
import { takeFolderLock } from './folder-lock.ts'
import { startLabProcess, type LabProcess } from './lab-process.ts'
import { choosePermutations } from '../plan/permutations.ts'
import { variantsAt, planRuns, type RunPlan } from '../plan/plan-runs.ts'
import type { PreparedDomain } from '../texts/prepare-domains.ts'
import { readResults } from '../results/results-file.ts'
import type { LabSettings } from '../plan/lab-settings.ts'
import { createLabSteps, type LabSteps } from './lab-steps.ts'
import { processorName } from '@copal/gpu-node/platform/processor-name.ts'
import { nearestExisting } from '@copal/gpu-node/platform/existing-path.ts'
import { makeFolder } from '@copal/gpu-node/platform/make-folder.ts'

/** Callbacks and abort signal of a laboratory run. */
export interface LabHooks {
  signal: AbortSignal
  /** Called while the model is fetched, verified or converted. */
  onModel?: OnModelProgress | undefined
  /** Called with warnings about the texts. */
  onWarning?: ((warning: string) => void) | undefined
  /** Called with the progress, 0 to 1, of the phase that the label names. */
  onProgress?: ((label: 'Preparing' | 'Laboratory', fraction: number, message: string) => void) | undefined
}

/** An open laboratory: its texts are read and its work is planned. */
export interface OpenLab {
  model: DenseModel
  /** See {@link modelIdentity}. */
  identity: string
  domains: PreparedDomain[]
  sizes: LabSizes
  runs: RunPlan[]
  about: RunDescription
  cache: LabCache
  findings: Findings
  rates: Rates
  saveRates(): Promise<void>
  child: LabProcess
  steps: LabSteps
  close(): Promise<void>
}

/** Sizes that were chosen for the model. */
interface LabSizes {
  length: number
  windowTokens: number
  threads: number
}

/** Length of sequences and windows in the paper; shorter if the model's context is. */
const DEFAULT_TOKENS = 2048

/**
 * Opens a laboratory: locks the folder, opens the model, reads the texts and plans the runs.
 *
 * @throws AppError for any unusable input; the folder is then left as it was
 */
export async function openLab(settings: LabSettings, hooks: LabHooks): Promise<OpenLab> {
  requireDistinctDomains(settings.domains)
  const existing = nearestExisting(settings.outDir)
  makeFolder(settings.outDir)
  const lock = takeFolderLock(settings.outDir)
  const started: (() => Promise<void>)[] = [
    () => removeEmptyFolders(settings.outDir, existing),
    async () => lock.release(),
  ]
  const close = async () => {
    for (const end of started.splice(0).toReversed()) await end()
  }
  try {
    return await open()
  } catch (error) {
    await close()
    throw error
  }

  async function open(): Promise<OpenLab> {
    const { cacheDir, outDir, threads } = settings
    const model = await openModel(settings.model, {
      cacheDir,
      onProgress: hooks.onModel,
      signal: hooks.signal,
    })
    const identity = await modelIdentity(model)
    await requireFolderModel(outDir, { id: model.id, identity })
    const linearPatterns = linearPatternsOf(model, settings)
    const sizes = checkSizes(model, settings, linearPatterns)
    const orders = ordersOf(settings)
    const runs = plan(settings, orders)
    const { baseSha256 } = model.master
    const reference = { spec: settings.model, cacheDir, id: model.id, baseSha256 }
    const child = startLabProcess({ model: reference, threads })
    // Closing the child rejects its pending calls, so that nothing keeps waiting.
    const abort = () => void child.close()
    hooks.signal.addEventListener('abort', abort, { once: true })
    started.push(async () => {
      hooks.signal.removeEventListener('abort', abort)
      await child.close()
    })
    const { domains, warnings } = await child.call(
      'prepare',
      prepareCall(settings, sizes),
      (fraction, message) => hooks.onProgress?.('Preparing', fraction, message),
    )
    for (const warning of warnings) hooks.onWarning?.(warning)
    const cache = await openLabCache(join(outDir, 'cache'))
    const findings = createFindings()
    const ranOn = { cpu: processorName(), threads }
    const machine = [baseSha256, ranOn.cpu, threads]
    const rates = await cache.rates.get(machine)
    const steps = await createLabSteps({
      model,
      domains,
      settings: { ...settings, ...sizes, linearPatterns },
      child,
      backend: createOnnxBackend({ workDir: join(outDir, 'cache', 'work'), threads }),
      cache,
      findings,
      rates,
      ranOn,
      saveRates: (kept) => cache.rates.put(machine, kept),
      signal: hooks.signal,
      nowMs: Date.now,
    })
    await steps.loadCached(runs.flatMap(({ stages }) => stages.map(({ mask }) => mask)))
    const about = describeRun(
      model,
      { domains, warnings },
      { ...settings, ...sizes },
      orders,
      new Date().toISOString(),
    )
    // A resumed run keeps its original start time.
    const earlier = await readResults(outDir).catch(() => undefined)
    if (earlier && haveSameInputs(earlier, about)) about.created = earlier.created
    const saveRates = () => cache.rates.put(machine, rates)
    return {
      model,
      identity,
      domains,
      sizes,
      runs,
      about,
      cache,
      findings,
      rates,
      saveRates,
      child,
      steps,
      close,
    }
  }
}

/** Removes a folder if it is empty, and its parents below `existing`, which existed before. */
async function removeEmptyFolders(dir: string, existing: string): Promise<void> {
  if (dir === existing) return
  const isGone = await rmdir(dir).then(
    () => true,
    () => false,
  )
  if (isGone) await removeEmptyFolders(dirname(dir), existing)
}

/** Sorted by name, so that equivalent rules give the same cache keys. */
function linearPatternsOf({ config }: DenseModel, { patternRules }: LabSettings): Record<string, string> {
  const named = Object.entries(expandPatterns(config, patternRules))
  return Object.fromEntries(named.toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

/** @throws AppError if the model or the texts do not allow what was asked for */
function checkSizes(
  model: DenseModel,
  settings: LabSettings,
  linearPatterns: Record<string, string>,
): LabSizes {
  const { config } = model
  const { variants } = settings
  const length = settings.length ?? Math.min(DEFAULT_TOKENS, config.contextLength)
  if (length > config.contextLength) {
    throw new AppError(
      'invalid_request',
      `Calibration sequences of ${length} tokens do not fit the model's context of ${config.contextLength} tokens. Choose a smaller --length.`,
      { param: 'length' },
    )
  }
  const windowTokens = settings.windowTokens ?? Math.min(DEFAULT_TOKENS, config.contextLength)
  requireContext(model, windowTokens)
  const check = (patterns: readonly string[], compared: readonly MethodVariant[]) => {
    for (const pattern of patterns) {
      for (const { method, scope } of variantsAt(compared, pattern))
        checkPatterns(config, withAllocation(model, { method, pattern, scope, patterns: linearPatterns }))
    }
  }
  check(settings.patterns, variants)
  check(settings.sweepSparsity, settings.sweepVariants)
  const reads = variants.find(({ datasets }) => datasets !== 'none')
  if (reads && settings.domains.every(({ calibrationPath }) => calibrationPath === null)) {
    throw new AppError(
      'invalid_request',
      `'${reads.method}' needs calibration text, but no domain has any. Give at least one as name=calibration.txt:evaluation.txt.`,
      { param: 'domain' },
    )
  }
  return { length, windowTokens, threads: settings.threads }
}

function prepareCall(settings: LabSettings, { length, windowTokens }: LabSizes) {
  const { domains: specs, samples, sweepSamples, seed, maxWindows, field, cwd } = settings
  const options = {
    samples: [...new Set([samples, ...sweepSamples])],
    length,
    seed,
    windowTokens,
    maxWindows: maxWindows ?? Number.POSITIVE_INFINITY,
    field,
    cwd,
  }
  return { specs, options }
}

/** Names of the domains with calibration text, or of those without. */
function domainNamesOf({ domains }: LabSettings, isCalibrated: boolean): string[] {
  return domains
    .filter(({ calibrationPath }) => (calibrationPath !== null) === isCalibrated)
    .map(({ name }) => name)
}

function ordersOf(settings: LabSettings): string[][] {
  return choosePermutations(domainNamesOf(settings, true), settings.permutations, createRandom(settings.seed))
}

function plan(settings: LabSettings, orders: string[][]): RunPlan[] {
  const { variants, patterns, samples, propagation, sweepVariants, sweepSparsity, sweepSamples } = settings
  return planRuns({
    calibrated: domainNamesOf(settings, true),
    heldOut: domainNamesOf(settings, false),
    orders,
    variants,
    patterns,
    samples,
    propagation,
    sweepVariants,
    sweepSparsity,
    sweepSamples,
  })
}
