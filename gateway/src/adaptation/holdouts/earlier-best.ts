import type { DatasetRef } from '@copal/shared/wire/adaptation-jobs.ts'
import { sameNumerics } from '@copal/shared/metrics/numerics.ts'
import { spreadHash } from '../../runtime/spread-hash.ts'
import type { MaskHoldout, StageLoss } from '../../storage/db/queries/gate-queries.ts'

/** An earlier mask that is to be evaluated on the current versions of holdouts. */
export interface EarlierBest {
  version: number
  mask: string
  holdouts: DatasetRef[]
}

/**
 * Returns the masks whose last evaluation of a domain is on an earlier version of its holdout, on which they are the best. Without
 * an evaluation on the current version, no candidate could be compared with them. A mask stays due until it has one, or was tried
 * often enough, whichever update was the first to measure the version. A pure function.
 *
 * @param holdouts current versions
 * @param losses those of all stages on all versions
 * @param of.parentVersion the active mask, which is evaluated anyway
 * @param of.ended the evaluations that are not tried again
 * @param of.seed fixes the order, so that masks that always fail do not keep others from the few evaluations of each update
 */
export function earlierBest(
  holdouts: readonly DatasetRef[],
  losses: readonly StageLoss[],
  of: { parentVersion: number; ended: readonly MaskHoldout[]; seed: string },
): EarlierBest[] {
  const due = new Map<number, EarlierBest>()
  const byDomain = Map.groupBy(losses, ({ domain }) => domain)
  for (const holdout of holdouts) {
    const ofDomain = byDomain.get(holdout.domain) ?? []
    const best = bestLosses(ofDomain)
    for (const last of lastLosses(ofDomain)) {
      const { version, mask } = last
      if (version === of.parentVersion || last.holdoutSha256 === holdout.sha256) continue
      if (of.ended.some((one) => one.mask === mask && one.sha256 === holdout.sha256)) continue
      if (best.some((other) => isBetter(other, last))) continue
      const { holdouts: others } = due.get(version) ?? { holdouts: [] }
      due.set(version, { version, mask, holdouts: [...others, holdout] })
    }
  }
  const place = ({ version }: EarlierBest) => spreadHash(`${of.seed} ${version}`)
  return [...due.values()].toSorted((a, b) => place(a) - place(b))
}

/** Returns the last loss of each mask. */
function lastLosses(losses: readonly StageLoss[]): StageLoss[] {
  const oldestFirst = losses.toSorted((a, b) => a.createdAt - b.createdAt)
  return [...new Map(oldestFirst.map((loss) => [loss.version, loss])).values()]
}

/** Returns the best loss of each holdout version and numerics, so that not every mask is compared with every other one. */
function bestLosses(losses: readonly StageLoss[]): StageLoss[] {
  const best = new Map<string, StageLoss>()
  for (const loss of losses) {
    const group = `${loss.holdoutSha256} ${loss.numerics}`
    const known = best.get(group)
    if (!known || isBetter(loss, known)) best.set(group, loss)
  }
  return [...best.values()]
}

/** Returns whether a mask is better than another one on the same version; of equal masks, the one that is newer. */
function isBetter(one: StageLoss, other: StageLoss): boolean {
  if (one.holdoutSha256 !== other.holdoutSha256 || !sameNumerics(one.numerics, other.numerics)) return false
  return one.nllMean < other.nllMean || (one.nllMean === other.nllMean && one.version > other.version)
}
