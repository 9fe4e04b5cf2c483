import { formatClock, formatTime, formatUtc, refreshAfterMs, toMs, type Instant } from '../format/times.ts'
import { useNow } from '../data/now.ts'

interface TimeProps {
  at: Instant | null | undefined
  /** `auto`: relative within an hour, then by the clock. */
  as?: 'auto' | 'clock'
  missing?: string
}

const FORMATS = { auto: formatTime, clock: formatClock }

/** A local time, with UTC on hover. */
export function Time({ at, as = 'auto', missing = '–' }: TimeProps) {
  if (at === null || at === undefined) return <span class="soft">{missing}</span>
  return <KnownTime at={at} as={as} />
}

function KnownTime({ at, as }: { at: Instant; as: keyof typeof FORMATS }) {
  const now = useNow(refreshAfterMs(at, Date.now()))
  return (
    <time dateTime={new Date(toMs(at)).toISOString()} title={formatUtc(at)}>
      {FORMATS[as](at, now)}
    </time>
  )
}
