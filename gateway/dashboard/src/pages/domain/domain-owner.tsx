import { useState } from 'preact/hooks'
import type { ChangedDomain, DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import { SelectField } from '../../components/fields.tsx'
import { FormDialog } from '../../components/form-dialog.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { useToast } from '../../components/toast.tsx'
import { useClient, useResource } from '../../data/data.tsx'
import { tenants } from '../keys/key-endpoints.ts'
import { ownerConsequences, ownerOptions } from './owner-words.ts'

/** A button that changes the owner of a domain: a tenant, or all tenants together. */
export function ChangeOwner({ entry }: { entry: DomainEntry }) {
  const [isOpen, setOpen] = useState(false)
  return (
    <>
      <button type="button" class="button button-small" onClick={() => setOpen(true)}>
        Change the owner
      </button>
      {isOpen && <OwnerDialog entry={entry} onClose={() => setOpen(false)} />}
    </>
  )
}

function OwnerDialog({ entry, onClose }: { entry: DomainEntry; onClose: () => void }) {
  const { send, refresh } = useClient()
  const toast = useToast()
  const list = useResource(tenants())
  const before = entry.owner ?? ''
  const [owner, setOwner] = useState(before)
  return (
    <FormDialog
      title={`Owner of ${entry.name}`}
      submit="Change the owner"
      isReady={owner !== before}
      onSubmit={async () => {
        const path = `/admin/domains/${encodeURIComponent(entry.name)}`
        await send<ChangedDomain>('PUT', path, { owner: owner === '' ? null : owner })
        refresh('/admin/domains')
        toast(
          owner === ''
            ? `All tenants share ${entry.name} now.`
            : `${entry.name} belongs to the tenant ${owner} now.`,
        )
      }}
      onClose={onClose}
    >
      <Loaded resource={list}>
        {({ data }) => (
          <SelectField
            label="Owner"
            value={owner}
            options={ownerOptions(
              data.map(({ name }) => name),
              before,
            )}
            onChange={setOwner}
          />
        )}
      </Loaded>
      {ownerConsequences(entry.name, owner, before).map((consequence) => (
        <p key={consequence}>{consequence}</p>
      ))}
    </FormDialog>
  )
}
