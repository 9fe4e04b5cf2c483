import type { ComponentChildren } from 'preact'
import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import { toApiError } from '../data/client.ts'
import { Dialog } from './dialog.tsx'
import { Problem } from './problem.tsx'
import { useToast } from './toast.tsx'

interface FormDialogProps {
  title: string
  /** Text of the button that sends the form; names the action. */
  submit: string
  /** True when the form can be sent. */
  isReady: boolean
  /** Sends it. Errors that it throws are shown. */
  onSubmit: () => Promise<void>
  onClose: () => void
  children: ComponentChildren
  /** Default: `plain`; `harm` for changes that take something away. */
  tone?: 'harm' | 'plain'
  /** Puts the focus on the button that closes the dialog. */
  focusesLeave?: boolean
}

/** A form over the page, which closes when it was sent. */
export function FormDialog(props: FormDialogProps) {
  const { title, submit, isReady, onSubmit, onClose, children, tone = 'plain', focusesLeave = false } = props
  const [problem, setProblem] = useState<string>()
  const [isBusy, setBusy] = useState(false)
  const toast = useToast()
  const isOpen = useRef(true)
  useLayoutEffect(() => () => void (isOpen.current = false), [])
  const send = async () => {
    setBusy(true)
    setProblem(undefined)
    try {
      await onSubmit()
      if (isOpen.current) onClose()
    } catch (cause) {
      const { message } = toApiError(cause)
      // It may have been left while the request ran.
      if (!isOpen.current) toast(message, 'harm')
      setProblem(message)
      setBusy(false)
    }
  }
  return (
    <Dialog title={title} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault()
          void send()
        }}
      >
        {children}
        <Problem message={problem} />
        <div class="dialog-actions">
          <button type="button" class="button" onClick={onClose} autofocus={focusesLeave}>
            Leave it
          </button>
          <button type="submit" class={`button button-${tone} button-filled`} disabled={!isReady || isBusy}>
            {isBusy ? 'Working …' : submit}
          </button>
        </div>
      </form>
    </Dialog>
  )
}
