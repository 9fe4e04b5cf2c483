import type { CalibrateJob, CalibrateResult } from '@copal/shared/wire/adaptation-jobs.ts'
import { findDatasets, listAccumulated } from '../../storage/db/queries/dataset-queries.ts'
import { findJob, requeueJob } from '../../storage/db/queries/job-queries.ts'
import { findMask, registerMask } from '../../storage/db/queries/mask-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { maskKey } from '../../storage/artifacts/artifact-keys.ts'
import { calibrateJobId, createJob, resultOf, wrongResult } from './node-jobs.ts'
import type { StepDeps, StepOutcome } from './update-step.ts'

/** Bound parameters of a statement are 100 at most. */
const MAX_HASHES = 90

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
    scope: result.scope ?? update.scope,
    sparsity: result.sparsity,
    churn: result.churn,
    domains: await domainsThatChose(deps, result),
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
  const { samples, length, seed, method, pattern, patterns, scope } = update
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
    selection: { method, pattern, scope, patterns },
    parent: parent?.sha256 ?? null,
    created: new Date(update.createdAt).toISOString(),
  }
}

/** The domains of the datasets that the node says it counted. */
async function domainsThatChose(deps: StepDeps, { tokens }: CalibrateResult): Promise<string[]> {
  const domains = new Set<string>()
  const hashes = tokens.map(({ sha256 }) => sha256)
  for (let first = 0; first < hashes.length; first += MAX_HASHES) {
    const found = await findDatasets(deps.db, hashes.slice(first, first + MAX_HASHES))
    for (const { domain } of found) domains.add(domain)
  }
  return [...domains].sort()
}
