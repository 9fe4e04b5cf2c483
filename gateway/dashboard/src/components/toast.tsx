/** Short messages at the foot of the page that confirm actions. */
import { createContext, type ComponentChildren } from 'preact'
import { useCallback, useContext, useRef, useState } from 'preact/hooks'

type Toast = { id: number; text: string; tone: 'plain' | 'harm' }

const ToastContext = createContext<((text: string, tone?: Toast['tone']) => void) | undefined>(undefined)
const SHOWN_MS = 8_000

/** Provides {@link useToast} to its children, and shows the messages. */
export function ToastProvider({ children }: { children: ComponentChildren }) {
  const [toasts, setToasts] = useState<readonly Toast[]>([])
  const last = useRef(0)
  const remove = useCallback((id: number) => setToasts((all) => all.filter((toast) => toast.id !== id)), [])
  const add = useCallback(
    (text: string, tone: Toast['tone'] = 'plain') => {
      const id = ++last.current
      setToasts((all) => [...all.slice(-2), { id, text, tone }])
      setTimeout(() => remove(id), SHOWN_MS)
    },
    [remove],
  )
  return (
    <ToastContext.Provider value={add}>
      {children}
      <div class="toasts" role="status" aria-live="polite">
        {toasts.map(({ id, text, tone }) => (
          <p key={id} class={`toast toast-${tone}`}>
            {tone === 'harm' && <span aria-hidden="true">▲ </span>}
            {text}
            <button type="button" class="link" onClick={() => remove(id)} aria-label="Dismiss">
              ×
            </button>
          </p>
        ))}
      </div>
    </ToastContext.Provider>
  )
}

/** A function that shows a message for a few seconds. */
export function useToast(): (text: string, tone?: Toast['tone']) => void {
  const add = useContext(ToastContext)
  if (!add) throw new Error('useToast is called outside of ToastProvider.')
  return add
}
