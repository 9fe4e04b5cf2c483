import { useState } from 'preact/hooks'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import { Choice } from '../../components/fields.tsx'
import { Page, sentenceWhenLoaded } from '../../components/page.tsx'
import { useResource } from '../../data/data.tsx'
import * as endpoints from '../../data/endpoints.ts'
import { useNavigation } from '../../navigation/navigation.tsx'
import { useSession } from '../../session/session.tsx'
import { CreateKeyDialog } from './create-key.tsx'
import { CreateTenantDialog } from './edit-account.tsx'
import { tenants as tenantsEndpoint, usage as usageEndpoint } from './key-endpoints.ts'
import { KeysSection } from './keys-section.tsx'
import { keysSentence } from './key-words.ts'
import { ShownKey } from './shown-key.tsx'
import { TenantsSection } from './tenants-section.tsx'
import { UsageSection } from './usage-section.tsx'
import { USAGE_DAYS, usageRows } from './usage-rows.ts'

const VIEWS = [
  { value: 'keys', label: 'Keys' },
  { value: 'usage', label: 'Usage' },
  { value: 'tenants', label: 'Tenants and limits' },
] as const

/** Keys, their usage and their limits. */
export function KeysPage() {
  const { query, setQuery } = useNavigation()
  const { may_change: mayChange, role } = useSession()
  const keys = useResource(endpoints.keys(), 30_000)
  const tenants = useResource(tenantsEndpoint(), 30_000)
  const usage = useResource(usageEndpoint(USAGE_DAYS), 60_000)
  const [dialog, setDialog] = useState<'key' | 'tenant'>()
  const [created, setCreated] = useState<CreatedKey>()
  const view = VIEWS.find(({ value }) => value === query.get('view'))?.value ?? 'keys'
  const rows = keys.value && usage.value && usageRows(usage.value, keys.value.data, Date.now())
  const filter = query.get('q') ?? undefined
  return (
    <Page
      title="Keys"
      sentence={sentenceWhenLoaded(keys, ({ data }) => (
        <p>{keysSentence(data, rows, Date.now())}</p>
      ))}
      actions={
        mayChange && (
          <>
            {role === 'operator' && (
              <button type="button" class="button" onClick={() => setDialog('tenant')}>
                Create a tenant
              </button>
            )}
            <button type="button" class="button button-plain" onClick={() => setDialog('key')}>
              Create a key
            </button>
          </>
        )
      }
    >
      <div class="views">
        <Choice
          label="View"
          value={view}
          options={VIEWS}
          onChange={(next) => setQuery({ view: next === 'keys' ? null : next, q: null })}
        />
      </div>
      {view === 'keys' && <KeysSection keys={keys} usage={rows} filter={filter} onRotated={setCreated} />}
      {view === 'usage' && <UsageSection usage={usage} rows={rows} />}
      {view === 'tenants' && <TenantsSection tenants={tenants} filter={filter} />}
      {dialog === 'key' && (
        <CreateKeyDialog
          tenants={tenants.value?.data ?? []}
          isOperator={role === 'operator'}
          onCreated={setCreated}
          onClose={() => setDialog(undefined)}
        />
      )}
      {dialog === 'tenant' && <CreateTenantDialog onClose={() => setDialog(undefined)} />}
      {created && <ShownKey created={created} onClose={() => setCreated(undefined)} />}
    </Page>
  )
}
