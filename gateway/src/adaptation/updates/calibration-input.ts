import type {
  CalibrateJob,
  CalibrateResult,
  DatasetRef,
  Job,
  JobReport,
} from '@copal/shared/wire/adaptation-jobs.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { listDomainsOf, listInputs } from '../../storage/db/queries/input-queries.ts'
import type { JobRow } from '../../storage/db/queries/job-queries.ts'
import { listStatistics } from '../../storage/db/queries/statistics-queries.ts'
import { readTogether } from '../../storage/db/read-together.ts'
import { usableStatistics } from '../statistics/usable-statistics.ts'

/**
 * Returns the datasets of earlier updates that a calibration counts. The job of an earlier version of the gateway names them
 * itself.
 */
export async function accumulatedOf(
  { db }: Pick<Deps, 'db'>,
  { updateId }: Pick<JobRow, 'updateId'>,
  { accumulated }: CalibrateJob,
): Promise<DatasetRef[]> {
  return accumulated.length > 0 ? accumulated : listInputs(db, updateId)
}

/** Returns the domains of the datasets that a node reports to have counted. */
export function countedDomains({ db }: Pick<Deps, 'db'>, { tokens }: CalibrateResult): Promise<string[]> {
  return listDomainsOf(
    db,
    tokens.map(({ sha256 }) => sha256),
  )
}

/** Returns the result of a job as it is stored, without what grows with the counted datasets. */
export async function storedResult(
  deps: Pick<Deps, 'db'>,
  { payload }: JobRow,
  result: NonNullable<JobReport['result']>,
): Promise<JobRow['result']> {
  if (result.kind !== 'calibrate' || payload.kind !== 'calibrate') return result
  const { tokens, ...figures } = result
  const own = new Set(payload.datasets.map(({ sha256 }) => sha256))
  return {
    ...figures,
    tokens: tokens.filter(({ sha256 }) => own.has(sha256)),
    countedDomains: await countedDomains(deps, result),
  }
}

/** Returns a stored job as a node gets it: a calibration with all that it counts, and the statistics of that. */
export async function wholeJob(deps: Pick<Deps, 'db'>, job: JobRow): Promise<Job> {
  const { payload } = job
  if (payload.kind !== 'calibrate') return payload
  const [accumulated, stored] = await readTogether(deps.db, (db) => [
    accumulatedOf({ db }, job, payload),
    payload.statistics ? [] : listStatistics(db, job.model),
  ])
  const statistics = payload.statistics ?? usableStatistics(stored, [...payload.datasets, ...accumulated])
  return { ...payload, accumulated, statistics }
}
