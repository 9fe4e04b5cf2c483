/** Marks of decisions on the time axis that all charts share. */
import type { SeriesMark } from '@copal/shared/wire/admin-series.ts'
import { toMs } from '../format/times.ts'

/** Marks at about the same place, and where: 0 to 1 of the axis. */
export interface MarkGroup {
  position: number
  marks: SeriesMark[]
}

/** Shapes and names of the kinds of marks. */
export const MARK_KINDS: Readonly<Record<SeriesMark['kind'], { shape: string; name: string }>> = {
  promoted: { shape: '▲', name: 'Mask promoted' },
  rolled_back: { shape: '↺', name: 'Rolled back' },
  canary: { shape: '◐', name: 'Canary started' },
  gate_failed: { shape: '✕', name: 'Mask rejected' },
  alert: { shape: '!', name: 'Alert' },
}

/** The width of a mark's button, and of what a chart has beside its axis (`charts.css`), pixels. */
const MARK_PIXELS = 24
const BESIDE_AXIS_PIXELS = 84

/** Returns the smallest distance, a fraction of the axis, at which marks of a chart do not lie on each other. */
export function minMarkGap(chartPixels: number): number {
  return MARK_PIXELS / Math.max(MARK_PIXELS, chartPixels - BESIDE_AXIS_PIXELS)
}

/**
 * Places marks on an axis; those closer than `minGap` to the first of a group join it.
 *
 * @param fromS start of the axis, Unix seconds
 * @param toS end of the axis, Unix seconds
 * @param minGap fraction of the axis
 */
export function groupMarks(
  marks: readonly SeriesMark[],
  fromS: number,
  toS: number,
  minGap: number,
): MarkGroup[] {
  const groups: MarkGroup[] = []
  const ordered = marks.toSorted((a, b) => toMs(a.at) - toMs(b.at))
  for (const mark of ordered) {
    const position = (toMs(mark.at) / 1000 - fromS) / (toS - fromS)
    if (!(position >= 0 && position <= 1)) continue
    const last = groups.at(-1)
    if (last && position - last.position < minGap) last.marks.push(mark)
    else groups.push({ position, marks: [mark] })
  }
  return groups
}

/** The group nearest to a position of the axis, 0 to 1, at most `tolerance` away. */
export function groupAt(
  groups: readonly MarkGroup[],
  position: number,
  tolerance: number,
): MarkGroup | undefined {
  const distance = (group: MarkGroup) => Math.abs(group.position - position)
  const [nearest] = groups.toSorted((a, b) => distance(a) - distance(b))
  return nearest && distance(nearest) <= tolerance ? nearest : undefined
}

/** The newest mark of a group that belongs to an update, which a click opens. */
export function markWithUpdate({ marks }: MarkGroup): SeriesMark | undefined {
  return marks.findLast(({ update }) => update !== null)
}
