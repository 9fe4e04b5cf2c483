import type { MaskEntry, NodeEntry } from '@copal/shared/wire/admin.ts'
import { ConfirmButton } from '../../components/confirm-button.tsx'
import { useClient } from '../../data/data.tsx'
import { maskName, maskNameFirst, maskVerb } from '../../format/mask-names.ts'
import { useSession } from '../../session/session.tsx'
import { activationConsequences } from './activation-words.ts'

interface ActivateButtonProps {
  model: string
  /** The version that is active now. */
  from: number
  /** The version that becomes active; 0 is dense. */
  to: number
  masks: readonly MaskEntry[]
  nodes: readonly NodeEntry[]
  /** The mask `to` was rolled back before. */
  wasRolledBack?: boolean
  label?: string
}

/** Makes an earlier mask active, after a confirmation. */
export function ActivateButton(props: ActivateButtonProps) {
  const { model, from, to } = props
  const client = useClient()
  const { may_change: mayChange } = useSession()
  if (!mayChange || from === to) return null
  const action = `${to > from ? 'Return' : 'Roll back'} to ${maskName(to)}`
  return (
    <ConfirmButton
      // A dialog about another mask closes, so that nobody confirms what was not asked.
      key={`${from} ${to}`}
      label={props.label ?? action}
      title={`${action}?`}
      consequences={activationConsequences(props)}
      confirm={action}
      act={async () => {
        await client.send('POST', '/admin/rollback', { model, version: to })
        client.refresh('/admin/')
      }}
      done={`${maskNameFirst(to)} ${maskVerb(to, 'is', 'are')} active.`}
    />
  )
}
