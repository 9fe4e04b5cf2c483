import { useMemo, useState } from 'preact/hooks'
import type { SeriesMark } from '@copal/shared/wire/admin-series.ts'
import { formatClock, formatUtc } from '../format/times.ts'
import { groupMarks, MARK_KINDS, type MarkGroup } from './marks.ts'

interface MarkRowProps {
  marks: readonly SeriesMark[]
  /** Start and end of the axis, Unix seconds. */
  fromS: number
  toS: number
  onMark?: (mark: SeriesMark) => void
}

/** The decisions below a time axis: the same marks and the same card at every chart. */
export function MarkRow({ marks, fromS, toS, onMark }: MarkRowProps) {
  const groups = useMemo(() => groupMarks(marks, fromS, toS), [marks, fromS, toS])
  const [shown, setShown] = useState<MarkGroup>()
  return (
    <div class="marks" onMouseLeave={() => setShown(undefined)}>
      <div class="marks-axis" role="group" aria-label="Decisions on the time axis">
        {groups.map((group) => (
          <button
            key={group.position}
            type="button"
            class={`mark ${group.marks.some(({ kind }) => kind === 'alert' || kind === 'rolled_back') ? 'mark-harm' : ''}`}
            style={{ left: `${group.position * 100}%` }}
            aria-label={describeGroup(group)}
            onMouseEnter={() => setShown(group)}
            onFocus={() => setShown(group)}
            onBlur={() => setShown(undefined)}
            onClick={() => {
              const mark = group.marks.findLast(({ update }) => update !== null)
              if (mark) onMark?.(mark)
            }}
          >
            <span aria-hidden="true">{shapeOf(group)}</span>
          </button>
        ))}
        {shown && (
          <div
            class={`mark-card ${shown.position > 0.5 ? 'mark-card-end' : ''}`}
            style={
              shown.position > 0.5
                ? { right: `${(1 - shown.position) * 100}%` }
                : { left: `${shown.position * 100}%` }
            }
            aria-hidden="true"
          >
            {shown.marks.slice(-5).map((mark) => (
              <p key={`${mark.at} ${mark.kind} ${mark.domain}`}>
                <span class="soft" title={formatUtc(mark.at)}>
                  {formatClock(mark.at, Date.now())} {MARK_KINDS[mark.kind].shape}
                </span>{' '}
                {mark.text}
              </p>
            ))}
            {shown.marks.length > 5 && <p class="soft">and {shown.marks.length - 5} before</p>}
            {shown.marks.some(({ update }) => update !== null) && (
              <p class="soft">Click to open the update.</p>
            )}
          </div>
        )}
      </div>
    </div>
  )
}

/** The decisions of a place, in words; begins with what the button shows where that is their number. */
function describeGroup({ marks }: MarkGroup): string {
  const texts = marks.map(describeMark).join(' ')
  return marks.length === 1 ? texts : `${marks.length} decisions. ${texts}`
}

function describeMark(mark: SeriesMark): string {
  return `${MARK_KINDS[mark.kind].name}, ${formatClock(mark.at, Date.now())}: ${mark.text}`
}

function shapeOf({ marks }: MarkGroup): string {
  const [first] = marks
  if (!first) return ''
  if (marks.every(({ kind }) => kind === first.kind) && marks.length === 1)
    return MARK_KINDS[first.kind].shape
  return String(marks.length)
}
