import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { Dialog } from '../../components/dialog.tsx'
import { toApiError } from '../../data/client.ts'

interface FormDialogProps {
  title: string
  submit: string
  /** Whether the form can be sent. */
  isReady: boolean
  /** Sends it. What it throws is shown. */
  onSubmit: () => Promise<void>
  onClose: () => void
  children: ComponentChildren
}

/** A form over the page. */
export function FormDialog({ title, submit, isReady, onSubmit, onClose, children }: FormDialogProps) {
  const [problem, setProblem] = useState<string>()
  const [isBusy, setBusy] = useState(false)
  const send = async () => {
    setBusy(true)
    setProblem(undefined)
    try {
      await onSubmit()
      onClose()
    } catch (cause) {
      setProblem(toApiError(cause).message)
      setBusy(false)
    }
  }
  return (
    <Dialog title={title} onClose={onClose}>
      <form
        class="form"
        onSubmit={(event) => {
          event.preventDefault()
          void send()
        }}
      >
        {children}
        {problem !== undefined && (
          <p class="harm" role="alert">
            <span aria-hidden="true">▲</span> {problem}
          </p>
        )}
        <div class="dialog-actions">
          <button type="button" class="button" onClick={onClose}>
            Leave it
          </button>
          <button type="submit" class="button button-plain button-filled" disabled={!isReady || isBusy}>
            {isBusy ? 'Working …' : submit}
          </button>
        </div>
      </form>
    </Dialog>
  )
}
