import { formatClock, formatTime, formatUtc, refreshAfterMs, toMs, type Instant } from '../format/times.ts'
import { useNow } from '../data/now.ts'

interface TimeProps {
  at: Instant | null | undefined
  /** `auto`: relative within an hour, then by the clock. */
  as?: 'auto' | 'clock'
  missing?: string
  /** The full stop of a sentence that ends with the time; beside it, it would move when the time becomes longer. */
  end?: string
}

const FORMATS = { auto: formatTime, clock: formatClock }

/** A local time, with UTC on hover. */
export function Time({ at, as = 'auto', missing = '–', end = '' }: TimeProps) {
  if (at === null || at === undefined) return <span class="soft">{missing + end}</span>
  return <KnownTime at={at} as={as} end={end} />
}

function KnownTime({ at, as, end }: { at: Instant; as: keyof typeof FORMATS; end: string }) {
  const now = useNow(refreshAfterMs(at, Date.now()))
  return (
    <time dateTime={new Date(toMs(at)).toISOString()} title={formatUtc(at)}>
      {FORMATS[as](at, now) + end}
    </time>
  )
}
