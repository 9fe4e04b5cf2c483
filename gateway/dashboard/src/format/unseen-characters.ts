import { visibleText } from '@copal/shared/visible-text.ts'

/** Attributes that people see or hear. */
const TEXT_ATTRIBUTES = ['title', 'aria-label', 'alt', 'placeholder', 'label']

/** Replaces characters that are not seen but change what is by `�`, in the texts and attributes of an element. */
export function replaceUnseen(props: Record<string, unknown>): void {
  for (const name of ['children', ...TEXT_ATTRIBUTES]) if (name in props) props[name] = visible(props[name])
}

function visible(value: unknown): unknown {
  if (typeof value === 'string') return visibleText(value, '\ufffd', { lines: true })
  return Array.isArray(value) ? value.map(visible) : value
}
