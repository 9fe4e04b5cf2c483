import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import type {
  CalibrateJob,
  DatasetRef,
  EvaluateJob,
  EvaluateResult,
} from '@copal/shared/wire/adaptation-jobs.ts'
import type { NodeGpu } from '../../pruning/runs/choose-device.ts'
import { runCalibration } from '../../pruning/runs/run-calibration.ts'
import type { CalibrationOutcome, DatasetFile } from '../../pruning/runs/calibration-task.ts'
import type { ModelReference } from '../../pruning/runs/pruning-child-protocol.ts'
import type { MaskStore } from '../masks/mask-store.ts'
import type { DatasetStore } from './dataset-store.ts'
import type { MaskEvaluator } from './mask-evaluator.ts'
import type { JobContext, JobWork } from './node-jobs.ts'
import { reportedTokens } from './reported-tokens.ts'
import type { LeaveGpu, ReserveGpu } from './reserve-gpu.ts'
import type { StatisticsExchange } from './statistics-exchange.ts'
import type { TrafficWatch } from './traffic-watch.ts'
import type { Log } from '../../platform/log.ts'
import { createPacer } from '../../platform/pacer.ts'

/** Parts of {@link createJobWork}. */
export interface JobWorkDeps {
  home: string
  model: ModelReference
  masks: MaskStore
  /** Removes the masks that were not used for a day, except the desired ones. Updates may be rejected for weeks. */
  removeUnusedMasks: () => Promise<void>
  datasets: DatasetStore
  evaluator: MaskEvaluator
  statistics: StatisticsExchange
  /** The traffic to which the work of a job with a `nodeShare` yields. */
  traffic: TrafficWatch
  /** Threads of the calibration's forward pass; null for all processors, at low priority. */
  threads: number | null
  /** The GPU on which the node serves; null for the processor. */
  gpu: NodeGpu | null
  /** Frees the memory of the GPU that an update takes. By default there is enough. */
  reserveGpu?: ReserveGpu | undefined
  log: Pick<Log, 'warn'>
}

/** Assumed shares of fetching and uploading in the progress of a job. */
const FETCH_SHARE = 0.02
const UPLOAD_SHARE = 0.02

