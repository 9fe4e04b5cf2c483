import type { ComponentChildren } from 'preact'
import { useEffect, useId, useRef, useState } from 'preact/hooks'
import { toApiError } from '../data/client.ts'
import { useToast } from './toast.tsx'

interface DialogProps {
  title: string
  onClose: () => void
  children: ComponentChildren
}

/** A dialog over the page: Escape closes it, and the focus returns to where it was. */
export function Dialog({ title, onClose, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null)
  const titleId = useId()
  useEffect(() => {
    const element = dialog.current
    element?.showModal()
    return () => element?.close()
  }, [])
  return (
    <dialog
      ref={dialog}
      class="dialog"
      aria-labelledby={titleId}
      onClose={onClose}
      onClick={(event) => {
        if (event.target === dialog.current) onClose()
      }}
    >
      <div class="dialog-body">
        <h2 id={titleId}>{title}</h2>
        {children}
      </div>
    </dialog>
  )
}

interface ConfirmProps {
  /** Text of the button that opens the dialog. */
  label: string
  /** The question, such as `Roll back to mask 13?`. */
  title: string
  /** What will happen, to whom, and how to return. One paragraph each. */
  consequences: readonly ComponentChildren[]
  /** Text of the button that does it; says what it does. */
  confirm: string
  /** Does it. What it throws is shown in the dialog. */
  act: (reason: string) => Promise<void>
  /** Said when it is done. */
  done: string
  /** Default: `harm`, for what takes something away. */
  tone?: 'harm' | 'plain'
  /** Fields between the consequences and the buttons. */
  fields?: ComponentChildren
  /** Whether the fields are filled in. Default: true. */
  isReady?: boolean
  /** Asks for a reason of at least so many characters. */
  reason?: { label: string; minLength: number }
  disabled?: boolean
  /** Why it is disabled. */
  hint?: string | undefined
  small?: boolean
}

/** A button that says what it will do before it does it. */
export function ConfirmButton(props: ConfirmProps) {
  const { label, tone = 'harm', disabled = false, hint, small = false } = props
  const [isOpen, setOpen] = useState(false)
  return (
    <>
      <button
        type="button"
        class={`button button-${tone} ${small ? 'button-small' : ''}`}
        disabled={disabled}
        title={hint}
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
  const [isBusy, setBusy] = useState(false)
  const [problem, setProblem] = useState<string>()
  const toast = useToast()
  const reasonId = useId()
  const run = async () => {
    setBusy(true)
    setProblem(undefined)
    try {
      await act(text.trim())
      toast(done)
      onClose()
    } catch (cause) {
      setProblem(toApiError(cause).message)
      setBusy(false)
    }
  }
  const isReady = (props.isReady ?? true) && (!reason || text.trim().length >= reason.minLength)
  return (
    <Dialog title={title} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void run()
        }}
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
              At least {reason.minLength} characters; it is kept.
            </span>
          </p>
        )}
        {problem !== undefined && (
          <p class="harm" role="alert">
            <span aria-hidden="true">▲</span> {problem}
          </p>
        )}
        <div class="dialog-actions">
          <button type="button" class="button" onClick={onClose} autofocus>
            Leave it
          </button>
          <button type="submit" class={`button button-${tone} button-filled`} disabled={!isReady || isBusy}>
            {isBusy ? 'Working …' : confirm}
          </button>
        </div>
      </form>
    </Dialog>
  )
}
