import type { ComponentChildren } from 'preact'
import { useId, useState } from 'preact/hooks'
import { FormDialog } from './form-dialog.tsx'
import { useToast } from './toast.tsx'

interface ConfirmProps {
  /** Text of the button that opens the dialog. */
  label: string
  /** What it acts on, where other buttons have the same label; for screen readers. */
  about?: string
  /** The question, such as `Roll back to mask 13?`. */
  title: string
  /** The effects, on whom, and how to return. One paragraph each. */
  consequences: readonly ComponentChildren[]
  /** Text of the button that confirms; names the action. */
  confirm: string
  /** Does it. Errors that it throws are shown in the dialog. */
  act: (reason: string) => Promise<void>
  /** Message after success. */
  done: string
  /** Default: `harm`, for actions that take something away. */
  tone?: 'harm' | 'plain'
  /** Fields between the consequences and the buttons. */
  fields?: ComponentChildren
  /** False while a field is not filled in. Default: true. */
  isReady?: boolean
  /** Asks for a reason of at least so many characters. */
  reason?: { label: string; minLength: number }
  small?: boolean
}

/** A button whose action must be confirmed in a dialog that explains it. */
export function ConfirmButton(props: ConfirmProps) {
  const { label, about, tone = 'harm', small = false } = props
  const [isOpen, setOpen] = useState(false)
  return (
    <>
      <button
        type="button"
        class={`button button-${tone} ${small ? 'button-small' : ''}`}
        aria-label={about === undefined ? undefined : `${label}: ${about}`}
        onClick={() => setOpen(true)}
      >
        {label}
      </button>
      {isOpen && <ConfirmDialog {...props} onClose={() => setOpen(false)} />}
    </>
  )
}

function ConfirmDialog(props: ConfirmProps & { onClose: () => void }) {
  const { title, consequences, confirm, act, done, tone = 'harm', reason, fields, onClose } = props
  const [text, setText] = useState('')
  const toast = useToast()
  const reasonId = useId()
  return (
    <FormDialog
      title={title}
      submit={confirm}
      tone={tone}
      isReady={(props.isReady ?? true) && (!reason || text.trim().length >= reason.minLength)}
      onSubmit={async () => {
        await act(text.trim())
        toast(done)
      }}
      onClose={onClose}
      focusesLeave
    >
      {consequences.map((consequence, index) => (
        <p key={index}>{consequence}</p>
      ))}
      {fields}
      {reason && (
        <p class="field">
          <label for={reasonId}>{reason.label}</label>
          <textarea
            id={reasonId}
            rows={3}
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
            aria-describedby={`${reasonId}-hint`}
          />
          <span class="soft" id={`${reasonId}-hint`}>
            At least {reason.minLength} characters; the audit log keeps it.
          </span>
        </p>
      )}
    </FormDialog>
  )
}
