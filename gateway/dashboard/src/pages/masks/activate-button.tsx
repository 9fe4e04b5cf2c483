import { ConfirmButton } from '../../components/confirm-button.tsx'
import { useClient } from '../../data/data.tsx'
import { maskName, maskNameFirst, maskVerb } from '../../format/mask-names.ts'
import { useSession } from '../../session/session.tsx'
import { activationConsequences, type Activation } from './activation-words.ts'

/** Makes an earlier mask active, after a confirmation. */
export function ActivateButton(props: Activation & { label?: string }) {
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
