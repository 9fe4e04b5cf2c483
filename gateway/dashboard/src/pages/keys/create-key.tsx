import { useState } from 'preact/hooks'
import type {
  CreatedKey,
  CreateKey,
  KeyScope,
  SamplingPolicy,
  TenantEntry,
} from '@copal/shared/wire/admin-keys.ts'
import { SelectField, TextField } from '../../components/fields.tsx'
import { FormDialog } from '../../components/form-dialog.tsx'
import { useClient } from '../../data/data.tsx'
import { limitChangesOf, textsOf, withText } from './limit-fields.ts'
import { LimitInputs, SamplingInput } from './limit-inputs.tsx'

const SCOPES: readonly { value: KeyScope; label: string; operatorOnly?: boolean }[] = [
  { value: 'inference', label: 'Send requests' },
  { value: 'read-metrics', label: 'Read the metrics of its tenant' },
  { value: 'admin', label: 'Manage the keys of its tenant' },
  { value: 'read-admin', label: 'Read the whole dashboard, change nothing', operatorOnly: true },
]

interface CreateKeyDialogProps {
  /** Tenants to choose from; an administrator of one tenant has that one alone. */
  tenants: readonly TenantEntry[]
  isOperator: boolean
  onCreated: (created: CreatedKey) => void
  onClose: () => void
}

/** Creates a key. */
export function CreateKeyDialog({ tenants, isOperator, onCreated, onClose }: CreateKeyDialogProps) {
  const client = useClient()
  const [name, setName] = useState('')
  const [tenant, setTenant] = useState(
    tenants.find((each) => each.name === 'default')?.name ?? tenants[0]?.name ?? '',
  )
  const [scopes, setScopes] = useState<readonly KeyScope[]>(['inference'])
  const [domain, setDomain] = useState('')
  const [sampling, setSampling] = useState<SamplingPolicy>('opt_in')
  const [expires, setExpires] = useState('')
  const [texts, setTexts] = useState(textsOf(undefined))
  const limits = limitChangesOf(texts, undefined)
  const create = async () => {
    const body: CreateKey = {
      name: name.trim(),
      ...(isOperator && tenant !== '' ? { tenant } : {}),
      scopes: [...scopes],
      ...(domain.trim() === '' ? {} : { default_domain: domain.trim() }),
      sampling,
      limits: limits ?? {},
      ...(expires === '' ? {} : { expires_at: new Date(`${expires}T23:59:59`).toISOString() }),
    }
    const created = await client.send<CreatedKey>('POST', '/admin/keys', body)
    client.refresh('/admin/keys', '/admin/tenants')
    onCreated(created)
  }
  return (
    <FormDialog
      title="Create a key"
      submit="Create the key"
      isReady={name.trim() !== '' && scopes.length > 0 && limits !== undefined}
      onSubmit={create}
      onClose={onClose}
    >
      <TextField label="Name" value={name} onInput={setName} required hint="Who or what uses it" />
      {isOperator && tenants.length > 1 && (
        <SelectField
          label="Tenant"
          value={tenant}
          options={tenants.map((each) => ({ value: each.name, label: each.name }))}
          onChange={setTenant}
        />
      )}
      <fieldset class="options">
        <legend>It may</legend>
        {SCOPES.filter(({ operatorOnly }) => isOperator || operatorOnly !== true).map(({ value, label }) => (
          <label key={value}>
            <input
              type="checkbox"
              checked={scopes.includes(value)}
              onChange={({ currentTarget: { checked } }) =>
                setScopes(checked ? [...scopes, value] : scopes.filter((scope) => scope !== value))
              }
            />
            <span>{label}</span>
          </label>
        ))}
      </fieldset>
      <TextField
        label="Default domain"
        value={domain}
        onInput={setDomain}
        placeholder="found by content"
        hint="The domain of requests that name none"
      />
      <SamplingInput label="Requests that may be sampled" value={sampling} onChange={setSampling} />
      <TextField
        label="Valid until"
        type="date"
        value={expires}
        onInput={setExpires}
        hint="Empty: until it is revoked"
      />
      <details class="more">
        <summary>Limits</summary>
        <LimitInputs texts={texts} onChange={(limit, text) => setTexts(withText(limit, text))} />
      </details>
    </FormDialog>
  )
}
