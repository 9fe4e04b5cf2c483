import type { CalibrateJob } from '@copal/shared/wire/node-rpc.ts'
import { datasetsThatCount, pruneMethod } from '@copal/shared/wire/prune-method.ts'
import { findDatasets, listAccumulated } from '../db/queries/datasets.ts'
import { findJob, requeueJob } from '../db/queries/jobs.ts'
import { findMask, registerMask } from '../db/queries/masks.ts'
import type { UpdateRow } from '../db/queries/updates.ts'
import { maskKey } from './datasets.ts'
import { calibrateJobId, createJob, resultOf, wrongResult } from './step-jobs.ts'
import type { StepDeps, StepOutcome } from './step.ts'

/** Has a node calibrate and choose a mask, and registers it. */
export async function calibrate(deps: StepDeps, update: UpdateRow): Promise<StepOutcome | undefined> {
  const job = await findJob(deps.db, calibrateJobId(update.id))
  if (!job) {
    await createJob(deps, update, await calibrateJob(deps, update))
    return undefined
  }
  const result = resultOf(job)
  if (!result) return undefined
  if (result.kind !== 'calibrate') throw wrongResult(job, `it is of kind '${result.kind}'`)
  if (!(await deps.artifacts.head(maskKey(result.maskSha256)))) {
    // Reported before it was uploaded, or lost since: a node makes it again.
    await requeueJob(deps.db, job)
    return undefined
  }
  const { version } = await registerMask(deps.db, {
    model: update.model,
    updateId: update.id,
    sha256: result.maskSha256,
    parentVersion: update.parentVersion || null,
    method: update.method,
    pattern: update.pattern,
    scope: update.scope,
    sparsity: result.sparsity,
    churn: result.churn,
    domains: await domainsThatChose(deps, update),
    bytes: result.maskBytes,
    createdAt: deps.nowMs(),
  })
  return { event: 'calibrated', patch: { maskVersion: version } }
}

async function calibrateJob(deps: StepDeps, update: UpdateRow): Promise<CalibrateJob> {
  const own = update.datasets ?? []
  const [datasets, counted, parent] = await Promise.all([
    findDatasets(deps.db, own),
    listAccumulated(deps.db, update.model),
    update.parentVersion ? findMask(deps.db, update.model, update.parentVersion) : undefined,
  ])
  const { samples, length, seed, method, pattern, scope } = update
  return {
    kind: 'calibrate',
    id: calibrateJobId(update.id),
    model: update.model,
    datasets,
    // The same dataset twice, when a domain has not changed since its last update, counts once.
    accumulated: counted.filter(({ sha256 }) => !own.includes(sha256)),
    samples,
    length,
    seed,
    selection: { method: pruneMethod.parse(method), pattern, scope },
    parent: parent?.sha256 ?? null,
    created: new Date(update.createdAt).toISOString(),
  }
}

async function domainsThatChose(deps: StepDeps, update: UpdateRow): Promise<string[]> {
  const counting = datasetsThatCount(pruneMethod.parse(update.method))
  if (counting === 'none') return []
  const counted = counting === 'newest' ? [] : await listAccumulated(deps.db, update.model)
  return [...new Set([...counted.map(({ domain }) => domain), ...update.domains])].sort()
}
