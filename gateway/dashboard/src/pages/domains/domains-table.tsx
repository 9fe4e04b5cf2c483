import { LossDifference } from '../../components/num.tsx'
import { Status } from '../../components/status.tsx'
import { Table, type Column } from '../../components/table.tsx'
import { Time } from '../../components/time.tsx'
import { formatCount, formatShare } from '../../format/numbers.ts'
import { Link } from '../../navigation/link.tsx'
import { paths } from '../../navigation/routes.ts'
import type { DomainRow } from './domain-rows.ts'

const NAME: Column<DomainRow> = {
  key: 'name',
  title: 'Domain',
  value: ({ entry }) => entry.name,
  cell: ({ entry }) => <Link to={paths.domain(entry.name)}>{entry.name}</Link>,
  phone: 'first',
}

/** Columns of the traffic, which a tenant does not see. */
const TRAFFIC: readonly Column<DomainRow>[] = [
  {
    key: 'traffic',
    title: 'Traffic',
    value: ({ summary }) => summary?.traffic_share,
    cell: ({ summary }) => formatShare(summary?.traffic_share),
    align: 'end',
    phone: 'first',
    hint: 'Share of the tokens of the last 24 hours',
  },
  {
    key: 'cost',
    title: 'Cost',
    value: ({ summary }) => summary?.gap?.mean,
    cell: ({ summary }) => (
      <LossDifference
        nats={summary?.gap?.mean}
        lower={summary?.gap?.lower}
        upper={summary?.gap?.upper}
        missing="too few scores"
      />
    ),
    align: 'end',
    hint: 'Perplexity over dense of the last 24 hours, which pruning costs',
  },
  {
    key: 'state',
    title: 'State',
    value: ({ summary }) => (summary?.drifting ? 'drifting' : 'steady'),
    cell: ({ summary }) =>
      summary?.drifting ? <Status tone="harm">drifting</Status> : <Status tone="quiet">steady</Status>,
    phone: 'bare',
  },
]

const SAMPLES: readonly Column<DomainRow>[] = [
  {
    key: 'samples',
    title: 'Samples',
    value: ({ entry }) => entry.samples,
    cell: ({ entry }) => formatCount(entry.samples),
    align: 'end',
    hint: 'Texts that are kept now',
  },
  {
    key: 'new',
    title: 'New',
    value: ({ entry }) => entry.new_samples,
    cell: ({ entry }) => formatCount(entry.new_samples),
    align: 'end',
    hint: 'Texts that no update has taken yet',
  },
  {
    key: 'holdout',
    title: 'Held out',
    value: ({ entry }) => entry.holdout_tokens ?? entry.holdout_samples,
    cell: ({ entry }) =>
      entry.holdout_tokens === undefined
        ? formatCount(entry.holdout_samples)
        : `${formatCount(entry.holdout_tokens)} tokens`,
    align: 'end',
    phone: 'none',
    hint: 'Text that masks are judged on and never calibrated on',
  },
  {
    key: 'review',
    title: 'In review',
    value: ({ entry }) => entry.review_samples,
    cell: ({ entry }) => formatCount(entry.review_samples ?? 0),
    align: 'end',
    phone: 'none',
    hint: 'Texts that are set aside because their loss is far from that of the others',
  },
  {
    key: 'mask',
    title: 'Own mask',
    value: ({ entry }) => entry.own_mask,
    cell: ({ entry }) =>
      typeof entry.own_mask === 'number' ? (
        <Link to={paths.mask(entry.own_mask)}>mask {entry.own_mask}</Link>
      ) : (
        '–'
      ),
    phone: 'none',
  },
  {
    key: 'owner',
    title: 'Owner',
    value: ({ entry }) => entry.owner,
    cell: ({ entry }) => entry.owner ?? <span class="soft">shared</span>,
    phone: 'none',
  },
  {
    key: 'last',
    title: 'Last sample',
    value: ({ entry }) => entry.last_sample_at,
    cell: ({ entry }) => <Time at={entry.last_sample_at} missing="none" />,
  },
]

/** Domains with their traffic and samples. */
export function DomainsTable({ rows, readsAll }: { rows: readonly DomainRow[]; readsAll: boolean }) {
  return (
    <Table
      caption="Domains"
      columns={[NAME, ...(readsAll ? TRAFFIC : []), ...SAMPLES]}
      rows={rows}
      rowKey={({ entry }) => entry.name}
      filter={rows.length > 8}
      csv="domains"
      empty={
        <p class="soft">
          No domain has samples yet. Requests that name a domain, or whose key has one, fill it; import texts
          by <code>copal domains import</code>.
        </p>
      }
    />
  )
}