/** Creates the work of node jobs from calibration, evaluation, the mask store and the dataset store. */
export function createJobWork(deps: JobWorkDeps): JobWork {
  const checkModel = (model: string) => {
    if (model === deps.model.id) return
    throw new AppError(
      'model_not_found',
      `This node serves '${deps.model.id}', but the job is for '${model}'.`,
    )
  }

  /** Fetches the texts of those datasets whose statistics are missing. */
  async function fetchTexts(
    refs: readonly DatasetRef[],
    missing: ReadonlySet<string>,
    { signal }: JobContext,
  ): Promise<DatasetFile[]> {
    const files: DatasetFile[] = []
    for (const ref of refs) {
      const { sha256, domain, createdAt, expired } = ref
      const path = missing.has(sha256) && !expired ? await deps.datasets.ensure(ref, signal) : null
      files.push({ sha256, domain, createdAt, expired, path })
    }
    return files
  }

  async function calibrate(job: CalibrateJob, context: JobContext): Promise<CalibrationOutcome> {
    const { signal, progress } = context
    progress(0, 'fetching statistics')
    const missing = await deps.statistics.fetch(job, context)
    progress(0, 'fetching datasets')
    const datasets = await fetchTexts(job.datasets, missing, context)
    const accumulated = await fetchTexts(job.accumulated, missing, context)
    const parentMaskPath = job.parent === null ? null : await deps.masks.ensure(job.parent, signal)
    const compareMaskPath =
      job.compareWith === undefined ? undefined : await deps.masks.ensure(job.compareWith, signal)
    const { gpu, leave } = await reserveGpu(job, missing.size > 0, context)
    return runCalibration({
      model: deps.model,
      datasets,
      accumulated,
      samples: job.samples,
      length: job.length,
      seed: job.seed,
      selection: job.selection,
      halfLifeDays: job.halfLifeDays,
      parentMaskPath,
      compareMaskPath,
      created: job.created,
      workDir: deps.masks.dir,
      statisticsDir: join(deps.home, 'statistics'),
      threads: deps.threads ?? undefined,
      share: job.nodeShare,
      gpu,
      onWarning: (message) => deps.log.warn(message, { id: job.id }),
      onGpuLeft: leave,
      watchTraffic: (onChange) => deps.traffic.subscribe(onChange),
      signal,
      onProgress: ({ fraction, message }) =>
        progress(FETCH_SHARE + (1 - FETCH_SHARE - UPLOAD_SHARE) * fraction, message),
    }).finally(() => leave())
  }

  /** Frees memory of the GPU for a calibration; the processor does it if there is too little. */
  async function reserveGpu(
    job: CalibrateJob,
    calibrates: boolean,
    { signal, progress }: JobContext,
  ): Promise<{ gpu: NodeGpu | null; leave: LeaveGpu }> {
    const nothing = () => undefined
    if (deps.gpu === null || !deps.reserveGpu) return { gpu: deps.gpu, leave: nothing }
    progress(FETCH_SHARE, 'waiting for memory of the GPU')
    const leave = await deps.reserveGpu(job, calibrates, signal)
    if (leave) return { gpu: deps.gpu, leave }
    deps.log.warn(
      'the GPU has too little memory for this update beside the weights that serve, so the processor does it. ' +
        'A lower COPAL_KV_TOKENS or a smaller model leaves more',
      { id: job.id },
    )
    return { gpu: null, leave: nothing }
  }

  async function evaluate(job: EvaluateJob, context: JobContext): Promise<EvaluateResult> {
    const { signal, progress } = context
    progress(0, 'fetching holdouts')
    const holdouts: { path: string; sha256: string }[] = []
    for (const holdout of job.holdouts)
      holdouts.push({ path: await deps.datasets.ensure(holdout, signal), sha256: holdout.sha256 })
    const pacer = createPacer(job.nodeShare ?? 1)
    const endWatch = deps.traffic.subscribe((isBusy) => pacer.bind(isBusy))
    const {
      sources: evaluations,
      generation,
      numerics,
    } = await deps.evaluator
      .evaluate(job.mask, holdouts, {
        windowTokens: job.windowTokens,
        checkGeneration: job.checkGeneration,
        pause: (abort) => pacer.pause(abort),
        signal,
        onProgress: (done, total) =>
          progress(
            FETCH_SHARE + (1 - FETCH_SHARE) * (total > 0 ? done / total : 1),
            `evaluating, window ${done} of ${total}`,
          ),
      })
      .finally(endWatch)
    return {
      kind: 'evaluate',
      domains: evaluations.map(({ tokens, nllMean, perplexity, windowNll, windowTokens }, index) => {
        const { domain, sha256 } = job.holdouts[index] as DatasetRef
        return {
          domain,
          holdoutSha256: sha256,
          tokens,
          nllMean: finiteOrNull(nllMean),
          perplexity: finiteOrNull(perplexity),
          windowNll: windowNll.map(finiteOrNull),
          windowTokens,
        }
      }),
      ...(generation ? { generation } : {}),
      ...(numerics ? { numerics } : {}),
    }
  }

  /** Clears the datasets and old masks after a job. Jobs run one at a time, so no other job reads them. */
  async function clearAfter<T>(result: Promise<T>): Promise<T> {
    try {
      return await result
    } finally {
      await deps.datasets.clear()
      await deps.removeUnusedMasks()
    }
  }

  return {
    async calibrate(job, context) {
      checkModel(job.model)
      const {
        maskPath: _,
        artifacts,
        ...figures
      } = await context.retry(() => clearAfter(calibrate(job, context)))
      context.progress(1 - UPLOAD_SHARE, 'uploading the mask to the gateway')
      // Retried on its own, so that a failed upload does not repeat the selection, which may take an hour.
      await context.retry(() => deps.masks.upload(figures.maskSha256, context.signal))
      context.progress(1 - UPLOAD_SHARE / 2, 'storing statistics at the gateway')
      await deps.statistics.upload(artifacts, job, context)
      return { kind: 'calibrate', ...figures, tokens: reportedTokens(figures.tokens, job) }
    },
    async evaluate(job, context) {
      checkModel(job.model)
      return context.retry(() => clearAfter(evaluate(job, context)))
    },
  }
}

/** Replaces a number that JSON cannot represent by null. */
function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null
}
