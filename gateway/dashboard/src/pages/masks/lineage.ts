/** The lineage of masks as a line with branches, one row a mask. */
import type { MaskEntry } from '@copal/shared/wire/admin.ts'

/** The fields of a mask that a row depends on. */
export type LineageMask = Pick<MaskEntry, 'version' | 'parent_version' | 'active' | 'promoted_at'>

/** One row of the drawing; row 0 is the newest mask, the last row the dense weights (version 0). */
export interface LineageRow {
  version: number
  /** Column of its dot; 0 is the line of the active mask. */
  lane: number
  /** Lanes whose lines pass this row without a stop. */
  passing: number[]
  /** Whether a line goes up from the dot in its own lane. */
  up: boolean
  /** Whether a line goes down from the dot, to its parent. */
  down: boolean
  /** Lanes whose lines come from above and end in this dot. */
  joins: number[]
  /** Whether it is the active mask or an ancestor of it. */
  onLine: boolean
}

/** Lays out masks and the dense weights. */
export function lineageRows(
  masks: readonly LineageMask[],
  activeVersion: number,
): { rows: LineageRow[]; lanes: number } {
  const sorted = masks.toSorted((a, b) => b.version - a.version)
  const rowOf = new Map<number, number>(sorted.map(({ version }, row) => [version, row]))
  rowOf.set(0, sorted.length)
  const parents = new Map(sorted.map((mask) => [mask.version, parentIn(rowOf, mask)]))
  const line = lineOf(sorted, parents, activeVersion)
  const lanes = lanesOf(sorted, parents, rowOf, line)
  const edges = sorted.map(({ version }) => ({
    lane: lanes.get(version) ?? 0,
    from: rowOf.get(version) ?? 0,
    to: rowOf.get(parents.get(version) ?? 0) ?? 0,
  }))
  const rows = [...sorted.map(({ version }) => version), 0].map((version, row): LineageRow => {
    const lane = lanes.get(version) ?? 0
    const ends = edges.filter(({ to }) => to === row).map((edge) => edge.lane)
    return {
      version,
      lane,
      passing: edges.filter(({ from, to }) => from < row && to > row).map((edge) => edge.lane),
      up: ends.includes(lane),
      down: version !== 0,
      joins: [...new Set(ends.filter((each) => each !== lane))],
      onLine: line.has(version),
    }
  })
  return { rows, lanes: Math.max(0, ...lanes.values()) + 1 }
}

/** A parent that is not listed any more counts as the dense weights. */
function parentIn(rowOf: ReadonlyMap<number, number>, { parent_version: parent }: LineageMask): number {
  return parent !== null && rowOf.has(parent) ? parent : 0
}

/** The active mask with its ancestors; while the dense weights serve, the newest mask that was active. */
function lineOf(
  sorted: readonly LineageMask[],
  parents: ReadonlyMap<number, number>,
  activeVersion: number,
): ReadonlySet<number> {
  const tip =
    activeVersion === 0 ? (sorted.find((mask) => mask.promoted_at !== null)?.version ?? 0) : activeVersion
  const line = new Set<number>()
  for (let version = tip; version !== 0 && !line.has(version); version = parents.get(version) ?? 0)
    line.add(version)
  return line.add(0)
}

/** Gives each mask the first lane that is free from its row to its parent's. */
function lanesOf(
  sorted: readonly LineageMask[],
  parents: ReadonlyMap<number, number>,
  rowOf: ReadonlyMap<number, number>,
  line: ReadonlySet<number>,
): ReadonlyMap<number, number> {
  const lanes = new Map<number, number>([...line].map((version) => [version, 0]))
  const taken: { lane: number; from: number; to: number }[] = []
  for (const { version } of sorted) {
    if (lanes.has(version)) continue
    // A branch of several masks keeps its lane down to the line.
    const branch: number[] = []
    for (let each = version; !lanes.has(each); each = parents.get(each) ?? 0) branch.push(each)
    const from = rowOf.get(version) ?? 0
    const to = rowOf.get(parents.get(branch.at(-1) ?? version) ?? 0) ?? 0
    let lane = 1
    while (taken.some((other) => other.lane === lane && other.from < to && from < other.to)) lane += 1
    for (const each of branch) lanes.set(each, lane)
    taken.push({ lane, from, to })
  }
  return lanes
}
