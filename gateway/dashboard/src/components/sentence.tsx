import { formatSince, formatUtc, toMs, type Instant } from '../format/times.ts'
import type { Phrase } from '../format/phrases.ts'
import { useNow } from '../data/now.ts'
import { Link } from '../navigation/link.tsx'
import { LossDifference } from './num.tsx'
import { Time } from './time.tsx'

/** A sentence of words, times and losses. */
export function Sentence({ phrases }: { phrases: readonly Phrase[] }) {
  return (
    <p>
      {phrases.map((phrase, index) => (
        <PhrasePart key={index} phrase={phrase} />
      ))}
    </p>
  )
}

function PhrasePart({ phrase }: { phrase: Phrase }) {
  if (typeof phrase === 'string') return <>{phrase}</>
  if ('harm' in phrase)
    return (
      <span class="lead-harm">
        <span aria-hidden="true">▲ </span>
        {phrase.harm}
      </span>
    )
  if ('nats' in phrase) return <LossDifference {...phrase} />
  if ('at' in phrase) return <Time at={phrase.at} />
  if ('since' in phrase) return <Since at={phrase.since} />
  return <Link to={phrase.to}>{phrase.text}</Link>
}

function Since({ at }: { at: Instant }) {
  const now = useNow(15_000)
  return (
    <time dateTime={new Date(toMs(at)).toISOString()} title={formatUtc(at)}>
      {formatSince(at, now)}
    </time>
  )
}
