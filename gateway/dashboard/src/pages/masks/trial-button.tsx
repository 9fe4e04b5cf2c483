import { useState } from 'preact/hooks'
import type { MaskEntry, StatusReport } from '@copal/shared/wire/admin.ts'
import { Choice, TextField } from '../../components/fields.tsx'
import { FormDialog } from '../../components/form-dialog.tsx'
import { useToast } from '../../components/toast.tsx'
import { useClient } from '../../data/data.tsx'
import { formatShare } from '../../format/numbers.ts'
import { MAX_PERCENT, parseShare, startConsequences, type TrialKind } from './operator-trial.ts'

interface TrialProps {
  mask: MaskEntry
  model: StatusReport['models'][number]
}

const KINDS = [
  { value: 'shadow', label: 'Shadow: scores only' },
  { value: 'canary', label: 'Canary: answers clients' },
] as const

/** Starts a canary or a shadow of a mask. */
export function TrialButton(props: TrialProps) {
  const [isOpen, setOpen] = useState(false)
  return (
    <>
      <button type="button" class="button" onClick={() => setOpen(true)}>
        Start a trial
      </button>
      {isOpen && <TrialDialog {...props} onClose={() => setOpen(false)} />}
    </>
  )
}

function TrialDialog({ mask, model, onClose }: TrialProps & { onClose: () => void }) {
  const client = useClient()
  const toast = useToast()
  const [kind, setKind] = useState<TrialKind>('shadow')
  const [text, setText] = useState('10')
  const share = parseShare(kind, text)
  return (
    <FormDialog
      title={`Try mask ${mask.version} on traffic`}
      submit={`Start the ${kind}`}
      isReady={share !== undefined}
      onSubmit={async () => {
        const body = { model: model.id, mask_version: mask.version, share }
        await client.send('PUT', `/admin/${kind}`, body)
        client.refresh('/admin/')
        toast(`The ${kind} of mask ${mask.version} has started, with ${formatShare(share)}.`)
      }}
      onClose={onClose}
    >
      <div class="field">
        <Choice
          label="Kind of trial"
          value={kind}
          options={KINDS}
          onChange={(value) => setKind(value === 'canary' ? 'canary' : 'shadow')}
        />
      </div>
      <TextField
        label={kind === 'canary' ? 'Share of the conversations, %' : 'Share of the sampled requests, %'}
        value={text}
        onInput={setText}
        type="number"
        problem={share === undefined ? `A number above 0, at most ${MAX_PERCENT[kind]}` : undefined}
      />
      {startConsequences(kind, model, mask.version).map((consequence) => (
        <p key={consequence}>{consequence}</p>
      ))}
    </FormDialog>
  )
}
