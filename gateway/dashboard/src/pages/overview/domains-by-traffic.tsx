import { useMemo } from 'preact/hooks'
import type { DomainSummary } from '@copal/shared/wire/admin-overview.ts'
import { Sparkline } from '../../charts/sparkline.tsx'
import { Section } from '../../components/page.tsx'
import { Table, type Column } from '../../components/table.tsx'
import { formatLossDifference, formatShare } from '../../format/numbers.ts'
import { Link } from '../../navigation/link.tsx'
import { paths } from '../../navigation/routes.ts'
import { Cost, driftWord, DriftState } from '../domains/summary-cells.tsx'

const columnsOf = (isDense: boolean): readonly Column<DomainSummary>[] => [
  {
    key: 'name',
    title: 'Domain',
    value: ({ name }) => name,
    cell: ({ name }) => <Link to={paths.domain(name)}>{name}</Link>,
    phone: 'first',
  },
  {
    key: 'traffic',
    title: 'Traffic',
    value: (domain) => domain.traffic_share,
    cell: (domain) => formatShare(domain.traffic_share),
    align: 'end',
    hint: 'Share of the requests of the last 24 hours',
  },
  {
    key: 'gap',
    title: 'Cost',
    value: ({ gap }) => gap?.mean,
    cell: (summary) => <Cost summary={summary} isDense={isDense} />,
    align: 'end',
    hint: 'Perplexity over dense, which pruning costs',
  },
  {
    key: 'trend',
    title: '24 h',
    value: (domain) => domain.gap_trend.findLast((gap) => gap !== null),
    cell: ({ name, gap_trend: trend }) => (
      <Sparkline values={trend} width={64} label={trendLabel(name, trend)} />
    ),
    phone: 'none',
    hint: 'The cost over the last 24 hours',
  },
  {
    key: 'state',
    title: 'State',
    phone: 'bare',
    value: (summary) => driftWord(summary),
    cell: (summary) => <DriftState summary={summary} />,
  },
]

/** The domains with the most traffic: cost of pruning and drift. */
export function DomainsByTraffic({
  domains,
  isDense,
}: {
  domains: readonly DomainSummary[]
  /** The dense weights serve. */
  isDense: boolean
}) {
  const columns = useMemo(() => columnsOf(isDense), [isDense])
  return (
    <Section title="Domains by traffic" note="24 hours" actions={<Link to="/domains">All domains</Link>}>
      <Table
        caption="Domains by traffic"
        columns={columns}
        rows={domains}
        rowKey={({ name }) => name}
        limit={12}
        empty={<p class="soft">No domain had traffic in the last 24 hours.</p>}
      />
    </Section>
  )
}

function trendLabel(name: string, trend: readonly (number | null)[]): string {
  const known = trend.filter((gap) => gap !== null)
  const [first] = known
  const last = known.at(-1)
  return first === undefined || last === undefined
    ? `Cost of ${name}: not known`
    : `Cost of ${name}: from ${formatLossDifference(first)} to ${formatLossDifference(last)}`
}
