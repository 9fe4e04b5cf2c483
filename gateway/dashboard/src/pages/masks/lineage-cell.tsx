import type { LineageRow } from './lineage.ts'

/** Width of a lane, pixels. */
const LANE = 16

/** One row of the drawing of the lineage; rows of a table join to a line with branches. Decorative: the table says the parent. */
export function LineageCell({ row, lanes, isActive }: { row: LineageRow; lanes: number; isActive: boolean }) {
  const { lane, passing, up, down, joins, onLine } = row
  const x = (each: number) => each * LANE + LANE / 2
  const tone = (each: number) => (each === 0 ? 'lineage-line' : 'lineage-branch')
  return (
    <>
      <div style={{ width: `${lanes * LANE}px` }} />
      <svg class="lineage" width={lanes * LANE} aria-hidden="true">
        {passing.map((each) => (
          <line key={each} class={tone(each)} x1={x(each)} x2={x(each)} y1="0" y2="100%" />
        ))}
        {joins.map((each) => (
          <line key={`join ${each}`} class={tone(each)} x1={x(each)} x2={x(lane)} y1="0" y2="50%" />
        ))}
        {up && <line class={tone(lane)} x1={x(lane)} x2={x(lane)} y1="0" y2="50%" />}
        {down && <line class={tone(lane)} x1={x(lane)} x2={x(lane)} y1="50%" y2="100%" />}
        <circle
          class={isActive ? 'lineage-active' : onLine ? 'lineage-dot' : 'lineage-side'}
          cx={x(lane)}
          cy="50%"
          r={isActive ? 6 : 4}
        />
      </svg>
    </>
  )
}
