import { formatClock, formatUtc } from '../format/times.ts'
import { MARK_KINDS, type MarkGroup } from './marks.ts'

/** Maximum number of decisions on a card. */
const SHOWN = 5

/** The decisions at one place of the time axis; the same card in the plot and below it. */
export function MarkCard({ group, at }: { group: MarkGroup; at: 'row' | 'plot' }) {
  const { position, marks } = group
  const place = position > 0.5 ? { right: `${(1 - position) * 100}%` } : { left: `${position * 100}%` }
  return (
    <div class={`mark-card mark-card-${at}`} style={place} aria-hidden="true">
      {marks.slice(-SHOWN).map((mark) => (
        <p key={`${mark.at} ${mark.kind} ${mark.domain}`}>
          <span class="soft" title={formatUtc(mark.at)}>
            {formatClock(mark.at, Date.now())} {MARK_KINDS[mark.kind].shape}
          </span>{' '}
          {mark.text}
        </p>
      ))}
      {marks.length > SHOWN && <p class="soft">and {marks.length - SHOWN} before</p>}
      {marks.some(({ update }) => update !== null) && <p class="soft">Click to open the update.</p>}
    </div>
  )
}
