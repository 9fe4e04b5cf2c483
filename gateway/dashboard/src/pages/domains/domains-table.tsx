import { useMemo } from 'preact/hooks'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import { Table, type Column } from '../../components/table.tsx'
import { Time } from '../../components/time.tsx'
import { countedEntry } from '../../data/counted-entry.ts'
import { formatCount, formatShare } from '../../format/numbers.ts'
import { Link } from '../../navigation/link.tsx'
import { paths } from '../../navigation/routes.ts'
import type { DomainRow } from './domain-rows.ts'
import { Cost, driftWord, DriftState } from './summary-cells.tsx'

const NAME: Column<DomainRow> = {
  key: 'name',
  title: 'Domain',
  value: ({ name }) => name,
  cell: ({ name }) => <Link to={paths.domain(name)}>{name}</Link>,
  phone: 'first',
}

/** Columns of the traffic, which a tenant does not see. */
const trafficColumns = (isDense: boolean): readonly Column<DomainRow>[] => [
  {
    key: 'traffic',
    title: 'Traffic',
    value: ({ summary }) => summary?.traffic_share,
    cell: ({ summary }) => formatShare(summary?.traffic_share),
    align: 'end',
    hint: 'Share of the requests of the last 24 hours',
  },
  {
    key: 'cost',
    title: 'Cost',
    value: ({ summary }) => summary?.gap?.mean,
    cell: ({ summary }) => <Cost summary={summary} isDense={isDense} />,
    align: 'end',
    hint: 'Perplexity over dense of the last 24 hours, which pruning costs',
  },
  {
    key: 'state',
    title: 'State',
    value: ({ summary, drifts }) => driftWord(summary, drifts),
    cell: ({ summary, drifts }) => <DriftState summary={summary} drifts={drifts} />,
    phone: 'bare',
  },
]

/** Returns an entry whose held-out text is known: it is frozen, or was counted. */
function heldOutEntry(entry: DomainEntry | undefined): DomainEntry | undefined {
  return entry?.holdout_frozen ? entry : countedEntry(entry)
}

const SAMPLES: readonly Column<DomainRow>[] = [
  {
    key: 'samples',
    title: 'Samples',
    value: ({ entry }) => countedEntry(entry)?.samples,
    cell: ({ entry }) => formatCount(countedEntry(entry)?.samples),
    align: 'end',
    hint: 'Texts that are kept now',
  },
  {
    key: 'new',
    title: 'New',
    value: ({ entry }) => countedEntry(entry)?.new_samples,
    cell: ({ entry }) => formatCount(countedEntry(entry)?.new_samples),
    align: 'end',
    phone: 'none',
    hint: 'Texts that no update has taken yet',
  },
  {
    key: 'holdout',
    title: 'Held out',
    value: ({ entry }) => heldOutEntry(entry)?.holdout_tokens ?? heldOutEntry(entry)?.holdout_samples,
    cell: ({ entry }) => {
      const known = heldOutEntry(entry)
      return known?.holdout_tokens === undefined
        ? formatCount(known?.holdout_samples)
        : `${formatCount(known.holdout_tokens)}\u00A0tokens`
    },
    align: 'end',
    phone: 'none',
    hint: 'Text that masks are judged on and never calibrated on',
  },
  {
    key: 'review',
    title: 'In review',
    value: ({ entry }) => countedEntry(entry)?.review_samples,
    cell: ({ entry }) => {
      const known = countedEntry(entry)
      return formatCount(known && (known.review_samples ?? 0))
    },
    align: 'end',
    phone: 'none',
    hint: 'Texts that are set aside because their loss is far from that of the others',
  },
  {
    key: 'mask',
    title: 'Own mask',
    value: ({ entry }) => entry?.own_mask,
    cell: ({ entry }) =>
      typeof entry?.own_mask === 'number' ? (
        <Link to={paths.mask(entry.own_mask)}>mask {entry.own_mask}</Link>
      ) : (
        '–'
      ),
    phone: 'none',
  },
  {
    key: 'owner',
    title: 'Owner',
    value: ({ entry }) => entry?.owner,
    cell: ({ entry }) =>
      entry ? <span class={entry.owner === null ? 'soft' : 'name'}>{entry.owner ?? 'shared'}</span> : '–',
    phone: 'none',
  },
  {
    key: 'last',
    title: 'Last sample',
    value: ({ entry }) => entry?.last_sample_at,
    phone: 'none',
    cell: ({ entry }) => (
      <Time at={entry?.last_sample_at} missing={entry?.counted_at === null ? '–' : 'none'} />
    ),
  },
]

interface DomainsTableProps {
  rows: readonly DomainRow[]
  /** False for a tenant, which does not see the traffic. */
  readsAll: boolean
  /** The dense weights serve. */
  isDense: boolean
}

/** Domains with their traffic and samples. */
export function DomainsTable({ rows, readsAll, isDense }: DomainsTableProps) {
  const columns = useMemo(
    () => [NAME, ...(readsAll ? trafficColumns(isDense) : []), ...SAMPLES],
    [readsAll, isDense],
  )
  return (
    <Table
      caption="Domains"
      columns={columns}
      rows={rows}
      rowKey={({ name }) => name}
      filter={rows.length > 8}
      csv="domains"
      empty={
        <p class="soft">
          No domain has traffic or samples yet. Requests that name a domain, or whose key has one, fill it;
          import texts by <code>npx copal domains import</code>.
        </p>
      }
    />
  )
}
