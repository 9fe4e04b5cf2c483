import { useState } from 'preact/hooks'
import type { KeyEntry, SamplingPolicy, TenantEntry } from '@copal/shared/wire/admin-keys.ts'
import { TextField } from '../../components/fields.tsx'
import { FormDialog } from '../../components/form-dialog.tsx'
import { useToast } from '../../components/toast.tsx'
import { useClient } from '../../data/data.tsx'
import { limitChangesOf, textsOf, withText } from './limit-fields.ts'
import { LimitInputs, SamplingInput } from './limit-inputs.tsx'

/** Changes the limits and the sampling of a key. */
export function EditKeyDialog({ account, onClose }: { account: KeyEntry; onClose: () => void }) {
  return (
    <EditAccountDialog
      title={`Limits of ${account.name}`}
      account={account}
      samplingLabel="Requests that may be sampled"
      send={{ method: 'PATCH', path: `/admin/keys/${encodeURIComponent(account.id)}` }}
      onClose={onClose}
    />
  )
}

/** Changes the limits of all keys of a tenant together, and the most that they may have sampled. */
export function EditTenantDialog({ account, onClose }: { account: TenantEntry; onClose: () => void }) {
  return (
    <EditAccountDialog
      title={`Limits of the tenant ${account.name}`}
      account={account}
      samplingLabel="The most that its keys may have sampled"
      send={{ method: 'PUT', path: `/admin/tenants/${encodeURIComponent(account.name)}` }}
      onClose={onClose}
    />
  )
}

interface EditAccountProps {
  title: string
  account: Pick<KeyEntry, 'name' | 'limits' | 'sampling'>
  samplingLabel: string
  send: { method: 'PATCH' | 'PUT'; path: string }
  onClose: () => void
}

function EditAccountDialog({ title, account: present, samplingLabel, send, onClose }: EditAccountProps) {
  const client = useClient()
  const toast = useToast()
  // As it was opened: what others change meanwhile is not a change of this form.
  const [account] = useState(present)
  const [texts, setTexts] = useState(textsOf(account.limits))
  const [sampling, setSampling] = useState<SamplingPolicy>(account.sampling)
  const limits = limitChangesOf(texts, account.limits)
  const isChanged = sampling !== account.sampling || (limits !== undefined && Object.keys(limits).length > 0)
  return (
    <FormDialog
      title={title}
      submit="Save"
      isReady={limits !== undefined && isChanged}
      onSubmit={async () => {
        const body = { limits, ...(sampling === account.sampling ? {} : { sampling }) }
        await client.send(send.method, send.path, body)
        client.refresh('/admin/keys', '/admin/tenants')
        toast(`The limits of ${account.name} are changed; they hold everywhere within half a minute.`)
      }}
      onClose={onClose}
    >
      <LimitInputs texts={texts} onChange={(limit, text) => setTexts(withText(limit, text))} />
      <SamplingInput label={samplingLabel} value={sampling} onChange={setSampling} />
    </FormDialog>
  )
}

/** Creates a tenant. */
export function CreateTenantDialog({ onClose }: { onClose: () => void }) {
  const client = useClient()
  const toast = useToast()
  const [name, setName] = useState('')
  const [texts, setTexts] = useState(textsOf(undefined))
  const [sampling, setSampling] = useState<SamplingPolicy>('always')
  const limits = limitChangesOf(texts, undefined)
  return (
    <FormDialog
      title="Create a tenant"
      submit="Create the tenant"
      isReady={name.trim() !== '' && limits !== undefined}
      onSubmit={async () => {
        const tenant = name.trim()
        await client.send('PUT', `/admin/tenants/${encodeURIComponent(tenant)}`, { limits, sampling })
        client.refresh('/admin/tenants')
        toast(`The tenant ${tenant} exists; create keys for it.`)
      }}
      onClose={onClose}
    >
      <TextField
        label="Name"
        value={name}
        onInput={setName}
        required
        hint="Lower-case letters, digits and dashes, like acme"
      />
      <LimitInputs texts={texts} onChange={(limit, text) => setTexts(withText(limit, text))} />
      <SamplingInput
        label="The most that its keys may have sampled"
        value={sampling}
        onChange={setSampling}
      />
    </FormDialog>
  )
}
