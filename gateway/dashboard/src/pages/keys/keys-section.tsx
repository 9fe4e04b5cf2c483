import { useState } from 'preact/hooks'
import type { CreatedKey, KeyEntry } from '@copal/shared/wire/admin-keys.ts'
import { ConfirmButton } from '../../components/confirm-button.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { Empty } from '../../components/notices.tsx'
import { Num } from '../../components/num.tsx'
import { Table, type Column } from '../../components/table.tsx'
import { Time } from '../../components/time.tsx'
import { useClient } from '../../data/data.tsx'
import type { List } from '../../data/endpoints.ts'
import type { Resource } from '../../data/resource.ts'
import { formatCount } from '../../format/numbers.ts'
import { Link } from '../../navigation/link.tsx'
import { paths } from '../../navigation/routes.ts'
import { useSession } from '../../session/session.tsx'
import { EditKeyDialog } from './edit-account.tsx'
import { SAMPLING_WORDS, SCOPE_WORDS } from './key-words.ts'
import { describeLimits } from './limit-inputs.tsx'
import type { UsageRow } from './usage-rows.ts'

/** Time for which the old secret of a rotated key stays valid. */
const GRACE_SECONDS = 24 * 3600

interface KeysSectionProps {
  keys: Resource<List<KeyEntry>>
  usage: readonly UsageRow[] | undefined
  filter: string | undefined
  onRotated: (created: CreatedKey) => void
}

/** All keys with their scopes, limits and usage. */
export function KeysSection({ keys, usage, filter, onRotated }: KeysSectionProps) {
  const { may_change: mayChange, role } = useSession()
  const months = new Map(usage?.map(({ key, month }) => [key, month]))
  return (
    <Loaded resource={keys}>
      {({ data }) => (
        <Table
          key={filter}
          caption="Keys"
          columns={[
            ...columnsOf(months, role === 'tenant'),
            ...(mayChange ? [actionsColumn(onRotated)] : []),
          ]}
          rows={data}
          rowKey={({ id }) => id}
          filter
          initialFilter={filter}
          csv="copal-keys"
          empty={
            <Empty title="There is no key yet.">
              <p>Create one: clients send it with every request.</p>
            </Empty>
          }
        />
      )}
    </Loaded>
  )
}

function columnsOf(months: ReadonlyMap<string, number>, isOneTenant: boolean): Column<KeyEntry>[] {
  return [
    {
      key: 'name',
      title: 'Key',
      phone: 'first',
      value: ({ name, prefix, id }) => `${name} ${prefix}… ${id}`,
      cell: ({ name, prefix, id }) => (
        <span title={id}>
          {name}
          <span class="cell-note">
            <code>{prefix}…</code>
          </span>
        </span>
      ),
    },
    ...(isOneTenant
      ? []
      : [
          {
            key: 'tenant',
            title: 'Tenant',
            value: ({ tenant }: KeyEntry) => tenant,
            cell: ({ tenant }: KeyEntry) => <span class="name">{tenant}</span>,
          } satisfies Column<KeyEntry>,
        ]),
    {
      key: 'scopes',
      title: 'May use',
      phone: 'none',
      value: ({ scopes }) => scopes.map((scope) => SCOPE_WORDS[scope]).join(', '),
    },
    {
      key: 'domain',
      title: 'Domain',
      phone: 'none',
      value: ({ default_domain: domain, discover_domains: found }) => (found ? 'found by content' : domain),
      cell: ({ default_domain: domain, discover_domains: found }) =>
        found ? (
          <span class="soft" title={`Texts that are unclear go to ${domain}`}>
            found
          </span>
        ) : (
          <Link to={paths.domain(domain)}>{domain}</Link>
        ),
    },
    { key: 'sampling', title: 'Sampled', value: ({ sampling }) => SAMPLING_WORDS[sampling] },
    {
      key: 'limits',
      title: 'Limits',
      value: ({ limits }) => describeLimits(limits),
      cell: ({ limits }) => (
        <span class={describeLimits(limits) === 'none' ? 'soft' : 'reason'}>{describeLimits(limits)}</span>
      ),
    },
    {
      key: 'month',
      title: 'Tokens this month',
      align: 'end',
      hint: 'Tokens since the first of the month, UTC.',
      value: ({ id }) => months.get(id) ?? null,
      cell: ({ id }) => <Num>{formatCount(months.get(id))}</Num>,
    },
    {
      key: 'expires',
      title: 'Expires',
      value: ({ expires_at: at }) => at,
      cell: ({ expires_at: at, previous_valid_until: previous }) => (
        <>
          <Time at={at} as="clock" missing="never" />
          {previous !== null && (
            <span class="cell-note">
              old secret until <Time at={previous} as="clock" />
            </span>
          )}
        </>
      ),
    },
  ]
}

function actionsColumn(onRotated: (created: CreatedKey) => void): Column<KeyEntry> {
  return {
    key: 'actions',
    title: '',
    align: 'end',
    value: () => null,
    cell: (key) => <KeyActions account={key} onRotated={onRotated} />,
  }
}

function KeyActions({ account, onRotated }: { account: KeyEntry; onRotated: (created: CreatedKey) => void }) {
  const client = useClient()
  const [isEditing, setEditing] = useState(false)
  const path = `/admin/keys/${encodeURIComponent(account.id)}`
  return (
    <span class="row-actions">
      <button
        type="button"
        class="button button-small"
        aria-label={`Limits: ${account.name}`}
        onClick={() => setEditing(true)}
      >
        Limits
      </button>
      <ConfirmButton
        small
        tone="plain"
        label="Rotate"
        about={account.name}
        title={`Give ${account.name} a new secret?`}
        consequences={[
          'The new secret is shown once. The old one stays valid for 24 hours, so clients can change without a gap.',
          'The key keeps its id, scopes and limits. To end the old secret earlier, rotate again.',
        ]}
        confirm="Rotate"
        act={async () => {
          onRotated(await client.send<CreatedKey>('POST', `${path}/rotate`, { grace_seconds: GRACE_SECONDS }))
          client.refresh('/admin/keys')
        }}
        done={`${account.name} has a new secret.`}
      />
      <ConfirmButton
        small
        label="Revoke"
        about={account.name}
        title={`Revoke ${account.name}?`}
        consequences={[
          'Every client with this key gets 401 within half a minute, and responses that stream end within a minute.',
          'It cannot be restored: create another key to let them in again. Its usage stays counted.',
        ]}
        confirm={`Revoke ${account.name}`}
        act={async () => {
          await client.send('DELETE', path)
          client.refresh('/admin/keys', '/admin/tenants', '/admin/usage')
        }}
        done={`${account.name} is revoked.`}
      />
      {isEditing && <EditKeyDialog account={account} onClose={() => setEditing(false)} />}
    </span>
  )
}
