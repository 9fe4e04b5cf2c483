import type { CalibrateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import { listCounted } from '../../storage/db/queries/batch-queries.ts'
import { findDatasets } from '../../storage/db/queries/dataset-queries.ts'
import { setInputs } from '../../storage/db/queries/input-queries.ts'
import { findJob } from '../../storage/db/queries/job-queries.ts'
import { findMask, registerMask } from '../../storage/db/queries/mask-queries.ts'
import { listStatistics } from '../../storage/db/queries/statistics-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { readTogether } from '../../storage/db/read-together.ts'
import { maskKey } from '../../storage/artifacts/artifact-keys.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { selectionWeights } from '../statistics/selection-weights.ts'
import { withoutLost } from '../statistics/retire-lost.ts'
import { accumulatedOf, countedDomains } from './calibration-input.ts'
import { repeatCalibration } from './job-losses.ts'
import { calibrateJobId, queueJobs, invalidResult, type FinishedJob, type JobStep } from './update-jobs.ts'
import type { StepDeps, StepOutcome } from './update-step.ts'

/** The step in which a node calibrates and chooses a mask, which the gateway then registers. */
export const calibrateStep: JobStep = {
  jobIds: (update) => [calibrateJobId(update)],
  start: queueCalibration,
  finish: registerCalibratedMask,
}

async function registerCalibratedMask(
  deps: StepDeps,
  update: UpdateRow,
  [finished]: FinishedJob[],
): Promise<StepOutcome | undefined> {
  if (!finished) return undefined
  const { job, result } = finished
  if (result.kind !== 'calibrate') throw invalidResult(job, `it has the kind '${result.kind}'`)
  if (!(await deps.artifacts.head(maskKey(result.maskSha256)))) {
    await repeatCalibration(deps, job)
    return undefined
  }
  const { version } = await registerMask(deps.db, {
    model: update.model,
    updateId: update.id,
    candidate: update.candidate,
    sha256: result.maskSha256,
    parentVersion: update.parentVersion || null,
    method: update.method,
    pattern: update.pattern,
    scope: result.scope ?? update.scope,
    sparsity: result.sparsity,
    churn: result.churn,
    domains: result.countedDomains ?? (await countedDomains(deps, result)),
    bytes: result.maskBytes,
    createdAt: deps.nowMs(),
  })
  return { event: 'calibrated', patch: { maskVersion: version } }
}

async function queueCalibration(deps: StepDeps, update: UpdateRow): Promise<void> {
  const { datasets, accumulated } = await inputOf(deps, update)
  const [{ statistics: policy }, parent] = await readTogether(deps.db, (db) => [
    findPolicy({ ...deps, db }, update.model),
    update.parentVersion ? findMask(db, update.model, update.parentVersion) : undefined,
  ])
  const domains = [...new Set([...datasets, ...accumulated].map(({ domain }) => domain))].sort()
  const weights =
    update.weights ??
    (await selectionWeights(deps, update.model, { domains, known: parent?.domains ?? [] }, policy.weights))
  const { samples, length, seed, method, pattern, patterns, scope } = update
  const work: CalibrateJob = {
    kind: 'calibrate',
    id: calibrateJobId(update),
    model: update.model,
    datasets,
    accumulated: [],
    samples,
    length,
    seed,
    selection: { method, pattern, scope, patterns, weights },
    parent: parent?.sha256 ?? null,
    ...(policy.half_life_days === null ? {} : { halfLifeDays: policy.half_life_days }),
    created: new Date(update.createdAt).toISOString(),
  }
  await queueJobs(deps, update, [{ work }])
}

/**
 * Returns the update's own datasets and those that counted when it began, which it stores. Later candidates read what the first one read, so
 * that they differ in their weights alone.
 */
async function inputOf(
  deps: StepDeps,
  update: UpdateRow,
): Promise<Pick<CalibrateJob, 'datasets' | 'accumulated'>> {
  const first =
    update.candidate === 1 ? undefined : await findJob(deps.db, calibrateJobId({ ...update, candidate: 1 }))
  if (first?.payload.kind === 'calibrate')
    return { ...first.payload, accumulated: await accumulatedOf(deps, first, first.payload) }
  const own = update.datasets ?? []
  const [datasets, counted, stored] = await readTogether(deps.db, (db) => [
    findDatasets(db, own),
    listCounted(db, update.model),
    listStatistics(db, update.model),
  ])
  const earlier = counted.filter(({ sha256 }) => !own.includes(sha256))
  const accumulated = await withoutLost(deps, update.model, { own: datasets, counted: earlier, stored })
  await setInputs(
    deps.db,
    update,
    accumulated.map(({ sha256 }) => sha256),
  )
  return { datasets, accumulated }
}
