import { useState } from 'preact/hooks'
import type { ClearedCache, TenantEntry } from '@copal/shared/wire/admin-keys.ts'
import { ConfirmButton } from '../../components/confirm-button.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { Num } from '../../components/num.tsx'
import { Table, type Column } from '../../components/table.tsx'
import { Time } from '../../components/time.tsx'
import { useClient } from '../../data/data.tsx'
import type { List } from '../../data/endpoints.ts'
import type { Resource } from '../../data/resource.ts'
import { formatCount } from '../../format/numbers.ts'
import { useSession } from '../../session/session.tsx'
import { EditTenantDialog } from './edit-account.tsx'
import { SAMPLING_WORDS } from './key-words.ts'
import { LIMITS } from './limit-fields.ts'

/** Tenants with the limits of all their keys together. */
export function TenantsSection({
  tenants,
  filter,
}: {
  tenants: Resource<List<TenantEntry>>
  filter: string | undefined
}) {
  const { may_change: mayChange } = useSession()
  const columns = mayChange ? [...COLUMNS, ACTIONS] : COLUMNS
  return (
    <Loaded resource={tenants}>
      {({ data }) => (
        <Table
          key={filter}
          caption="Tenants"
          columns={columns}
          rows={data}
          rowKey={({ name }) => name}
          filter={data.length > 8}
          initialFilter={filter}
          csv="copal-tenants"
        />
      )}
    </Loaded>
  )
}

const COLUMNS: readonly Column<TenantEntry>[] = [
  { key: 'name', title: 'Tenant', phone: 'first', value: ({ name }) => name },
  {
    key: 'keys',
    title: 'Keys',
    align: 'end',
    value: ({ keys }) => keys,
    cell: ({ keys }) => <Num>{formatCount(keys)}</Num>,
  },
  ...LIMITS.map(({ name, short, label }): Column<TenantEntry> => ({
    key: name,
    title: short,
    hint: label,
    align: 'end',
    value: ({ limits }) => limits[name],
    cell: ({ limits }) =>
      limits[name] === null ? <span class="soft">no limit</span> : <Num>{formatCount(limits[name])}</Num>,
  })),
  {
    key: 'sampling',
    title: 'Sampled at most',
    hint: 'The most that its keys may have sampled.',
    value: ({ sampling }) => SAMPLING_WORDS[sampling],
  },
  {
    key: 'created',
    title: 'Created',
    phone: 'none',
    value: ({ created_at: at }) => at,
    cell: ({ created_at: at }) => <Time at={at} as="clock" />,
  },
]

const ACTIONS: Column<TenantEntry> = {
  key: 'actions',
  title: '',
  align: 'end',
  phone: 'first',
  value: () => null,
  cell: (tenant) => <TenantActions tenant={tenant} />,
}

function TenantActions({ tenant }: { tenant: TenantEntry }) {
  const client = useClient()
  const { role } = useSession()
  const [isEditing, setEditing] = useState(false)
  return (
    <span class="row-actions">
      {role === 'operator' && (
        <button
          type="button"
          class="button button-small"
          aria-label={`Limits: ${tenant.name}`}
          onClick={() => setEditing(true)}
        >
          Limits
        </button>
      )}
      <ConfirmButton
        small
        label="Clear cache"
        about={tenant.name}
        title={`Clear the cached responses of ${tenant.name}?`}
        consequences={[
          `All responses that are cached for ${tenant.name} are deleted. Equal requests are computed again, so they cost tokens and take longer until they are cached again.`,
          'The deleted responses cannot be restored.',
        ]}
        confirm="Clear the cache"
        act={async () => {
          const path = `/admin/tenants/${encodeURIComponent(tenant.name)}/cache`
          await client.send<ClearedCache>('DELETE', path)
        }}
        done={`The cache of ${tenant.name} is empty.`}
      />
      {isEditing && <EditTenantDialog account={tenant} onClose={() => setEditing(false)} />}
    </span>
  )
}
