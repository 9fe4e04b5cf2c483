/** The evidence of a trial, in words. */
import type { TrialCourse } from '@copal/shared/wire/admin-trial-course.ts'
import { maskName, maskNameFirst } from '../../format/mask-names.ts'
import { formatCount, formatLossDifference, plural } from '../../format/numbers.ts'

/** The sentence of a trial: where the interval stands against the bound. */
export function trialSentence(
  course: Pick<TrialCourse, 'kind' | 'mask_version' | 'beside_version' | 'limit' | 'points' | 'running'>,
): string {
  const { mask_version: version, beside_version: beside, limit, points, running, kind } = course
  const last = points.at(-1)
  const mask = maskNameFirst(version)
  const other = maskName(beside)
  if (!last)
    return running
      ? `No request was scored under both masks yet, so nothing is known of ${maskName(version)} beside ${other}.`
      : `The scores of this ${kind} are not kept any more.`
  const bound = formatLossDifference(limit)
  const between = `between ${formatLossDifference(last.lower)} and ${formatLossDifference(last.upper)}`
  const evidence = `${plural(last.requests, 'request')} with ${formatCount(last.tokens)} tokens`
  const verdict =
    last.lower > limit
      ? `Harm is proven: all of the interval is above the bound of ${bound}.`
      : last.upper < limit
        ? `It is proven not worse: all of the interval is below the bound of ${bound}.`
        : `${running ? 'It is not decided yet: the' : 'The'} bound of ${bound} is within the interval.`
  return `${mask} changes the perplexity by ${formatLossDifference(last.gap)} beside ${other}, ${between}, after ${evidence}. ${verdict}`
}

/** Widths of the interval, in limits and in final widths, above which a point says nothing yet. */
const WIDE_LIMITS = 8
const WIDE_FINAL = 4

/**
 * The points from where the interval is narrow enough to be seen closing in on the limit. The first ones hold nearly every
 * gap, and a scale that shows them shows nothing else.
 */
export function closingPoints({
  points,
  limit,
}: Pick<TrialCourse, 'points' | 'limit'>): TrialCourse['points'] {
  const last = points.at(-1)
  if (!last) return []
  const widest = Math.max(WIDE_LIMITS * Math.abs(limit), WIDE_FINAL * (last.upper - last.lower))
  const first = points.findIndex(({ lower, upper }) => upper - lower <= widest)
  return points.slice(Math.max(0, Math.min(first, points.length - 2)))
}
