import { useState } from 'preact/hooks'
import type { SeriesMark } from '@copal/shared/wire/admin-series.ts'
import { formatClock } from '../format/times.ts'
import { MarkCard } from './mark-card.tsx'
import { MARK_KINDS, markWithUpdate, type MarkGroup } from './marks.ts'

interface MarkRowProps {
  groups: readonly MarkGroup[]
  onMark?: (mark: SeriesMark) => void
}

/** The decisions below a time axis: the same marks and the same card at every chart. */
export function MarkRow({ groups, onMark }: MarkRowProps) {
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
              const mark = markWithUpdate(group)
              if (mark) onMark?.(mark)
            }}
          >
            <span aria-hidden="true">{shapeOf(group)}</span>
          </button>
        ))}
        {shown && <MarkCard group={shown} at="row" />}
      </div>
    </div>
  )
}

/** The decisions of a place, in words; begins with their number if the button shows it. */
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
