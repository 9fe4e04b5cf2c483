/** Ticks and labels of a time axis, in local time. */
import { timeDay, timeTicks as roundTimes } from 'd3-time'
import { clockOf, dayOf } from '../format/times.ts'

/** The least part of the usual distance of ticks that is between two. */
const MIN_DISTANCE = 0.5

/**
 * The round times between two, Unix seconds.
 *
 * @param count about how many
 */
export function timeTicks(fromS: number, toS: number, count: number): number[] {
  // Labels have no seconds.
  const minutes = (toS - fromS) / 60
  const dates = roundTimes(new Date(fromS * 1000), new Date(toS * 1000), Math.min(count, minutes))
  const ticks = dates.map((date) => date.getTime() / 1000)
  // Every second day of a month is the 31st and the 1st.
  const minS = ((toS - fromS) / count) * MIN_DISTANCE
  return ticks.filter((tick, index) => !(tick - (ticks[index - 1] ?? -Infinity) < minS))
}

/** Labels a tick: the hour, or the day where it begins. */
export function timeLabel(tickS: number): string {
  const date = new Date(tickS * 1000)
  return timeDay(date).getTime() === date.getTime() ? dayOf(date) : clockOf(date)
}

/** Formats the start of a period for a table and for screen readers: `27 Nov, 03:12`. */
export function periodLabel(startS: number): string {
  const date = new Date(startS * 1000)
  return `${dayOf(date)}, ${clockOf(date)}`
}
