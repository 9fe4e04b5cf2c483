/** Labels of a time axis: the hour, and the day where it begins. */
import { clockOf, dayOf } from '../format/times.ts'

const DAY_S = 86_400

/**
 * Labels the ticks of a time axis, in local time.
 *
 * @param ticks Unix seconds
 * @param stepS distance of the ticks, seconds
 */
export function timeLabels(ticks: readonly number[], stepS: number): string[] {
  return ticks.map((tick, index) => {
    const date = new Date(tick * 1000)
    if (stepS >= DAY_S) return dayOf(date)
    const before = ticks[index - 1]
    const isNewDay = before !== undefined && new Date(before * 1000).getDate() !== date.getDate()
    const isMidnight = date.getHours() === 0 && date.getMinutes() === 0
    return isNewDay || isMidnight ? dayOf(date) : clockOf(date)
  })
}

/** Formats the start of a period for a table and for screen readers: `27 Nov, 03:12`. */
export function periodLabel(startS: number): string {
  const date = new Date(startS * 1000)
  return `${dayOf(date)}, ${clockOf(date)}`
}
