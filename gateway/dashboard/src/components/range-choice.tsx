import { RANGES, rangeOf, rangeStart, type RangeName } from '../data/time-range.ts'
import { useNow } from '../data/now.ts'
import { useNavigation } from '../navigation/navigation.tsx'
import { Choice } from './fields.tsx'

const OPTIONS = Object.keys(RANGES).map((value) => ({ value, label: value.replace(/(\d+)/, '$1\u202F') }))

/** The span of time of the page, kept in its address. */
export function useRange(): { range: RangeName; from: string } {
  const range = rangeOf(useNavigation().query.get('range'))
  return { range, from: rangeStart(range, useNow(60_000)) }
}

/** Chooses the span of time of the page. */
export function RangeChoice() {
  const { setQuery } = useNavigation()
  const { range } = useRange()
  return (
    <Choice
      label="Span of time"
      value={range}
      options={OPTIONS}
      onChange={(name) => setQuery({ range: name === '24h' ? null : name })}
    />
  )
}
