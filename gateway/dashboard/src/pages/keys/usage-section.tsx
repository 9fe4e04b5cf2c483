import type { UsageReport } from '@copal/shared/wire/admin-usage.ts'
import { Sparkline } from '../../charts/sparkline.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { Empty } from '../../components/notices.tsx'
import { Num } from '../../components/num.tsx'
import { Section } from '../../components/page.tsx'
import { Status } from '../../components/status.tsx'
import { Table, type Column } from '../../components/table.tsx'
import type { Resource } from '../../data/resource.ts'
import { formatCount, formatShare } from '../../format/numbers.ts'
import { NEAR_LIMIT } from './key-words.ts'
import { UsageBars } from './usage-bars.tsx'
import { daysOf, tokensByDay, type UsageRow } from './usage-rows.ts'

/** Tokens that keys used, by day. */
export function UsageSection({
  usage,
  rows,
}: {
  usage: Resource<UsageReport>
  rows: readonly UsageRow[] | undefined
}) {
  return (
    <Loaded resource={usage}>
      {(report) =>
        report.data.length === 0 ? (
          <Empty title="No key has used a token yet.">
            <p>Send a request with a key: its tokens of each day are counted here.</p>
          </Empty>
        ) : (
          <>
            <UsageBars days={daysOf(report)} tokens={tokensByDay(report)} />
            <Section title="By key">
              <Table
                caption="Usage by key"
                columns={columnsOf(report.days)}
                rows={rows ?? []}
                rowKey={({ key }) => key}
                filter
                csv="copal-usage"
              />
            </Section>
          </>
        )
      }
    </Loaded>
  )
}

function columnsOf(days: number): Column<UsageRow>[] {
  return [
    {
      key: 'name',
      title: 'Key',
      phone: 'first',
      value: ({ name, prefix }) => `${name} ${prefix}…`,
      cell: ({ name, prefix, revoked }) => (
        <>
          {name}
          <span class="cell-note">
            <code>{prefix}…</code>
            {revoked && ' revoked'}
          </span>
        </>
      ),
    },
    { key: 'tenant', title: 'Tenant', value: ({ tenant }) => tenant },
    {
      key: 'days',
      title: `${days} days`,
      phone: 'first',
      value: () => null,
      cell: ({ tokens, name }) => <Sparkline values={tokens} label={`Tokens of ${name} by day`} />,
    },
    {
      key: 'total',
      title: 'Tokens',
      align: 'end',
      value: ({ total }) => total,
      cell: ({ total }) => <Num title={total.toLocaleString('en')}>{formatCount(total)}</Num>,
    },
    {
      key: 'month',
      title: 'This month',
      align: 'end',
      value: ({ month }) => month,
      cell: ({ month }) => <Num title={month.toLocaleString('en')}>{formatCount(month)}</Num>,
    },
    {
      key: 'limit',
      title: 'Limit used',
      align: 'end',
      value: ({ share }) => share,
      cell: ({ share, monthLimit }) =>
        share === null ? (
          <span class="soft">no limit</span>
        ) : share >= NEAR_LIMIT ? (
          <Status tone="harm">{`${formatShare(share)} of ${formatCount(monthLimit)}`}</Status>
        ) : (
          <Num>{`${formatShare(share)} of ${formatCount(monthLimit)}`}</Num>
        ),
    },
  ]
}
