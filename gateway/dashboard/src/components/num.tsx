import { formatLossDifference, formatNats, NONE, type Maybe } from '../format/numbers.ts'

/** A formatted number, with its exact value on hover. */
export function Num({ children, title }: { children: string; title?: string | undefined }) {
  return (
    <span class="num" title={children === NONE ? 'Not known' : title}>
      {children}
    </span>
  )
}

interface LossDifferenceProps {
  /** Mean, nats a token. */
  nats: Maybe
  /** Bounds of the interval. */
  lower?: Maybe
  upper?: Maybe
  /** Shown without a value. */
  missing?: string
}

/** A difference of losses as a change of perplexity in per cent, with nats and the interval on hover. */
export function LossDifference({
  nats,
  lower,
  upper,
  missing = 'not enough tokens yet',
}: LossDifferenceProps) {
  if (nats === null || nats === undefined) return <span class="soft">{missing}</span>
  const interval =
    lower === null || lower === undefined || upper === null || upper === undefined
      ? ''
      : `, 95 % interval ${formatNats(lower)} to ${formatNats(upper)}`
  return (
    <span class="num" title={`${formatNats(nats)} a token${interval}`}>
      {formatLossDifference(nats)}
    </span>
  )
}
